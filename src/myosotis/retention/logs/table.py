"""Items in a table of one's own: CSV, or JSON Lines with the same columns.

What belongs here: that format. `item` names a question and `score` says how well it was answered;
`task`, `cluster`, `text`, `prompt`, `answer` are optional. A column of another name is a further
metric where `--metric` names it.

    item,score,task,cluster,text
    17,1,capitals,europe,What is the capital of France?
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from myosotis.retention.benchmarks.task import fingerprint
from myosotis.retention.logs import files
from myosotis.retention.logs.log import ItemText, Log, LoggedItem, LoggedTask
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import DataError
from myosotis.utils.escape import line

ENDINGS = (".csv", ".jsonl")
SCORE = "score"
MOST_TABLE = 2**30
_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


def read(path: Path, place: str, cluster: str | None = None, metrics: Sequence[str] = ()) -> Log:
    """The log that a table is; its one task is named after the file where no column says it.

    `metrics` are columns to read beside `score`. Scores that are all 0 or 1 are an accuracy, `acc`.
    Raises `DataError` naming the row of a missing column, a score that is no number, an item that
    is there twice.
    """
    log = Log("table", place, model=path.stem)
    for where, row in _rows(path):
        if "item" not in row or not {SCORE, *metrics} & row.keys():
            missing = "item" if "item" not in row else SCORE
            raise DataError(
                f"{where} has no {missing!r}.",
                did_you_mean(missing, map(str, row), f"It has: {', '.join(map(str, row))[:200]}."),
            )
        name = files.text(row.get("task")) or path.stem
        task = log.tasks.setdefault(name, LoggedTask(name, keys=list(map(str, row))))
        task.add(files.text(row["item"]), _item(row, where, cluster, metrics), where)
    for task in log.tasks.values():
        if all(item.scores.get(SCORE) in (0.0, 1.0) for item in task.items.values()):
            for item in task.items.values():
                item.scores = {"acc" if k == SCORE else k: v for k, v in item.scores.items()}
    return log.seal(cluster)


def _item(
    row: dict[str, Any], where: str, cluster: str | None, metrics: Sequence[str]
) -> LoggedItem:
    scores = {name: _score(row[name], name, where) for name in (SCORE, *metrics) if name in row}
    text = next((files.text(row[name]) for name in ("text", "prompt") if row.get(name)), "")
    together = row.get(cluster or "cluster")
    return LoggedItem(
        scores,
        content=fingerprint(text) if text else "",
        cluster=None if together in (None, "") else files.text(together),
        text=partial(ItemText, text, (), files.text(row.get("answer"))),
    )


def _score(value: Any, name: str, where: str) -> float:
    found = files.number(value)
    if found is None and isinstance(value, str):
        said = value.strip().lower()
        with contextlib.suppress(ValueError):
            found = _WORDS[said] if said in _WORDS else files.number(float(said))
    if found is None:
        raise DataError(f"{where}: {name} is {files.text(value)!r:.60}, which is no finite number.")
    return found


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix.lower() == ".jsonl":
        for where, _, row in files.json_lines(path):
            yield where, row
        return
    with files.opened(path, MOST_TABLE) as file:
        try:
            content = file.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"{line(path)} is not text in UTF-8.") from None
    rows = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    try:
        for row in rows:
            where = f"{line(path)}:{rows.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{where} has more or fewer cells than the first line has columns.")
            yield where, row
    except csv.Error as error:
        raise DataError(f"{line(path)}:{rows.line_num} is not CSV: {error}.") from None
