"""What two models made of the same items, on the screen: flips both ways and McNemar's test."""

from __future__ import annotations

from rich.table import Table

from myosotis.records.schema import RunRecord
from myosotis.report import phrases
from myosotis.utils.console import results
from myosotis.utils.escape import line, terminal


def show(record: RunRecord) -> None:
    """A line a task that is scored right or wrong; nothing where none is."""
    rows = [row for row in record.retention if row.right_to_wrong is not None]
    if not rows:
        return
    table = Table(title="item by item", title_justify="left")
    table.add_column("task", overflow="fold")
    for column in ("items", "right → wrong", "wrong → right", "McNemar p", "Holm p"):
        table.add_column(column, justify="right")
    for row in rows:
        counts = (row.n, row.right_to_wrong, row.wrong_to_right)
        table.add_row(
            terminal(line(row.task)),
            *map(phrases.count, counts),
            phrases.p_value(row.p_mcnemar),
            phrases.p_value(row.p_holm),
        )
    results.print(table)
