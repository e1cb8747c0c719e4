"""What is said of the dial: which strength was chosen, and whether the other half confirms it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from myosotis.records.schema import DialChoice, DialPoint, RetentionRow, RunRecord
from myosotis.report import narrator, phrases
from myosotis.report.run_verdict import measurably_worse


def metric(record: RunRecord) -> str:
    """The metric that the dial's task gain is read in."""
    return record.dial_choice.metric if record.dial_choice else DialChoice().metric


def said(record: RunRecord) -> str:
    """What the dial offers and whether that holds; empty when it has nothing to say."""
    choice = record.dial_choice
    if choice is None or not any(point.verdict for point in record.dial):
        return ""
    if choice.alpha is None or choice.reported is None or choice.full is None:
        if all(point.verdict == "forgotten" for point in record.dial):
            return "No strength is within budget: all of them are forgotten."
        return "No strength could be confirmed within budget."
    full = " (the update as trained)" if choice.alpha == 1 else ""
    chosen = f"On the selection half, α = {choice.alpha:g}{full} gains most within budget."
    held = "confirms it" if choice.confirmed else "does not confirm it"
    return f"{chosen} The reporting half {held}: {_reported(choice)}"


def beside(points: Sequence[DialPoint]) -> list[str]:
    """A few words on each benchmark that is in no mean: `prose +0.043, forgotten`.

    `points` are those of one strength, one a seed: the mean of their changes, and every verdict
    that a seed has.
    """
    of_task: dict[str, list[RetentionRow]] = {}
    for row in (row for point in points for row in point.beside):
        of_task.setdefault(row.task, []).append(row)
    said = []
    for task, rows in of_task.items():
        changes = [row.delta for row in rows if row.delta is not None]
        change = phrases.row_scale(rows[0]).change(fmean(changes) if changes else None)
        verdicts = " or ".join(dict.fromkeys(row.verdict for row in rows if row.verdict))
        said.append(f"{task} {change}, {verdicts}" if verdicts else f"{task} {change}")
    return said


def _beside_both(choice: DialChoice) -> list[tuple[RetentionRow, RetentionRow]]:
    """Each of those at the chosen strength and at the whole, on the half that reports."""
    assert choice.reported is not None and choice.full is not None
    of_whole = {row.task: row for row in choice.full.beside}
    chosen = choice.reported.beside
    return [(row, of_whole[row.task]) for row in chosen if row.task in of_whole]


def _reported(choice: DialChoice) -> str:
    """What the half that reports says of the chosen strength, beside the whole update."""
    found, full = choice.reported, choice.full
    assert found is not None and full is not None
    s = phrases.scale(choice.metric, choice.unit, found.task_lo, found.task_hi)
    kept = phrases.scale("acc", "", found.retention_lo, found.retention_hi)
    whole = choice.alpha == 1
    told = [
        f"{phrases.label(choice.metric)} {s.change(found.task)} {s.of} "
        f"({phrases.interval(s, found.task_lo, found.task_hi)}"
        f"{'' if whole else f'; the whole update {s.change(full.task)}'}), ",
        f"mean accuracy {kept.change(found.retention)} points "
        f"({phrases.interval(kept, found.retention_lo, found.retention_hi)}"
        f"{'' if whole else f'; the whole update {kept.change(full.retention)}'}; "
        f"the budget allows −{kept.size(found.epsilon)}): {found.verdict}.",
    ]
    for row, of_whole in _beside_both(choice):
        s = phrases.row_scale(row)
        told.append(
            f" {narrator.begin(phrases.task_said(row.task))} {s.change(row.delta)} {s.of} "
            f"({phrases.interval(s, row.lo, row.hi)}"
            f"{'' if whole else f'; the whole update {s.change(of_whole.delta)}'}): {row.verdict}."
        )
    if not whole and (shares := _shares(choice)):
        told.append(f" {shares}")
    return "".join(told)


def _shares(choice: DialChoice) -> str:
    """Shares of the whole update's gain and loss, where it has any that can be told from none."""
    found, full = choice.reported, choice.full
    assert found is not None and full is not None
    sign = 1 if choice.higher_is_better else -1
    gained = min(sign * (full.task_lo or 0), sign * (full.task_hi or 0)) > 0
    lost = full.retention_hi is not None and full.retention_hi < 0
    parts = []
    if gained and found.task is not None and full.task:
        parts.append(f"keeps {100 * found.task / full.task:.0f} % of the gain")
    if lost and found.retention is not None and full.retention:
        parts.append(f"recovers {100 * (1 - found.retention / full.retention):.0f} % of the loss")
    for row, of_whole in _beside_both(choice):
        if measurably_worse(of_whole) and row.delta is not None and of_whole.delta:
            back = 100 * (1 - row.delta / of_whole.delta)
            parts.append(f"recovers {back:.0f} % of what {phrases.task_said(row.task)} lost")
    return f"Of the whole update it {phrases.listed(parts)}." if parts else ""
