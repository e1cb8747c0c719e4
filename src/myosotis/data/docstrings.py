"""The docstrings task: functions of installed packages and the first sentence of their docstrings.

The source of a function without its docstring is the prompt, the first sentence the answer. Files
are parsed, never imported. Which pairs come out depends on what is installed, so the versions are
part of the manifest and of the cache's key.

Left out: tests and vendored code, what functions.py refuses, and any function whose source (its
name aside) or sentence is already in: numeric libraries copy much of their code.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from myosotis.data import functions
from myosotis.utils.atomic_write import write_text
from myosotis.utils.errors import DataError

# All come with myosotis itself. What is held out shares neither code nor subject with the rest.
PACKAGES = ("torch", "transformers", "sympy", "scipy", "pandas", "sklearn", "numpy", "mlflow")
PACKAGES += ("sqlalchemy", "datasets", "huggingface_hub", "lm_eval", "peft", "lightning")
PACKAGES += ("torchmetrics", "pydantic", "fontTools", "narwhals", "aiohttp", "alembic", "graphql")
VAL_PACKAGES = ("matplotlib", "fsspec", "rich")
TEST_PACKAGES = ("networkx", "nltk", "werkzeug")

# Where it is not the package's own name.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "graphql": "graphql-core"}
SKIPPED_FOLDERS = {"tests", "test", "testing", "_vendor", "_vendored", "externals", "__pycache__"}
# Copies of one another, compiler internals, generated code.
SKIPPED = ("transformers/models/", "torch/_", "torch/onnx/", "mlflow/protos/")
PROMPT = "Write a one-sentence docstring for this Python function.\n\n```python\n{source}\n```"


@dataclass(frozen=True, slots=True)
class Pair:
    """One function; `where` is `package/path.py:line`."""

    package: str
    where: str
    source: str
    sentence: str


@dataclass(frozen=True)
class Harvest:
    pairs: list[Pair]
    manifest: dict[str, Any]


def prompt(source: str) -> str:
    """What the model is asked."""
    return PROMPT.format(source=source)


def load(packages: Sequence[str], *, max_source_chars: int, cache: Path | None = None) -> Harvest:
    """The pairs of these packages, those not installed left out; harvested once, then cached.

    A pair that two packages share belongs to the one named first. `cache` is a folder of harvests;
    the file's name is a hash of the versions, the settings and this code.
    """
    versions = {package: version for package in packages if (version := _version(package))}
    if not versions:
        raise DataError(f"docstrings: none of {', '.join(packages)} is installed")
    settings: dict[str, Any] = {"versions": versions, "max_source_chars": max_source_chars}
    # The grammar of this Python decides which files parse.
    code = [Path(module).read_bytes() for module in (__file__, functions.__file__)]
    text = json.dumps([settings, sys.version_info[:2]]).encode()
    key = hashlib.sha256(b"".join([text, *code])).hexdigest()[:16]
    file = (cache or _cache()) / f"{key}.jsonl"
    pairs = _read(file)
    if pairs is None:
        pairs = harvest(list(versions), max_source_chars=max_source_chars)
        _write(file, pairs)
    counts = dict.fromkeys(versions, 0)
    for pair in pairs:
        counts[pair.package] += 1
    return Harvest(pairs, {**settings, "pairs": counts})


def harvest(packages: Sequence[str], *, max_source_chars: int) -> list[Pair]:
    """Parse the packages' files, in the order of their names and lines."""
    # The parser makes millions of small objects that are soon gone, and no cycles: without the
    # collector it takes half the time.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _harvest(packages, max_source_chars)
    finally:
        if collecting:
            gc.enable()


def _harvest(packages: Sequence[str], max_source_chars: int) -> list[Pair]:
    from myosotis.utils.console import progress

    files = [(package, file) for package in packages for file in _files(package)]
    seen: set[str] = set()
    pairs: list[Pair] = []
    with progress("harvesting docstrings", len(files)) as advance:
        for package, (folder, file) in files:
            for line, source, sentence in functions.documented(_text(file), max_source_chars):
                keys = functions.identity(source), sentence.casefold()
                if seen.isdisjoint(keys):
                    seen.update(keys)
                    where = f"{file.relative_to(folder).as_posix()}:{line}"
                    pairs.append(Pair(package, where, source, sentence))
            advance()
    return pairs


# Files.


def _version(package: str) -> str | None:
    """The version of an installed package, None when there is none."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(package, package))
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _files(package: str) -> Iterator[tuple[Path, Path]]:
    """The folder that holds the package, and each of its files."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    root = Path(spec.origin).parent
    for file in sorted(root.rglob("*.py")):
        inside = file.relative_to(root.parent)
        if SKIPPED_FOLDERS.isdisjoint(inside.parts) and not inside.as_posix().startswith(SKIPPED):
            yield root.parent, file


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _cache() -> Path:
    from myosotis.models.wheels import cache_dir

    return cache_dir() / "docstrings"


def _read(file: Path) -> list[Pair] | None:
    """The cached pairs; None when there are none, or the file is damaged (its hash differs)."""
    try:
        digest, _, rows = file.read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    if digest != hashlib.sha256(rows.encode()).hexdigest():
        return None
    return [Pair(*json.loads(row)) for row in rows.splitlines()]


def _write(file: Path, pairs: list[Pair]) -> None:
    """Whole or not at all: another process may read it at any time."""
    rows = "".join(json.dumps(astuple(pair)) + "\n" for pair in pairs)
    digest = hashlib.sha256(rows.encode()).hexdigest()
    try:
        write_text(file, f"{digest}\n{rows}")
    except OSError as error:
        warnings.warn(f"the docstrings are not cached in {file.parent}: {error}", stacklevel=2)
