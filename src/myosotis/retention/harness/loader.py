"""lm-eval's tasks, loaded by name with the data at hand.

What belongs here: building lm-eval's own task objects without indexing its 14,000 files, and
handing them their data (`data.py`). What is asked and how it is scored stays lm-eval's
business.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.group import Group
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Entry, Kind, TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from myosotis.retention.harness.data import DataLocator
from myosotis.retention.harness.splits import substitute
from myosotis.retention.harness.task_index import TaskFiles, catalogue
from myosotis.utils.errors import ConfigError, DataError, MyosotisError

_loading = threading.Lock()


@dataclass(frozen=True)
class Loaded:
    """One lm-eval task with its data. `group` is the group it was asked for by, if any."""

    name: str
    group: str | None
    harness: Any  # lm_eval.api.task.Task
    source: str  # where its data were found
    scored_note: str  # in words, when another split stands in; empty otherwise
    example_note: str  # the same for the split few-shot examples are taken from

    @property
    def version(self) -> str:
        return str(self.harness.VERSION)


def load(name: str, shelf: DataLocator) -> list[Loaded]:
    """The tasks behind one name of `retention.suite`: itself, or the members of a group or tag.

    `name` may also be the path of an lm-eval task file. Raises `ConfigError` for an unknown name,
    `DataError` when the data are not at hand.
    """
    known = catalogue()
    index: dict[str, Entry] = {}
    if name.endswith((".yaml", ".yml")):
        name = _enter_file(Path(name).expanduser(), known, index)
    else:
        _enter(name, known, index)
    with _loading, _quiet():
        built = _build(name, index, shelf)
    if isinstance(built, Group):
        return [_loaded(task, name) for task in built.get_all_tasks()]
    if isinstance(built, list):
        return [_loaded(task, None) for task in built]
    return [_loaded(built, None)]


# ---------------------------------------------------------------------------- what a name means


def _enter(name: str, known: TaskFiles, index: dict[str, Entry]) -> None:
    """Put `name`, and all it is made of, into the index that lm-eval builds from."""
    if name in index:
        return
    path = known.file(name)
    if path is None:
        if name not in known.tags:
            raise known.unknown(name)
        index[name] = Entry(name=name, kind=Kind.TAG, yaml_path=None, tags=set(known.tags[name]))
        for member in known.tags[name]:
            _enter(member, known, index)
        return
    _enter_config(name, load_yaml(path, resolve_func=False), path, known, index)


def _enter_config(
    name: str, config: dict[str, Any], path: Path, known: TaskFiles, index: dict[str, Entry]
) -> None:
    alone: dict[str, Entry] = {}  # lm-eval would register the task's tags as well, half filled
    TaskIndex.process_cfg(config, path, alone)
    index[name] = alone[name]
    _enter_members(config.get("task"), known, index)


def _enter_members(members: object, known: TaskFiles, index: dict[str, Entry]) -> None:
    """A group's `task:` list: names, or tasks and groups spelled out in place."""
    for member in members if isinstance(members, list) else []:
        inner = member.get("group") or member.get("task") if isinstance(member, dict) else member
        if isinstance(member, dict) and isinstance(member.get("task"), list):
            _enter_members(member["task"], known, index)
        if isinstance(inner, str) and inner in known:
            _enter(inner, known, index)


def _enter_file(path: Path, known: TaskFiles, index: dict[str, Entry]) -> str:
    if not path.is_file():
        raise ConfigError(f"retention.suite: there is no task file {path}.")
    config = load_yaml(path, resolve_func=False)
    name = config.get("group") or config.get("task")
    if not isinstance(name, str):
        raise ConfigError(f"{path} defines no lm-eval task: it has neither `task` nor `group`.")
    _enter_config(name, config, path.resolve(), known, index)
    return name


# ---------------------------------------------------------------------------- building


def _build(name: str, index: dict[str, Entry], shelf: DataLocator) -> Any:
    groups = tuple(n for n, e in index.items() if e.kind in (Kind.GROUP, Kind.TAG))
    with _data_from(shelf, groups):
        try:
            return TaskFactory().build(index[name], registry=index)
        except MyosotisError:
            raise
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"The benchmark {name!r} needs the Python package {error.name!r}.",
                f"pip install {_extra(name) or error.name}",
            ) from error
        except Exception as error:  # a task's own code, run on data it was not written for
            raise DataError(
                f"lm-eval could not set up the benchmark {name!r}: "
                f"{type(error).__name__}: {str(error)[:300]}",
                "Its data may have other columns or splits than the task expects.",
            ) from error


