"""The base model's scores, measured once and kept.

What belongs here: the key under which a measurement is kept, made of everything that could change
it, and a store that several processes may use at once. A file that cannot be read is a file that
is not there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from myosotis.models import wheels
from myosotis.retention.benchmarks.measure import TreeScorer, as_drawn, measure
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Suite, Task
from myosotis.trees.scorer import scorer_version
from myosotis.utils.atomic_write import write_bytes
from myosotis.utils.console import console
from myosotis.utils.escape import terminal
from myosotis.utils.one_process import kept

_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class BaselineKey:
    """Everything a measurement of one task depends on; a change in any field is another key."""

    model: str  # content hash of the weights and their configuration
    tokenizer: str  # hash of its rules and chat template
    task: str
    version: str  # of the task and of the lm-eval that defines it
    data: str  # where the rows come from, and which split stands in
    items: str  # hash of which rows, by number and content
    requests: str  # hash of the rendered prompts and their tokens, few-shot examples included
    num_fewshot: int
    template: str  # "chat" or "none"
    dtype: str  # "float32"
    backend: str  # "dense on cpu": what else rounds, see `Scorer.conditions`
    scorer: str  # our scorer, and the libraries that compute

    @classmethod
    def of(cls, suite: Suite, task: Task, *, model: str, dtype: str, backend: str) -> BaselineKey:
        """The key of one task of a suite; `model` is `BaseModel.content_hash`."""
        return cls(
            model=model,
            tokenizer=suite.tokenizer,
            task=task.name,
            version=task.version,
            data=f"{task.source}; {task.substitution}",
            items=task.items_hash,
            requests=task.requests_hash,
            num_fewshot=task.num_fewshot,
            template="chat" if task.chat_template else "none",
            dtype=dtype,
            backend=backend,
            scorer=scorer_version(),
        )

    @property
    def name(self) -> str:
        """The file name: the task for people, the hash for us."""
        content = json.dumps(asdict(self), sort_keys=True).encode()
        readable = "".join(c if c.isalnum() or c in "-_" else "_" for c in self.task)[:60]
        return f"{readable}-{hashlib.sha256(content).hexdigest()[:40]}"


def folder() -> Path:
    """Where baselines are kept; deleting it costs time, nothing else."""
    return wheels.cache_dir() / "baselines"


def cached(key: BaselineKey, compute: Callable[[], Measurement]) -> Measurement:
    """The measurement kept under `key`, made by `compute` when there is none that can be read.

    Of several processes that want it at once one computes, the others wait for it.
    """
    path = folder() / f"{key.name}.scores"
    return kept(path, partial(_read, path), compute, partial(_write, path))


def measured(
    suite: Suite,
    scorer: TreeScorer,
    *,
    model: str,
    dtype: str,
    backend: str,
    advance: Callable[[int], object] | None = None,
) -> Measurement:
    """`measure(suite, scorer)`, task by task from the cache where it is there.

    `model` is the content hash of what `scorer` scores with. `advance` counts the trees and
    prompts of the whole suite, those that need not be asked included.
    """
    tasks = {}
    for task in suite:
        part = suite.only([task.name])
        key = BaselineKey.of(suite, task, model=model, dtype=dtype, backend=backend)
        counted = _Counted(advance)
        found = cached(key, lambda part=part, counted=counted: measure(part, scorer, counted))
        tasks[task.name] = as_drawn(found[task.name], task)
        counted(part.size - counted.done)
    return Measurement(tasks)


class _Counted:
    """Passes progress on, and knows how far it came."""

    def __init__(self, advance: Callable[[int], object] | None) -> None:
        self.advance = advance
        self.done = 0

    def __call__(self, n: int) -> None:
        self.done += n
        if self.advance is not None and n:
            self.advance(n)


def _read(path: Path) -> Measurement | None:
    """The measurement in a file that begins with its sha256; None if it is absent or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    try:
        return Measurement.from_bytes(payload)
    except (ValueError, KeyError, TypeError):  # written by another version
        return None


def _write(path: Path, measurement: Measurement) -> None:
    """In one step. A cache that cannot be written is no reason to lose the measurement."""
    payload = measurement.to_bytes()
    try:
        write_bytes(path, hashlib.sha256(payload).digest() + payload)
    except OSError as error:
        console.print(terminal(f"The base scores could not be kept in {path.parent}: {error}"))
