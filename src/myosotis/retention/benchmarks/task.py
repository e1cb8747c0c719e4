"""A suite that is ready to be asked: tasks, their items, and the frozen requests of each.

What belongs here: the shapes. Building them from lm-eval is in `build.py`, asking a model in
`measure.py`. Nothing here changes once built, so that the base model, every checkpoint and the
tuned model answer the same requests, and a slice of a suite asks what the whole asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from myosotis.retention.benchmarks.requests import (
    ROLLING,
    WRITTEN,
    Answer,
    Prompt,
    Request,
    RequestTrees,
)

Half = Literal["selection", "report"]
Kind = Literal["multiple_choice", "loglikelihood", "loglikelihood_rolling", "generate_until"]

Judge = Callable[[Sequence[Answer]], dict[str, Any]]
"""An item's own scoring (lm-eval's `process_results`): answers to metrics by name."""


PRIMARY = ("acc_norm", "acc", "exact_match", "acc_mutual_info", "acc_bytes")
"""The metric a verdict rests on is the first of these that lm-eval reports for the task: length-
normalised accuracy where choices differ in length (HellaSwag, ARC, PIQA, OpenBookQA: the
convention of the Open LLM Leaderboard), plain accuracy elsewhere (MMLU, WinoGrande, BLiMP)."""

_PASSAGES = ("passage", "article", "paragraph", "story")
"""Columns of a text that several questions may share."""


@dataclass(frozen=True)
class Item:
    """One question and all that is asked of the model for it.

    `lengths` are the characters by which a choice's log-prob is normalised, as in lm-eval's
    acc_norm (of the text that is scored where all choices end alike); `num_bytes` those of the
    scored text. `gold` lists every right choice; it is empty where there are no choices.
    """

    task: str
    id: str  # stable: the row's number in its data set, and a hash of the row
    member: str  # lm-eval's task, where `task` is a group
    cluster: str | None  # what it shares with other items: a subject, a passage
    half: Half  # `selection` chooses checkpoints and settings, `report` is what is claimed
    prompt: str
    choices: tuple[str, ...]
    gold: tuple[int, ...]
    lengths: tuple[int, ...]
    num_bytes: tuple[int, ...]
    requests: tuple[Request, ...]
    judge: Judge = field(repr=False, compare=False)
    question: str = ""  # with its right answer, and without solved examples or a chat template
    stratum: int = -1  # see `sampling_design.py`; -1: all items are drawn alike

    @property
    def num_trees(self) -> int:
        """How many trees its requests become (`RequestTrees`)."""
        windows = [len(r.windows) for r in self.requests if r.kind == ROLLING]
        together = any(r.windows for r in self.requests if r.kind != ROLLING)
        return sum(windows) + together


SHARES = ("exact_match", "acc", "em", "prompt_level_strict_acc", "prompt_level_loose_acc")
"""Metrics of written answers that are a share of right ones."""

CORPUS_ONLY = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte", "likelihood")
"""Metrics of lm-eval whose value for one item is raw material, not a score."""


@dataclass(frozen=True)
class Task:
    """One row of a retention table: a benchmark, or a group of them pooled.

    Verdicts rest on `metric`: acc_norm where lm-eval reports it for the task, otherwise acc,
    bits_per_byte for whole texts. `chance` is the score of guessing, None where there is none.
    """

    name: str
    kind: Kind
    metric: str
    higher_is_better: bool
    chance: float | None
    version: str  # of the task, and of the lm-eval that defines it
    source: str  # where the data were found
    substitution: str  # which split stands in for an absent one; empty: none
    num_fewshot: int
    chat_template: bool
    population: int  # items the benchmark has; `items` may be a seeded part of them
    items: tuple[Item, ...]
    aggregations: dict[str, Callable[[list[Any]], float]] = field(repr=False, compare=False)
    shares: tuple[float, ...] = ()  # of each stratum; empty: all items are drawn alike

    @property
    def accuracy_like(self) -> bool:
        """Whether the metric is a share of right answers, which a mean over tasks may include."""
        if self.kind == WRITTEN:
            return self.higher_is_better and self.metric in SHARES
        return self.kind != ROLLING and self.higher_is_better

    @cached_property
    def request_trees(self) -> RequestTrees:
        """The trees to be scored."""
        return RequestTrees.of(self.items)

    @cached_property
    def items_hash(self) -> str:
        """Which items, by row number and content."""
        return digest(item.id for item in self.items)

    @cached_property
    def requests_hash(self) -> str:
        """Everything the model is asked: the rendered text and its tokens."""
        return digest(
            json.dumps([r.kind, r.text, r.prompt or r.windows])
            for item in self.items
            for r in item.requests
        )

    def identity(self) -> dict[str, Any]:
        """What must be equal for two measurements of this task to be comparable."""
        return {
            "task": self.name,
            "version": self.version,
            "metric": self.metric,
            "source": self.source,
            "substitution": self.substitution,
            "num_fewshot": self.num_fewshot,
            "chat_template": self.chat_template,
            "items": [item.id for item in self.items],
            "items_of": self.population,
            "requests": self.requests_hash,
            **({"strata": [item.stratum for item in self.items]} if self.shares else {}),
        }


@dataclass(frozen=True)
class Suite:
    """The tasks of a run. `seed` chose the items and their halves."""

    tasks: tuple[Task, ...]
    seed: int
    tokenizer: str  # hash, see `requests.tokenizer_hash`

    def __iter__(self) -> Iterator[Task]:
        return iter(self.tasks)

    def __getitem__(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)

    @property
    def items(self) -> list[Item]:
        """Every item, task by task."""
        return [item for task in self.tasks for item in task.items]

    @cached_property
    def request_trees(self) -> RequestTrees:
        """The trees to be scored."""
        return RequestTrees.together([task.request_trees for task in self.tasks])

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The prompts to be gone on from, item by item."""
        return [r.prompt for item in self.items for r in item.requests if r.prompt is not None]

    @property
    def size(self) -> int:
        """Trees and prompts: what progress counts."""
        return sum(item.num_trees for item in self.items) + len(self.prompts)

    @cached_property
    def hash(self) -> str:
        """Equal for suites that ask the same of a model."""
        return digest(f"{task.name} {task.requests_hash}" for task in self.tasks)

    def identity(self) -> dict[str, Any]:
        """For the run record: each task's identity, the seed and the hash of it all."""
        tasks = [task.identity() for task in self.tasks]
        return {"seed": self.seed, "hash": self.hash, "tokenizer": self.tokenizer, "tasks": tasks}

    def where(self, wanted: Callable[[Item], bool]) -> Suite:
        """The same suite with only the wanted items; requests stay as they were built."""
        kept = [
            replace(task, items=tuple(item for item in task.items if wanted(item)))
            for task in self.tasks
        ]
        return replace(self, tasks=tuple(task for task in kept if task.items))

    def half(self, half: Half) -> Suite:
        """The items that choose, or those that are reported."""
        return self.where(lambda item: item.half == half)

    def only(self, names: Iterable[str]) -> Suite:
        """Some of the tasks."""
        wanted = set(names)
        return replace(self, tasks=tuple(task for task in self.tasks if task.name in wanted))


def digest(parts: Iterable[str]) -> str:
    """sha256 of some texts in their order."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part.encode())
        sha.update(b"\0")
    return sha.hexdigest()


def fingerprint(content: Any) -> str:
    """A short hash of a row, by which it is known again if the data set is reordered."""
    text = json.dumps(content, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:10]


def passage(doc: Any) -> str | None:
    """What tells the text that a row asks about from others; None where it has none."""
    for column in _PASSAGES:
        if isinstance(doc, dict) and isinstance(doc.get(column), str) and doc[column]:
            return fingerprint(doc[column])
    return None
