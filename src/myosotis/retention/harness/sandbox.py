"""Task files that are not lm-eval's own: what of them is data, and what needs the user's word.

A definition can name Python (`!function`, `class`), have packages or scripts loaded by name
(`metric` outside lm-eval's registry goes to `evaluate.load`), and write Jinja that reaches the
interpreter. What belongs here: finding the first kinds before lm-eval reads the file, and rendering
all of lm-eval's templates in Jinja's sandbox. lm-eval's installed definitions are code the user has
installed, and are not asked about.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import lm_eval.api.metrics  # pyright: ignore[reportUnusedImport]  # fills the registry
import lm_eval.utils
import yaml
from jinja2 import BaseLoader, StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval.api.registry import metric_registry

from myosotis.utils import trust
from myosotis.utils.bounded import rendered
from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import line
from myosotis.utils.read_file import read_yaml

TEMPLATES = 512  # that are kept compiled; a suite has some tens
INCLUDES = 64  # of one task file: a chain or a fan of more is no task


def admit(path: Path) -> None:
    """Refuse a task file whose definition would run code, unless the user trusts it.

    Raises `ConfigError`, also for a file that is no definition.
    """
    wishes = [] if trust.allowed(path) else list(_wishes(path))
    trust.require(f"The task file {path}", wishes, "it and the files it names")


def install() -> None:
    """lm-eval renders templates with the module's `env`; from now on that is a sandbox."""
    old = lm_eval.utils.env
    if isinstance(old, ImmutableSandboxedEnvironment):
        return
    sandbox = Sandbox(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    sandbox.filters |= {k: v for k, v in old.filters.items() if k not in sandbox.filters}
    lm_eval.utils.env = sandbox


class _Bounded(Template):
    """A template that ends: see `utils/bounded.py`."""

    def render(self, *args: Any, **words: Any) -> str:
        return rendered(partial(super().render, *args, **words))


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with bounds on time and memory.

    lm-eval compiles a template for every document anew; here each is compiled once.
    """

    template_class = _Bounded

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        self._compiled = lru_cache(TEMPLATES)(super().from_string)

    def from_string(self, source: Any, globals: Any = None, template_class: Any = None) -> Template:
        if globals is None and template_class is None and isinstance(source, str):
            return self._compiled(source)
        return super().from_string(source, globals, template_class)


class _Call:
    """What a tag stands for: its name and the text it is put on."""

    def __init__(self, tag: str, text: str) -> None:
        self.tag, self.text = tag, text


class _Reader(yaml.SafeLoader):
    """YAML as data: a tag is kept, and nothing is made of it."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> _Call:
    return _Call(suffix, str(getattr(node, "value", "")))


_Reader.add_multi_constructor("", _tagged)


def _wishes(path: Path) -> Iterator[str]:
    """What the definition, and what it includes, would run."""
    waiting, seen = [path.resolve()], set[Path]()
    while waiting:
        file = waiting.pop()
        if file in seen or _is_lm_evals(file):
            continue
        seen.add(file)
        if len(seen) > INCLUDES:
            raise ConfigError(f"The task file {path} includes more than {INCLUDES} files.")
        definition = _read(file)
        included = definition.get("include") or []
        names = included if isinstance(included, list) else [included]
        waiting += [(file.parent / str(name)).resolve() for name in names]
        yield from _code_in(definition, file.name)


def _read(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise ConfigError(f"retention.suite: there is no task file {path}.")
        definition = yaml.load(read_yaml(path), Loader=_Reader)
    except (OSError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"The task file {path} cannot be read: {line(error)[:300]}") from None
    if not isinstance(definition, dict):
        raise ConfigError(f"The task file {path} is no mapping of keys: it defines no task.")
    return definition


def _is_lm_evals(path: Path) -> bool:
    spec = importlib.util.find_spec("lm_eval")
    assert spec is not None and spec.origin is not None
    return path.is_relative_to((Path(spec.origin).parent / "tasks").resolve())


def _code_in(definition: dict[str, Any], name: str) -> Iterator[str]:
    """Each way in which a definition runs more than lm-eval itself."""
    for key, value in _leaves(definition, ""):
        last = key.rpartition(".")[2]
        if isinstance(value, _Call):
            yield f"{name}: {key} is {line(value.tag)} {line(value.text)[:80]}"
        elif last == "class":
            yield f"{name}: {key} names a class"
        elif last in ("trust_remote_code", "hf_evaluate") and value is not False:
            yield f"{name}: {key} loads a script"
        elif last == "metric" and not _known_metric(value):
            yield f"{name}: {key} is {line(value)[:80]}, which lm-eval would load as a script"
        elif last == "use_prompt" and value is not None:
            yield f"{name}: {key} is {line(value)[:80]}, which is loaded from elsewhere"
        elif last == "dataset_path" and str(value).endswith(".py"):
            yield f"{name}: {key} is a script"


def _known_metric(name: object) -> bool:
    return isinstance(name, str) and name in metric_registry


def _leaves(node: Any, where: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    if depth > INCLUDES:
        raise ConfigError(f"A task definition is nested too deep, at {where[:80]}.")
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, f"{where}.{key}" if where else str(key), depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, where, depth + 1)
    else:
        yield where, node
