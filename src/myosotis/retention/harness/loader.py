"""lm-eval's tasks, loaded by name with the data at hand.

What belongs here: building lm-eval's own task objects without indexing its 14,000 files. Where
their data come from is in `download.py`; what is asked and how it is scored stays lm-eval's
business. tests/retention/harness/test_contract.py names what is relied on.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import itertools
import json
import logging
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from myosotis.retention.harness import sandbox
from myosotis.retention.harness.data import DataLocator
from myosotis.retention.harness.download import Notes, data_from
from myosotis.retention.harness.task_index import TaskFiles, task_files
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


def load(name: str, locator: DataLocator) -> list[Loaded]:
    """The tasks behind one name of `retention.suite`: itself, or the members of a group or tag.

    `name` may also be the path of an lm-eval task file. Raises `ConfigError` for an unknown name,
    `DataError` when the data are not at hand.
    """
    sandbox.install()
    if name.endswith((".yaml", ".yml")):
        sandbox.admit(Path(name).expanduser())
    with _loading, _quiet(), tempfile.TemporaryDirectory(prefix="myosotis-tasks-") as folder:
        definitions = _Definitions(Path(folder), task_files())
        if name.endswith((".yaml", ".yml")):
            name = definitions.add_file(Path(name).expanduser())
        else:
            definitions.add(name)
        return _build(name, definitions, locator)


# ---------------------------------------------------------------------------- what a name means


class _Definitions:
    """A folder for `TaskManager` to index: one-line files that include the definitions needed.

    `TaskManager()` indexes all of lm-eval's folder, which takes 10 s; `include_path` takes other
    folders, and `include:` in a definition a file anywhere.
    """

    def __init__(self, folder: Path, known: TaskFiles) -> None:
        self.folder = folder
        self.known = known
        self.groups: list[str] = []  # groups and tags, in the order met
        self._names = set[str]()
        self._numbers = itertools.count()

    def add(self, name: str) -> None:
        """Include what defines `name`, and all it is made of. Raises `ConfigError` if nothing."""
        if name in self._names:
            return
        self._names.add(name)
        path = self.known.file(name)
        if path is None and name not in self.known.tags:
            raise self.known.unknown(name)
        if path is None:
            self.groups.append(name)
            for member in self.known.tags[name]:
                self.add(member)
            return
        line = self._include(path)
        if name in self.known.groups:
            self.groups.append(name)
            config = TaskManager(include_path=line, include_defaults=False).task_index[name].cfg
            self._add_members((config or {}).get("task"))

    def add_file(self, path: Path) -> str:
        """Include a definition of the user's; the name it defines."""
        if not path.is_file():
            raise ConfigError(f"retention.suite: there is no task file {path}.")
        manager = TaskManager(include_path=self._include(path), include_defaults=False)
        for name, entry in manager.task_index.items():
            if entry.yaml_path is not None and entry.cfg is not None and isinstance(name, str):
                self._names.add(name)
                if "group" in entry.cfg and "class" not in entry.cfg:
                    self.groups.append(name)
                self._add_members(entry.cfg.get("task"))
                return name
        raise ConfigError(
            f"{path} defines no lm-eval task ({_reason(manager, path)}).",
            "It has to be YAML with a `task` or a `group`, as lm-eval's own are.",
        )

    def _include(self, path: Path) -> Path:
        """The folder of a new line; numbered, because of two with one name the first counts."""
        folder = self.folder / f"{next(self._numbers):05}"
        folder.mkdir()
        (folder / "include.yaml").write_text(json.dumps({"include": str(path.resolve())}), "utf-8")
        return folder

    def _add_members(self, members: object) -> None:
        """A group's `task:` list: names, or tasks and groups spelled out in place."""
        for member in members if isinstance(members, list) else []:
            inner = (
                member.get("group") or member.get("task") if isinstance(member, dict) else member
            )
            if isinstance(member, dict) and isinstance(member.get("task"), list):
                self._add_members(member["task"])
            if isinstance(inner, str) and inner in self.known:
                self.add(inner)


def _reason(manager: TaskManager, path: Path) -> str:
    """Why lm-eval passed a file over: the index says nothing, loading the file by its path does."""
    try:
        manager.load(str(path))
    except Exception as error:  # noqa: BLE001  (whatever YAML and lm-eval raise)
        return " ".join(str(error).split())[:200]
    return "it has neither `task` nor `group`"


# ---------------------------------------------------------------------------- building


def _build(name: str, definitions: _Definitions, locator: DataLocator) -> list[Loaded]:
    tags = definitions.known.tags
    asked = sorted(tags[name]) if name in tags and name in definitions.groups else [name]
    with data_from(locator, tuple(definitions.groups)):
        try:
            manager = TaskManager(include_path=definitions.folder, include_defaults=False)
            built = manager.load(asked)
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
    group = built.get("groups", {}).get(name)
    if group is not None:
        return [_loaded(task, name) for task in group.get_all_tasks()]
    return [_loaded(task, None) for task in built["tasks"].values()]


def _extra(name: str) -> str:
    """The extra of lm-eval that has a benchmark's packages, as pip takes it: named alike."""
    extras = importlib.metadata.metadata("lm-eval").get_all("Provides-Extra") or []
    named = [extra for extra in extras if name.split("_")[0] == extra]
    return f"'lm-eval[{named[0]}]'" if named else ""


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
    notes = getattr(harness, "myosotis_notes", Notes())
    return Loaded(name, group, harness, notes.source, notes.scored, notes.examples)


def is_configured(harness: Any) -> bool:
    """Whether a task is what its definition says, and no program of its own."""
    return type(harness) is ConfigurableTask


def judged_text(harness: Any, doc: Any, said: str) -> dict[str, Any]:
    """lm-eval's verdict on a written answer, and whether there was one to read.

    The metrics are those of the task's first filter; a further one's are named `metric,filter`.
    """
    metrics: dict[str, Any] = {}
    for number, ensemble in enumerate(harness._filters):
        instance = Instance("generate_until", doc, (), 0, resps=[said])
        ensemble.apply([instance])
        taken = instance.filtered_resps[ensemble.name]
        verdict = harness.process_results(doc, [taken])
        if number == 0:
            nothing = [getattr(make(), "fallback", None) for make in ensemble.filters]
            metrics |= verdict | {"answered": float(bool(taken) and taken not in nothing)}
        else:
            metrics |= {f"{metric},{ensemble.name}": value for metric, value in verdict.items()}
    return metrics


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
