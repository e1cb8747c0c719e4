"""What would settle an open verdict, in words.

What belongs here: from the number of items (`run_verdict.py`) to a sentence that says what to do.
The other sentences on a run are in `narrator.py`.
"""

from __future__ import annotations

from myosotis.records.schema import RunRecord
from myosotis.records.verdict import MIN_ITEMS
from myosotis.report.phrases import count, duration, listed, task_said
from myosotis.report.run_verdict import ToSettle, to_settle


def settle(record: RunRecord) -> str:
    """What would settle the run's verdict; empty where it is settled."""
    found = to_settle(record)
    return "" if found is None else settled_by(found)


def settled_by(found: ToSettle, per: str = "") -> str:
    """`To settle: 1 200 more items, about 14 min (retention.items=600).`

    Where no number is known, or the benchmarks hold too few, what else can be done. `per` follows
    the time: ` per trial`.
    """
    by = f" ({found.key})" if found.key else " in both logs"
    if found.too_few:
        return f"To settle: any verdict takes at least {MIN_ITEMS} items{by}."
    if found.more is None:
        return f"To settle: more items{by}; these do not tell how many."
    said = f"To settle: {count(found.more)} more items"
    said += f", about {duration(found.seconds)}{per}" if found.seconds is not None else ""
    if found.enough:
        return f"{said} ({found.key}={found.per_task})." if found.key else f"{said}{by}."
    one = len(found.tasks) == 1
    return (
        f"{said}, but {listed([task_said(task) for task in found.tasks])} "
        f"{'holds' if one else 'hold'} no more than {count(found.held)}{'' if one else ' each'}: "
        f"add a benchmark to {'retention.suite' if found.key else 'both logs'}."
    )
