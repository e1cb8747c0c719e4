"""Runs of one's own as logs: the items of a run folder, or its `retention_items.parquet` alone.

What belongs here: that file has both models of a run in it, so it gives two logs. Directions,
chance, versions and the texts of lost items come from the record beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import Flip, RunRecord
from myosotis.retention.logs import files
from myosotis.retention.logs.files import listing, mapping
from myosotis.retention.logs.log import LOWER_IS_BETTER, ItemText, Log, LoggedItem, LoggedTask
from myosotis.utils.errors import DataError
from myosotis.utils.escape import line

Side = Literal["base", "tuned"]
SIDES: tuple[Side, Side] = ("base", "tuned")
ENDING = ".parquet"
_NEEDED = ("task", "item", "metric", "base", "tuned")
MOST_FILE = 2**30


class Both(NamedTuple):
    """The two models of one run, and the budget that run had: a fraction, or one by task."""

    base: Log
    tuned: Log
    budget: float | dict[str, float] | None = None
    accept: str = ""


def read_run(folder: RunFolder, place: str, cluster: str | None = None) -> Both:
    """Raises `DataError` where the run has not measured two models item by item."""
    with files.opened(folder.record, MOST_FILE) as file:
        content = file.read().decode("utf-8", "replace")
    record = RunRecord.from_json(content, str(folder.record))
    if not folder.items.exists():
        raise DataError(
            f"The run {place} has no {folder.items.name}: it did not compare two models.",
            "A run that was finished with benchmarks has one, and so has evaluate --base.",
        )
    return read_items(folder.items, place, record, cluster)


def read_items(
    path: Path, place: str, record: RunRecord | None = None, cluster: str | None = None
) -> Both:
    """The items of a run. Without its record `record`, metrics alone say which way is better."""
    rows = _rows(path)
    base, tuned = (_log(side, rows, place, record, cluster) for side in SIDES)
    had = mapping(mapping(record.config if record else {}).get("retention"))
    return Both(base, tuned, _budget(had.get("budget")), files.text(had.get("accept")))


def _budget(given: Any) -> float | dict[str, float] | None:
    """A fraction, or one by task; None for anything else."""
    if not isinstance(given, dict):
        return files.number(given)
    found = {str(name): files.number(fraction) for name, fraction in given.items()}
    return {name: fraction for name, fraction in found.items() if fraction is not None}


def _rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with files.opened(path, MOST_FILE) as file:
        try:
            read = pq.ParquetFile(file)
            if read.metadata.num_rows > files.MOST_ITEMS:
                raise DataError(f"{line(path)} has more than {files.MOST_ITEMS:,} rows.")
            missing = [name for name in _NEEDED if name not in read.schema_arrow.names]
            if missing:
                raise DataError(
                    f"{line(path)} is not the items of a run: it has no {', '.join(missing)}.",
                    f"Expected are the columns {', '.join(_NEEDED)}.",
                )
            return read.read().to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(
                f"{line(path)} is no readable parquet file: {str(error)[:200]}."
            ) from None


def _log(
    side: Side,
    rows: list[dict[str, Any]],
    place: str,
    record: RunRecord | None,
    cluster: str | None,
) -> Log:
    log = Log("run", f"{place}#{side}", model=_name(side, place, record))
    lost = {(flip.task, flip.item): flip for flip in record.flips} if record else {}
    for number, row in enumerate(rows):
        where = f"{place}, row {number}"
        name, key, metric = (files.text(row[column]) for column in ("task", "item", "metric"))
        task = log.tasks.setdefault(name, LoggedTask(name, keys=list(row)))
        task.directions.setdefault(metric, metric not in LOWER_IS_BETTER)
        flip = lost.get((name, key))
        task.add(key, _item(row, side, metric, cluster, where, flip), where)
    over_bytes = [task.name for task in log.tasks.values() if "bits_per_byte" in task.directions]
    if rows and "weight" not in rows[0] and over_bytes:
        log.notes.append(
            f"{place} was written before items had weights: {', '.join(over_bytes)} is a mean over "
            "items here, and over bytes in the run's own record."
        )
    if record is not None:
        log.written, log.tool = record.started, f"myosotis {record.versions.get('myosotis', '')}"
        _described(log, record)
    return log.seal(cluster)


def _name(side: Side, place: str, record: RunRecord | None) -> str:
    if record is None:
        return f"{place} ({side})"
    named = record.run_name or record.run_id[:8]
    return (record.model.id or f"base of {named}") if side == "base" else named


def _item(
    row: dict[str, Any],
    side: Side,
    metric: str,
    cluster: str | None,
    where: str,
    flip: Flip | None,
) -> LoggedItem:
    scores = {metric: row[side]}
    suffix = f"_{side}"
    for column, value in row.items():
        name = column.removesuffix(suffix)
        if column.endswith(suffix) and name != "choice":
            scores.setdefault(name, value)
    found = {name: files.number(value) for name, value in scores.items()}
    if found[metric] is None:
        raise DataError(f"{where}: {side} is {row[side]!r:.40}, which is no number.")
    weight = files.number(row.get("weight", 1.0))
    if weight is None or not weight >= 0:
        raise DataError(f"{where}: weight is {row.get('weight')!r:.40}.")
    gold, choice = row.get("gold"), row.get(f"choice_{side}")
    together = row.get(cluster or "cluster")
    return LoggedItem(
        {name: value for name, value in found.items() if value is not None},
        cluster=None if together is None else files.text(together),
        gold=(gold,) if isinstance(gold, int) and gold >= 0 else (),
        choice=choice if isinstance(choice, int) else -1,
        weight=weight,
        text=None if flip is None else lambda: _text(flip, side),
    )


def _text(flip: Flip, side: Side) -> ItemText:
    """Of written answers a record keeps the two in place of choices."""
    if len(flip.choices) == 2 and (flip.gold, flip.base_choice, flip.tuned_choice) == (0, 0, 1):
        return ItemText(flip.prompt, tuple(flip.choices), flip.choices[SIDES.index(side)])
    return ItemText(flip.prompt, tuple(flip.choices))


def _described(log: Log, record: RunRecord) -> None:
    """What the record knows of the tasks."""
    for row in record.retention:
        if (task := log.tasks.get(row.task)) is not None:
            task.directions[row.metric] = row.higher_is_better
            task.chance, task.population = row.chance, row.items_of
    for about in map(mapping, listing(record.suite.get("tasks"))):
        if (task := log.tasks.get(files.text(about.get("task")))) is None:
            continue
        for label, key in (
            ("task version", "version"),
            ("number of examples", "num_fewshot"),
            ("chat template", "chat_template"),
        ):
            if key in about:
                task.setup[label] = files.text(about[key])
