"""What one model scored on a suite: a number per item and metric, kept, halved, read back.

How the scores come about is in `measure.py`; what two measurements say about each other is in
`retention/statistics/paired.py`.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myosotis.records.schema import FORMER_HALVES
from myosotis.records.verdict import MIN_ITEMS
from myosotis.retention.benchmarks.task import Half
from myosotis.retention.statistics.stratified import Strata

FORMAT_VERSION = 4
"""Of the files that keep a `Measurement`; raised when old ones could not be read, or not compared:
what an item's scores are has changed. What a log-prob depends on is `trees.scorer.SCORER_VERSION`.
"""

FEW_RIGHT = 5
"""Right items below which the base has nothing to lose; see `TaskScores.nothing_to_lose`."""

Floats = NDArray[np.float64]


@dataclass
class TaskScores:
    """One model's scores on one task; `n` items, in the order of the suite.

    `scores[metric]` has one number an item; `weights` are the bytes of each item where a mean over
    items must be a mean over bytes, otherwise ones. `choice` is the choice the metric takes, -1
    without choices. `logp` and `lengths` hold every choice of item i in `offsets[i]:offsets[i+1]`
    (nats, and the characters they are normalised by); `gold` is the first right choice, or -1.
    `texts` are written answers, one an item; empty where nothing is written.
    `stratum` is the stratum of each item and `shares` the share of each stratum in the benchmark,
    where items were drawn at different rates (`sampling_design.py`); otherwise both are empty.
    `aggregates` are lm-eval's own figures over all items (perplexity, f1 ...).
    """

    task: str
    metric: str
    higher_is_better: bool
    accuracy_like: bool
    chance: float | None
    items_of: int
    note: str
    identity: dict[str, Any]
    items: list[str]
    clusters: list[str | None]
    halves: list[str]
    aggregates: dict[str, float]
    scores: dict[str, Floats]
    weights: Floats
    choice: NDArray[np.int64]
    gold: NDArray[np.int64]
    logp: Floats
    lengths: Floats
    offsets: NDArray[np.int64]
    texts: list[str] = field(default_factory=list)
    whole: Sequence[float] | None = None  # of a part: mean and items of all that were asked
    stratum: list[int] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    @property
    def at_chance(self) -> bool:
        """Whether this model is not shown to know anything of the task: it cannot show a loss.

        The score is not above `chance` by the score test at 95 % (its interval's lower end, Wilson
        1927): mean - chance <= 1.96 * sqrt(chance * (1 - chance) / items). Asked of all items, also
        where this is a part of them, so that the halves agree. Of fewer than `MIN_ITEMS` items, or
        without a chance level, nothing is said.
        """
        mean, items = self.whole or (self.mean, len(self.items))
        if not self.accuracy_like or self.chance is None or items < MIN_ITEMS:
            return False
        reach = NormalDist().inv_cdf(0.975) * math.sqrt(self.chance * (1 - self.chance) / items)
        return mean - self.chance <= reach

    @property
    def nothing_to_lose(self) -> bool:
        """Whether fewer than `FEW_RIGHT` items of a task outside the mean are right (0/1 scores):
        a loss could hardly be seen, and a verdict of the whole must not wait for it."""
        binary = bool(np.isin(self.primary, (0.0, 1.0)).all())
        outside = self.higher_is_better and not self.accuracy_like
        return outside and binary and float(self.primary.sum()) < FEW_RIGHT

    @property
    def primary(self) -> Floats:
        """The scores that verdicts rest on."""
        return self.scores[self.metric]

    @property
    def mean(self) -> float:
        """The task's score: the weighted mean of the primary metric."""
        return float(np.average(self.primary, weights=self.item_weights))

    @property
    def strata(self) -> Strata | None:
        """How the items were drawn; None: all alike."""
        if not self.stratum:
            return None
        return Strata(np.asarray(self.stratum, np.int64), np.asarray(self.shares, np.float64))

    @property
    def item_weights(self) -> Floats:
        """(n,) how much each item counts in a mean."""
        return self.weights if (strata := self.strata) is None else strata.weights()

    def taking(self, items: Sequence[str]) -> TaskScores:
        """The same measurement of some of its items, in the order given; lm-eval's own figures are
        over all items and stay out."""
        place = {item: i for i, item in enumerate(self.items)}
        rows = np.array([place[item] for item in items], np.int64)
        parts = [range(*self.offsets[row : row + 2]) for row in rows]
        flat = np.array([k for part in parts for k in part], np.int64)
        return replace(
            self,
            items=list(items),
            clusters=[self.clusters[row] for row in rows],
            halves=[self.halves[row] for row in rows],
            aggregates={},
            scores={metric: values[rows] for metric, values in self.scores.items()},
            weights=self.weights[rows],
            choice=self.choice[rows],
            gold=self.gold[rows],
            logp=self.logp[flat],
            lengths=self.lengths[flat],
            offsets=np.cumsum([0, *map(len, parts)]).astype(np.int64),
            texts=[self.texts[row] for row in rows] if self.texts else [],
            stratum=[self.stratum[row] for row in rows] if self.stratum else [],
            whole=self.whole or (self.mean, len(self.items)),
        )

    def joined(self, more: TaskScores) -> TaskScores:
        """The same measurement with the items of another one of the same task, which follow."""
        return replace(
            self,
            items=[*self.items, *more.items],
            clusters=[*self.clusters, *more.clusters],
            halves=[*self.halves, *more.halves],
            aggregates={},
            scores={
                metric: np.concatenate([values, more.scores[metric]])
                for metric, values in self.scores.items()
                if metric in more.scores
            },
            weights=np.concatenate([self.weights, more.weights]),
            choice=np.concatenate([self.choice, more.choice]),
            gold=np.concatenate([self.gold, more.gold]),
            logp=np.concatenate([self.logp, more.logp]),
            lengths=np.concatenate([self.lengths, more.lengths]),
            offsets=np.concatenate([self.offsets, self.offsets[-1] + more.offsets[1:]]),
            texts=[*self.texts, *more.texts],
            stratum=[*self.stratum, *more.stratum],
        )

    def half(self, name: Half) -> TaskScores:
        """The items of one half alone."""
        return self.taking(
            [i for i, half in zip(self.items, self.halves, strict=True) if half == name]
        )


