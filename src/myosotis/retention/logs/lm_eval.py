"""lm-eval's logs: the `samples_TASK_DATE.jsonl` of `--log_samples`, and the results beside them.

What belongs here: the format, as `lm_eval/loggers/evaluation_tracker.py` writes it; lm-eval itself
is not imported. One line is one document under one filter: its number and hashes, what was asked
(`arguments`), the log-probs or texts (`filtered_resps`), and a value for each metric. Versions,
numbers of examples, directions and groups stand in `results_DATE.json`; logs without that file, and
those of versions that wrote no hashes, are read all the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from myosotis.retention.benchmarks.task import fingerprint, passage
from myosotis.retention.logs import files
from myosotis.retention.logs.files import listing, mapping
from myosotis.retention.logs.lm_eval_sample import (
    arguments,
    choices_of,
    content_of,
    contexts_differ,
    gold_of,
    is_sample,
    log_probs,
    scored,
    text_at,
)
from myosotis.retention.logs.log import Log, LoggedItem, LoggedTask
from myosotis.utils.errors import DataError

DATE = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?"
SAMPLES = re.compile(rf"samples_(?P<task>.+?)(?:_(?P<date>{DATE}))?\.jsonl")
RESULTS = re.compile(rf".+_(?P<date>{DATE})\.json")

MOST_GROUPS = 1000
"""lm-eval has some hundred; a file that names more is not taken at its word."""


@dataclass(frozen=True)
class Samples:
    """A file of samples: whose, and when."""

    path: Path
    task: str
    date: str

    @classmethod
    def of(cls, path: Path) -> Samples | None:
        found = SAMPLES.fullmatch(path.name)
        return None if found is None else cls(path, found["task"], found["date"] or "")


@dataclass
class Results:
    """What the results beside some samples say; empty where there are none."""

    content: dict[str, Any] = field(default_factory=dict)

    def of_task(self, key: str, task: str) -> Any:
        return mapping(self.content.get(key)).get(task)

    @cached_property
    def groups(self) -> dict[str, str]:
        """By task the outermost group whose mean lm-eval reports; other groups are only names."""
        inside = {
            name: [child for child in listing(children) if isinstance(child, str)]
            for name, children in mapping(self.content.get("group_subtasks")).items()
        }
        pooled = [name for name in mapping(self.content.get("groups")) if name in inside]
        below = {name: _below(name, inside) for name in pooled[:MOST_GROUPS]}
        nested = set[str]().union(*below.values())
        return {task: name for name, tasks in below.items() if name not in nested for task in tasks}


def _below(name: str, inside: dict[str, list[str]]) -> set[str]:
    """All that a group is made of; a group that contains itself ends there."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        children = set(inside.get(waiting.pop(), ())) - found
        found |= children
        waiting += children
    return found


def is_results(document: dict[str, Any]) -> bool:
    return "results" in document and "configs" in document


def read(found: Sequence[Samples], place: str, cluster: str | None = None) -> Log:
    """The log that some files of samples make: the newest of each task, all of one folder.

    `cluster` is a key of the documents that tells which items belong together. Raises `DataError`
    for what cannot be read, naming file and line.
    """
    newest: dict[str, Samples] = {}
    notes: list[str] = []
    for one in sorted(found, key=lambda one: (one.date, one.path.name)):
        newest[one.task] = one
    dates = sorted({one.date for one in found})
    if len(found) > len(newest):
        notes.append(
            f"{place} holds {len(dates)} logs of lm-eval; of each task the newest is taken "
            f"({', '.join(sorted({one.date for one in newest.values()}))})."
        )
    beside = {one.date: _results(one) for one in newest.values()}
    log = Log("lm-eval", place, notes=notes, written=max(one.date for one in newest.values()))
    for name, one in sorted(newest.items()):
        log.tasks[name] = _task(name, one.path, beside[one.date], cluster)
    _describe(log, [results.content for _, results in sorted(beside.items())])
    return log.seal(cluster)


def _results(samples: Samples) -> Results:
    """The results written with these samples, in the same folder."""
    for path in sorted(samples.path.parent.glob("*.json")):
        named = RESULTS.fullmatch(path.name)
        if named is not None and named["date"] == samples.date:
            content = files.document(path)
            if isinstance(content, dict) and is_results(content):
                return Results(content)
    return Results()


