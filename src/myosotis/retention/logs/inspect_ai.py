"""Inspect's logs: `.eval` (a zip archive of JSON documents) and `.json` (the same in one document).

What belongs here: the format, which Inspect documents with its log schema; `inspect_ai` itself is
not needed. A log is of one task and one model. A sample asked in several epochs is one item, whose
scores are means over them. Long texts stand apart as attachments, under their hashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from myosotis.retention.benchmarks.task import fingerprint, passage
from myosotis.retention.logs import files
from myosotis.retention.logs.files import Archive, listing, mapping, number
from myosotis.retention.logs.log import ItemText, Log, LoggedItem, LoggedTask
from myosotis.utils.errors import DataError
from myosotis.utils.escape import line

ENDING = ".eval"

_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""What Inspect's `value_to_float` makes of correct, incorrect, partial, no answer, and of words."""

_SAMPLE = re.compile(r"samples/.+\.json")


@dataclass(frozen=True)
class Header:
    """What tells a log from others, without its samples."""

    path: Path
    task: str
    model: str
    created: str
    content: dict[str, Any]


def is_log(document: dict[str, Any]) -> bool:
    return isinstance(document.get("eval"), dict) and "task" in document["eval"]


def header(path: Path) -> Header:
    """Raises `DataError` where the file is no log of Inspect."""
    if path.suffix == ENDING:
        archive = Archive(path)
        names = ("header.json", "_journal/start.json", "start.json")
        name = next((name for name in names if name in archive.names), None)
        if name is None:
            raise DataError(f"{line(path)} is no log of Inspect: it has no header.json.")
        content = archive.document(name)
    else:
        content = files.document(path)
    if not isinstance(content, dict) or not is_log(content):
        raise DataError(f"{line(path)} is no log of Inspect: it names no task.")
    about = content["eval"]
    task, model, created = (files.text(about.get(key)) for key in ("task", "model", "created"))
    return Header(path, task, model, created, content)


def newest(found: Iterable[Header], place: str) -> tuple[list[Header], list[str]]:
    """The newest log of each task, and what to say of the others.

    Raises `DataError` when they are of several models.
    """
    logs = sorted(found, key=lambda one: (one.created, one.path.name))
    models = sorted({one.model for one in logs})
    if len(models) > 1:
        raise DataError(
            f"{place} holds Inspect logs of {len(models)} models: {', '.join(models[:6])}.",
            "Name the file of one of them.",
        )
    by_task = {one.task: one for one in logs}
    left = len(logs) - len(by_task)
    notes = [f"{place} holds {len(logs)} Inspect logs; of each task the newest is taken."]
    return list(by_task.values()), notes if left else []


def read(found: Sequence[Header], place: str, cluster: str | None = None) -> Log:
    """The log that some files make, one for each task.

    `cluster` is a key of the samples' metadata that tells which belong together.
    """
    chosen, notes = newest(found, place)
    log = Log("Inspect", place, model=chosen[0].model, notes=notes)
    for one in chosen:
        log.tasks[one.task] = _task(one, log, cluster)
        log.written = max(log.written, one.created)
        version = mapping(one.content["eval"].get("packages")).get("inspect_ai")
        log.tool = f"Inspect {files.text(version)}".strip()
    return log.seal(cluster)


def _task(one: Header, log: Log, cluster: str | None) -> LoggedTask:
    about, status = one.content["eval"], files.text(one.content.get("status"))
    if status != "success":
        log.notes.append(
            f"{one.path.name} is of an evaluation that did not finish ({status or 'started'})."
        )
    task = LoggedTask(one.task)
    task.setup["task version"] = files.text(about.get("task_version"))
    for label, key in (("task arguments", "task_args"), ("solver", "solver")):
        if about.get(key):
            task.setup[label] = files.text(about[key])[:300]
    count = mapping(about.get("dataset")).get("samples")
    task.population = count if isinstance(count, int) else None
    epochs: dict[str, list[dict[str, float]]] = {}
    for where, sample, text in _samples(one):
        key = files.text(sample.get("id"))
        item = _item(sample, cluster, text)
        task.keys = task.keys or list(mapping(sample.get("metadata")))
        epochs.setdefault(key, []).append(item.scores)
        if (before := task.items.get(key)) is None:
            task.add(key, item, where)
        elif before.content != item.content:
            raise DataError(f"{where}: sample {key!r:.80} is another one than in its first epoch.")
    for key, item in task.items.items():
        item.scores = _mean(epochs[key])
    most = max(map(len, epochs.values()), default=1)
    if most > 1:
        log.notes.append(
            f"{one.task} was asked in {most} epochs: an item's score is its mean over them."
        )
    return task