def tasks_in_mean(base: Mapping[str, TaskScores]) -> list[str]:
    """The accuracy-like tasks that a suite's mean is over, from the base's measurement.

    Those at chance are left out, unless there are no others.
    """
    like = [name for name, task in base.items() if task.accuracy_like]
    return [name for name in like if not base[name].at_chance] or like


@dataclass
class Measurement:
    """One model's scores on a suite, by task."""

    tasks: dict[str, TaskScores]

    def __getitem__(self, task: str) -> TaskScores:
        return self.tasks[task]

    def joined(self, more: Measurement) -> Measurement:
        """With further items of some of its tasks."""
        return Measurement(
            {
                name: task.joined(more[name]) if name in more.tasks else task
                for name, task in self.tasks.items()
            }
        )

    def half(self, name: Half) -> Measurement:
        """The same on the items of one half; tasks without items in it are left out."""
        halved = {task: scores.half(name) for task, scores in self.tasks.items()}
        return Measurement({task: scores for task, scores in halved.items() if scores.items})

    def to_bytes(self) -> bytes:
        """An .npz archive: arrays, and the rest as JSON text. Nothing pickled."""
        arrays: dict[str, NDArray[Any]] = {}
        heads: list[dict[str, Any]] = []
        for number, task in enumerate(self.tasks.values()):
            head = asdict(task)
            for name in _ARRAYS:
                arrays[f"{number}.{name}"] = head.pop(name)
            for metric, values in head["scores"].items():
                arrays[f"{number}.scores.{metric}"] = values
            heads.append(head | {"scores": list(task.scores)})
        text = json.dumps({"version": FORMAT_VERSION, "tasks": heads}).encode()
        file = io.BytesIO()
        np.savez_compressed(file, head=np.frombuffer(text, np.uint8), **arrays)  # pyright: ignore
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Measurement:
        """Read `to_bytes` back. Raises ValueError or KeyError for what another version wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
        head = json.loads(arrays["head"].tobytes())
        if head["version"] != FORMAT_VERSION:
            raise ValueError(f"measured by version {head['version']}")
        tasks: dict[str, TaskScores] = {}
        for number, fixed in enumerate(head["tasks"]):
            metrics = fixed.pop("scores")
            fixed["halves"] = [FORMER_HALVES.get(half, half) for half in fixed["halves"]]
            tasks[fixed["task"]] = TaskScores(
                **fixed,
                **{name: arrays[f"{number}.{name}"] for name in _ARRAYS},
                scores={metric: arrays[f"{number}.scores.{metric}"] for metric in metrics},
            )
        return cls(tasks)


_ARRAYS = tuple(
    f.name for f in fields(TaskScores) if "NDArray" in str(f.type) or str(f.type) == "Floats"
)
