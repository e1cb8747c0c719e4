"""What a log says of one model, whoever wrote it: tasks, their items, a score or several for each.

What belongs here: the shapes that every reader fills and that `match.py` compares, and what the
names of metrics mean. Where a log comes from is the business of its reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from myosotis.retention.benchmarks.task import PRIMARY, SHARES, fingerprint
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError, DataError
from myosotis.utils.escape import line

LOWER_IS_BETTER = {
    *("bits_per_byte", "nll", "loss", "perplexity", "word_perplexity", "byte_perplexity"),
    *("brier_score", "brier", "ter", "wer", "cer", "mse", "mae", "rmse"),
}
"""Metrics of which less is better, where the log does not say."""


MOST_NAME = 200
"""Characters of a name that are kept."""


class ItemText(NamedTuple):
    """What is shown of an item: the prompt, the choices or none, and what this model wrote."""

    prompt: str = ""
    choices: tuple[str, ...] = ()
    answer: str = ""


@dataclass(slots=True)
class LoggedItem:
    """One question as it was asked of one model.

    `content` and `prompt` are digests, of the document with its right answer and of what the model
    read; empty where the log has none. `logp` (nats), `lengths` (characters) and `gold` are of the
    choices. `choice` is the answer by number where the log names it. `text` reads the texts again:
    only some dozens of them are ever shown.
    """

    scores: dict[str, float]
    content: str = ""
    prompt: str = ""
    cluster: str | None = None
    logp: tuple[float, ...] = ()
    lengths: tuple[float, ...] = ()
    gold: tuple[int, ...] = ()
    choice: int = -1
    weight: float = 1.0
    text: Callable[[], ItemText] | None = None


@dataclass
class LoggedTask:
    """One task. `setup` is what must be equal for two logs to be comparable, by its name in words;
    `directions` says of a metric whether higher is better; `group` is what the log pools it in."""

    name: str
    items: dict[str, LoggedItem] = field(default_factory=dict)
    setup: dict[str, str] = field(default_factory=dict)
    directions: dict[str, bool] = field(default_factory=dict)
    group: str = ""
    population: int | None = None
    chance: float | None = None
    keys: list[str] = field(default_factory=list)  # of a document: what one may cluster by

    def add(self, key: str, item: LoggedItem, where: str) -> None:
        """Raises `DataError` where the item was there already."""
        if key in self.items:
            raise DataError(
                f"{where}: item {key!r:.80} of {line(self.name)} is there twice; items cannot be "
                "paired.",
                "Two logs may have been joined in one file.",
            )
        self.items[key] = item

    def higher_is_better(self, metric: str) -> bool:
        return self.directions.get(metric, metric not in LOWER_IS_BETTER)

    @property
    def metrics(self) -> list[str]:
        """What at least one item is scored by, in the order met."""
        return list(dict.fromkeys(name for item in self.items.values() for name in item.scores))


@dataclass
class Log:
    """One model's evaluation. `place` is what a person called it, `notes` what they should know of
    how it was read, `prompting` what explains prompts that differ."""

    kind: str
    place: str
    model: str = ""
    tasks: dict[str, LoggedTask] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    prompting: dict[str, str] = field(default_factory=dict)
    written: str = ""  # when, as the log says it
    tool: str = ""  # what wrote it, with its version
    digest: str = ""  # of the items and scores; see `Log.seal`

    def seal(self, cluster: str | None = None) -> Log:
        """The same with its digest, and with names that stand on one line.

        Raises `DataError` for a log without any item, or without the key `cluster` that items were
        to be clustered by.
        """
        tasks: dict[str, LoggedTask] = {}
        for task in self.tasks.values():
            task.name, task.group = line(task.name)[:MOST_NAME], line(task.group)[:MOST_NAME]
            if task.name in tasks:
                raise DataError(f"{self.place} holds two tasks that both read {task.name!r}.")
            if task.items:
                tasks[task.name] = task
        if not tasks:
            raise DataError(f"{self.place} holds no items.")
        self.model, self.tool = line(self.model)[:MOST_NAME], line(self.tool)[:MOST_NAME]
        self.notes = [line(note) for note in self.notes]
        self.prompting = {name: line(said) for name, said in self.prompting.items()}
        self.tasks = tasks
        if cluster is not None:
            self._clustered_by(cluster)
        self.digest = fingerprint(
            [
                [name, key, item.content, item.prompt, sorted(item.scores.items())]
                for name, task in sorted(tasks.items())
                for key, item in task.items.items()
            ]
        )
        return self

    def _clustered_by(self, key: str) -> None:
        """Each task has the key in all of its items, or in none and is said to be without."""
        counts = {
            name: sum(item.cluster is not None for item in task.items.values())
            for name, task in self.tasks.items()
        }
        if not any(counts.values()):
            keys = next(iter(self.tasks.values())).keys
            raise DataError(
                f"{self.place}: no item has {key!r} to cluster by.",
                did_you_mean(key, keys, f"They have: {', '.join(keys)[:300] or 'no keys'}."),
            )
        for name, count in counts.items():
            if 0 < count < (of := len(self.tasks[name].items)):
                raise DataError(
                    f"{self.place}, {name}: {of - count} of {of} items have no {key!r}."
                )
        if without := [name for name, count in counts.items() if not count]:
            self.notes.append(
                f"{self.place}: {', '.join(without)} has no {key!r}; its items are taken as "
                "independent."
            )


def accuracy_like(metric: str, higher_is_better: bool, scores: Sequence[float]) -> bool:
    """Whether a metric is a share of right answers, which a mean over tasks may include."""
    reading = metric.partition(",")[0]
    named = reading in PRIMARY or reading in SHARES or reading.startswith("accuracy")
    return named and higher_is_better and all(0 <= score <= 1 for score in scores)


def primary(tasks: Mapping[str, tuple[LoggedTask, LoggedTask]], wanted: Sequence[str]) -> str:
    """The metric that the verdict on some tasks, which are one row, rests on.

    The first of `wanted` that all have; without any, the first of the project's own order (length-
    normalised accuracy, accuracy, exact match), a share of right answers, or the only one there is.
    Raises `ConfigError` where that leaves none.
    """
    known = [set(side.metrics) for pair in tasks.values() for side in pair]
    shared = [m for m in next(iter(tasks.values()))[0].metrics if all(m in k for k in known)]
    for metric in wanted or (*PRIMARY, *SHARES, "bits_per_byte"):
        if metric in shared:
            return metric
    accuracies = [metric for metric in shared if metric.startswith("accuracy")]
    scored = shared if len(shared) == 1 else accuracies[:1]
    if scored and not wanted:
        return scored[0]
    name = next(iter(tasks))
    asked = f"has no {' or '.join(wanted)}" if wanted else "has no metric that goes without saying"
    raise ConfigError(
        f"{name} {asked}.",
        f"Both logs have: {', '.join(shared) or 'none in common'}."
        + (" Name one with --metric." if shared else ""),
    )