def _describe(log: Log, results: Sequence[dict[str, Any]]) -> None:
    """Model, versions and what explains prompts, from the newest results that say it."""
    for content in results:
        if not content:
            continue
        log.model = files.text(content.get("model_name")) or log.model
        if version := files.text(content.get("lm_eval_version")):
            log.tool = f"lm-eval {version}"
        for name, key in (
            ("chat template", "chat_template_sha"),
            ("system instruction", "system_instruction_sha"),
        ):
            log.prompting[name] = files.text(content.get(key))[:10] or "none"
    if not all(results):
        log.notes.append(
            f"{log.place} has no results file beside its samples: task versions, numbers of "
            "examples and groups are not known, and were not compared."
        )


def _task(name: str, path: Path, results: Results, cluster: str | None) -> LoggedTask:
    task = LoggedTask(name, group=results.groups.get(name, ""))
    for label, key in (("task version", "versions"), ("number of examples", "n-shot")):
        if (said := results.of_task(key, name)) is not None:
            task.setup[label] = files.text(said)
    task.directions = {
        metric: better
        for metric, better in mapping(results.of_task("higher_is_better", name)).items()
        if isinstance(better, bool)
    }
    counts = mapping(results.of_task("n-samples", name))
    population = counts.get("original")
    task.population = population if isinstance(population, int) else None
    delimiter = mapping(results.of_task("configs", name)).get("target_delimiter", " ")
    reader = _Reader(task, path, delimiter if isinstance(delimiter, str) else " ", cluster)
    for where, position, sample in files.json_lines(path):
        reader.add(sample, position, where)
    task.items = reader.finished()
    return task


class _Reader:
    """The lines of one file, gathered by document: each filter has a line of its own."""

    def __init__(self, task: LoggedTask, path: Path, delimiter: str, cluster: str | None) -> None:
        self.task = task
        self.path = path
        self.delimiter = delimiter
        self.cluster = cluster
        self.first = ""  # the first filter: the one whose metrics go by their own name
        self.seen: set[tuple[str, str]] = set()

    def add(self, sample: dict[str, Any], position: int, where: str) -> None:
        if not is_sample(sample):
            raise DataError(f"{where} is no sample of lm-eval: no doc_id or no filtered_resps.")
        reading, key = files.text(sample.get("filter")) or "none", files.text(sample["doc_id"])
        if not self.first:
            self.first = self.task.setup["first filter"] = reading
        scores, weight = scored(sample)
        if reading != self.first:
            scores = {f"{name},{reading}": value for name, value in scores.items()}
        item = self.task.items.get(key)
        if item is None:
            item = self._item(sample, position)
            item.weight = weight
            self.task.add(key, item, where)
        elif (key, reading) in self.seen:
            self.task.add(key, item, where)
        elif item.content != content_of(sample):
            raise DataError(
                f"{where}: document {key!r:.80} is another one than under the first filter."
            )
        self.seen.add((key, reading))
        item.scores |= scores

    def finished(self) -> dict[str, LoggedItem]:
        """The items by number, which a log of several processes does not keep."""
        return dict(sorted(self.task.items.items(), key=lambda entry: _order(entry[0])))

    def _item(self, sample: dict[str, Any], position: int) -> LoggedItem:
        asked = arguments(sample)
        texts = [[part for part in one if isinstance(part, str)] for one in asked]
        settings = [part for one in asked[:1] for part in one if not isinstance(part, str)]
        if settings:
            self.task.setup.setdefault("settings of generation", files.text(settings[0])[:300])
        logp = log_probs(sample)
        choices = self._choices(texts, len(logp))
        doc = sample.get("doc")
        return LoggedItem(
            {},
            content=content_of(sample),
            prompt=fingerprint(texts),
            cluster=self._cluster(doc),
            logp=logp,
            lengths=tuple(float(max(1, len(choice))) for choice in choices),
            gold=gold_of(sample.get("target"), choices) if not contexts_differ(texts) else (),
            text=partial(text_at, self.path, position, self.delimiter),
        )

    def _cluster(self, doc: Any) -> str | None:
        self.task.keys = self.task.keys or list(mapping(doc))
        if self.cluster is None:
            return passage(doc)
        given = mapping(doc).get(self.cluster)
        return None if given is None else fingerprint(given)

    def _choices(self, texts: Sequence[Sequence[str]], count: int) -> tuple[str, ...]:
        return choices_of(texts[:count], self.delimiter)


def _order(key: str) -> tuple[int, str]:
    return (int(key), "") if key.isdecimal() and len(key) < 18 else (10**18, key)
