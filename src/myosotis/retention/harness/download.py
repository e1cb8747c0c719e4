"""While lm-eval builds a task: its rows from a `DataLocator`, a stand-in for a split not at hand.

What belongs here: the one place where lm-eval is not used but changed. A task fetches its rows in
its constructor, in `ConfigurableTask.download`, and goes on to read them; lm-eval has no way to
hand them in. So that method is wrapped while tasks are built, and within it the `load_dataset` that
its own code, or a task's `custom_dataset`, calls: in the modules of that code only, for this thread
only, and always put back. `datasets` itself stays as it is.
"""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import datasets
from lm_eval.api.task import ConfigurableTask

from myosotis.retention.harness.data import DataLocator
from myosotis.retention.harness.splits import substitute


@dataclass
class Notes:
    """What was done while one task was loaded; kept on the task object as `myosotis_notes`."""

    source: str = "made by the task itself"
    scored: str = ""
    examples: str = ""


@contextlib.contextmanager
def data_from(locator: DataLocator, groups: tuple[str, ...]) -> Iterator[None]:
    """Tasks that this thread builds in here have their rows from `locator`.

    `groups` are further names that the data of any of them may be found under. One thread at a time
    may be in here; `loader.load` holds a lock.
    """
    thread, download = threading.get_ident(), ConfigurableTask.download

    def located(self: Any, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() != thread:
            download(self, *args, **kwargs)
            return
        notes = self.myosotis_notes = Notes()

        def load_dataset(
            path: str, name: str | None = None, split: str | None = None, **options: Any
        ) -> Any:
            def from_hub() -> Any:
                return datasets.load_dataset(path=path, name=name, **options)

            data = locator.find(self.task_name, groups, path, name, from_hub)
            notes.source = data.source
            return data.splits if split is None else data.splits[split]

        with contextlib.ExitStack() as fetching:
            for namespace in _where_it_is_fetched(download, self.config.custom_dataset):
                fetching.enter_context(_calling(load_dataset, namespace, thread))
            download(self, *args, **kwargs)
        _process_once(self)
        if isinstance(self.dataset, Mapping):
            notes.scored, notes.examples = substitute(
                self.config, self.fewshot_cfg, set(self.dataset)
            )

    ConfigurableTask.download = located
    try:
        yield
    finally:
        ConfigurableTask.download = download


def _where_it_is_fetched(*functions: Any) -> list[dict[str, Any]]:
    """The modules of some functions, as dicts of their names; each once."""
    modules = [getattr(function, "__globals__", None) for function in functions]
    return list({id(module): module for module in modules if module is not None}.values())


@contextlib.contextmanager
def _calling(
    load_dataset: Callable[..., Any], namespace: dict[str, Any], thread: int
) -> Iterator[None]:
    """In one module, `datasets.load_dataset` and an imported `load_dataset` are another for now."""
    real = datasets.load_dataset

    def for_this_thread(*args: Any, **kwargs: Any) -> Any:
        here = threading.get_ident() == thread
        return load_dataset(*args, **kwargs) if here else real(*args, **kwargs)

    stand_in = types.ModuleType("datasets")
    stand_in.__dict__.update(datasets.__dict__, load_dataset=for_this_thread)
    replaced = {"datasets": (datasets, stand_in), "load_dataset": (real, for_this_thread)}
    before = {name: old for name, (old, _) in replaced.items() if namespace.get(name) is old}
    namespace.update({name: replaced[name][1] for name in before})
    try:
        yield
    finally:
        namespace.update(before)


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