def _samples(one: Header) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Where each sample stands, what it says, and the function that reads its texts again."""
    if one.path.suffix != ENDING:
        listed = one.content.get("samples")
        if not isinstance(listed, list):
            raise DataError(
                f"{one.path} holds no samples.", "It was written with --no-log-samples."
            )
        for place, sample in enumerate(listed):
            where = f"{line(one.path)}, sample {place}"
            found = files.an_object(sample, where)
            yield where, found, partial(_text, found)
        return
    archive = Archive(one.path)
    names = sorted(name for name in archive.names if _SAMPLE.fullmatch(name))
    for name, sample in archive.documents(names):
        where = line(f"{one.path}, {name}")
        again = partial(_text_of_entry, archive, name)
        yield where, files.an_object(sample, where), again


def _item(sample: dict[str, Any], cluster: str | None, text: Any) -> LoggedItem:
    metadata = mapping(sample.get("metadata"))
    together = passage(metadata) if cluster is None else metadata.get(cluster)
    asked = [sample.get(key) for key in ("input", "choices", "target")]
    item = LoggedItem(
        dict(_scores(sample)),
        content=fingerprint([_plain(part) for part in asked]),
        prompt=fingerprint([_plain(message) for message in _read_by_model(sample)]),
        cluster=None if together is None else fingerprint(together),
        text=text,
    )
    item.choice = _chosen(sample)
    return item


def _read_by_model(sample: dict[str, Any]) -> list[Any]:
    """The messages before the model's first."""
    found: list[Any] = []
    for message in listing(sample.get("messages")):
        if mapping(message).get("role") == "assistant":
            break
        found.append(message)
    return found


def _plain(message: Any) -> Any:
    """What is said, without the ids that each run gives its messages."""
    if isinstance(message, list):
        return [_plain(one) for one in message]
    if isinstance(message, dict):
        return {key: _plain(message[key]) for key in ("role", "content", "text") if key in message}
    return message


def _scores(sample: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Each scorer's number, named as an accuracy where it marks right and wrong."""
    given = mapping(sample.get("scores"))
    if not given and "score" in sample:  # before there could be several
        given = {"score": sample["score"]}
    for scorer, score in given.items():
        value = mapping(score).get("value")
        parts = {f"{scorer}/{key}": part for key, part in mapping(value).items()}
        for name, part in (parts or {scorer: value}).items():
            if isinstance(part, str) and part in _LETTERS:
                yield f"accuracy ({name})", _LETTERS[part]
            elif isinstance(part, bool) or (isinstance(part, str) and part.lower() in _WORDS):
                yield f"accuracy ({name})", _WORDS[str(part).lower()]
            elif (found := number(part)) is not None:
                yield name, found


def _mean(epochs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of what every epoch has; an epoch without a score has failed, and then there is none."""
    names = [name for name in epochs[0] if all(name in scores for scores in epochs)]
    return {name: sum(scores[name] for scores in epochs) / len(epochs) for name in names}


def _chosen(sample: dict[str, Any]) -> int:
    """The choice that the model named, by number; -1 where it named none."""
    count = len(listing(sample.get("choices")))
    for score in mapping(sample.get("scores")).values():
        answer = mapping(score).get("answer")
        if isinstance(answer, str) and len(answer) == 1 and 0 <= ord(answer) - ord("A") < count:
            return ord(answer) - ord("A")
    return -1


def _text_of_entry(archive: Archive, name: str) -> ItemText:
    return _text(files.an_object(archive.document(name), name))


def _text(sample: dict[str, Any]) -> ItemText:
    attachments = mapping(sample.get("attachments"))

    def said(message: Any) -> str:
        if isinstance(message, list):
            return "\n".join(filter(None, map(said, message)))
        if isinstance(message, dict):
            return said(message.get("content", message.get("text", "")))
        found = files.text(message)
        return files.text(attachments.get(found.removeprefix("attachment://"), found))

    output = mapping(sample.get("output"))
    answers = [said(mapping(one).get("message")) for one in listing(output.get("choices"))]
    return ItemText(
        said(sample.get("input")),
        tuple(map(said, listing(sample.get("choices")))),
        said(output.get("completion")) or "\n".join(answers[:1]),
    )