def _extra(name: str) -> str:
    """The extra of lm-eval that has a benchmark's packages, as pip takes it: named alike."""
    extras = importlib.metadata.metadata("lm-eval").get_all("Provides-Extra") or []
    found = [extra for extra in extras if name.split("_")[0] == extra]
    return f"'lm-eval[{found[0]}]'" if found else ""


def _loaded(harness: Any, group: str | None) -> Loaded:
    name = harness.task_name
    if (harness.get_config("repeats") or 1) > 1:
        raise ConfigError(
            f"retention.suite: {name!r} asks each question {harness.get_config('repeats')} times, "
            "for answers that are sampled.",
            "Choose a task that asks once.",
        )
    if getattr(harness, "MULTIMODAL", False) or getattr(harness, "UNSAFE_CODE", False):
        raise ConfigError(f"retention.suite: {name!r} needs images, sound or running model output.")
    notes = getattr(harness, "myosotis_notes", _Notes())
    return Loaded(name, group, harness, notes.source, notes.scored, notes.examples)


def judged_text(harness: Any, doc: Any, said: str) -> dict[str, Any]:
    """lm-eval's verdict on a written answer, and whether there was one to read.

    The metrics are those of the task's first filter; a further one's are named `metric,filter`.
    """
    found: dict[str, Any] = {}
    for number, ensemble in enumerate(harness._filters):
        instance = Instance("generate_until", doc, (), 0, resps=[said])
        ensemble.apply([instance])
        taken = instance.filtered_resps[ensemble.name]
        verdict = harness.process_results(doc, [taken])
        if number == 0:
            nothing = [getattr(make(), "fallback", None) for make in ensemble.filters]
            found |= verdict | {"answered": float(bool(taken) and taken not in nothing)}
        else:
            found |= {f"{metric},{ensemble.name}": value for metric, value in verdict.items()}
    return found


@dataclass
class _Notes:
    """What was done while one task was loaded; kept on the task object."""

    source: str = "made by the task itself"
    scored: str = ""
    examples: str = ""


@contextlib.contextmanager
def _data_from(shelf: DataLocator, groups: tuple[str, ...]) -> Iterator[None]:
    """While tasks are built, `load_dataset` looks on the shelf and absent splits are stood in for.

    lm-eval calls `datasets.load_dataset` by that name, from its own code and from its tasks', in
    `download`: hence the two patches, taken back at the end.
    """
    from_hub, download = datasets.load_dataset, ConfigurableTask.download
    current: list[tuple[str, _Notes]] = []

    def load_dataset(
        path: str, name: str | None = None, split: str | None = None, **kwargs: Any
    ) -> Any:
        task, notes = current[-1] if current else (path, _Notes())
        found = shelf.find(
            task, groups, path, name, lambda: from_hub(path=path, name=name, **kwargs)
        )
        notes.source = found.source
        return found.splits if split is None else found.splits[split]

    def download_and_substitute(self: Any, *args: Any, **kwargs: Any) -> None:
        notes = self.myosotis_notes = _Notes()
        current.append((self.task_name, notes))
        try:
            download(self, *args, **kwargs)
        finally:
            current.pop()
        _process_once(self)
        if isinstance(self.dataset, Mapping):
            notes.scored, notes.examples = substitute(
                self.config, self.fewshot_cfg, set(self.dataset)
            )

    datasets.load_dataset = load_dataset
    ConfigurableTask.download = download_and_substitute
    try:
        yield
    finally:
        datasets.load_dataset = from_hub
        ConfigurableTask.download = download


def _process_once(harness: Any) -> None:
    """lm-eval runs `process_docs` each time it looks at a split: remember the result."""
    process = harness.config.process_docs
    if process is None:
        return
    done: dict[int, tuple[Any, Any]] = {}  # the split itself is kept, or its id could be reused

    def processed(rows: Any) -> Any:
        if id(rows) not in done:
            done[id(rows)] = rows, process(rows)
        return done[id(rows)][1]

    harness.config.process_docs = processed
    if harness.fewshot_cfg.process_docs is process:
        harness.fewshot_cfg.process_docs = processed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval warns about its own defaults, datasets draws bars for every file: not news here."""
    log = logging.getLogger("lm_eval")
    level, bars = log.level, datasets.are_progress_bars_disabled()
    log.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        log.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
