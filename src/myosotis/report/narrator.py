"""What is said of a run: the sentences that terminal, page, Markdown, JSON and MLflow share.

What belongs here: from a record (or a verdict of its kind) to English. Those of a sweep are in
`report/decision.py`, those of the dial in `report/dial_curve.py`; numbers and units are written by
`report/phrases.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from myosotis.records.schema import (
    Baseline,
    RetentionRow,
    RunRecord,
    SuiteVerdict,
    TaskQuality,
)
from myosotis.records.verdict import VERDICTS, Verdict
from myosotis.report import remedy
from myosotis.report.phrases import (
    count,
    interval,
    label,
    listed,
    outcome,
    percent,
    row_scale,
    suite_scale,
    task_said,
    task_scale,
)
from myosotis.report.run_verdict import (
    BENCHMARKS,
    beside_the_mean,
    mean_verdict,
    measurably_worse,
    slightly_worse,
    worse_than_mean,
)

EXPLAINED: dict[str, str] = {
    Verdict.RETAINED: "any loss is smaller than the budget",
    Verdict.SLIPPED: "measurably worse; may or may not exceed the budget",
    Verdict.FORGOTTEN: "the loss is larger than the budget",
    Verdict.INCONCLUSIVE: "too few items to decide",
}
"""What each verdict means, in a few words."""

_LEARNED = {
    "better": "Learned its task",
    "worse": "Got worse at its task",
    "same": "Not measurably better at its task",
}
_STATUS = {
    "FAILED": "This run failed before it had a result.",
    "KILLED": "This run was stopped before it had a result.",
    "RUNNING": "This run has no result yet.",
}


def headline(record: RunRecord) -> str:
    """One sentence: what was gained, where that was measured, and the verdict on what was lost."""
    task, suite = outcome(record.task), record.suite_verdict
    verdict = suite.verdict if suite is not None and suite.verdict in VERDICTS else ""
    if task == "missing" and not verdict and not record.retention:
        return _STATUS.get(record.status, "This run measured nothing.")
    kept = _kept(record, verdict)
    if task == "missing":
        return f"{kept[:1].upper()}{kept[1:]}."
    return f"{_LEARNED[task]}; {kept}."


def _kept(record: RunRecord, verdict: str) -> str:
    """What was lost, by name, and how that stands to the budget."""
    if not verdict:
        if not record.retention:
            return "what it forgot was not measured"
        # Nothing with an accuracy, of which there is a mean.
        return f"what it forgot was measured on {listed([r.task for r in record.retention])} alone"
    if verdict == Verdict.RETAINED:
        if worse := slightly_worse(record):
            return f"{_are(worse)} slightly worse, within budget"
        return "what it knew is retained: any loss is smaller than the budget"
    if verdict == Verdict.INCONCLUSIVE:
        return "too few items to decide whether it stayed within budget"
    named = _deciding(record, verdict)
    if verdict == Verdict.FORGOTTEN:
        return f"{listed(named)} got worse by more than the budget allows"
    return f"{_are(named)} measurably worse, which may or may not exceed the budget"


def _are(names: Sequence[str]) -> str:
    """`the benchmarks are`, `general text is`."""
    return f"{listed(names)} {'is' if len(names) == 1 and names[0] != BENCHMARKS else 'are'}"


def _deciding(record: RunRecord, verdict: str) -> list[str]:
    """The measures that say `verdict`: the mean, the tasks that count beside it, or both."""
    beside = [task_said(row.task) for row in worse_than_mean(record) if row.verdict == verdict]
    mean = [BENCHMARKS] if mean_verdict(record) == verdict or not beside else []
    return [*mean, *beside]


def reason(record: RunRecord) -> str:
    """Why the run's verdict is what it is, beside the mean's own; "" without one."""
    suite, mean = record.suite_verdict, mean_verdict(record)
    if suite is None or suite.verdict not in VERDICTS:
        return ""
    if suite.verdict == mean:
        return "As the mean says, and nothing that counts beside it is worse."
    if not (worse := worse_than_mean(record)):
        return suite.note
    names = listed([task_said(row.task) for row in worse])
    are = "is" if len(worse) == 1 else "are"
    return (
        f"The mean alone is {mean}, but {names} {are} {suite.verdict}, and "
        f"{'counts by itself' if are == 'is' else 'count by themselves'}."
    )


def ledes(record: RunRecord) -> list[str]:
    """The paragraphs under the headline, with the numbers: the task, the benchmarks, the step."""
    suite = record.suite_verdict
    kept = _mean(suite) if suite is not None else []
    kept += (
        _at_chance(record)
        + _beyond_the_mean(record)
        + _exceptions(record.retention, suite.verdict if suite else "")
    )
    kept += filter(None, [remedy.settle(record)])
    paragraphs = [" ".join(_task(record)), " ".join(kept), checkpoint(record)]
    return [said for said in paragraphs if said]


def sentences(record: RunRecord) -> list[str]:
    """Everything above, for a terminal; of a model without a base to compare with, its scores."""
    if outcome(record.task) == "missing" and record.suite_verdict is None:
        scores = [
            f"{row.task}: {row_scale(row).value(row.tuned)} {label(row.metric)}, "
            f"{count(row.n)} items."
            for row in record.retention
            if row.delta is None
        ]
        return scores or [headline(record), *ledes(record)]
    return [headline(record), *ledes(record)]


def _task(record: RunRecord) -> list[str]:
    task = record.task
    if task is None or task.delta is None:
        return []
    s = task_scale(task)
    said = [
        f"On {count(task.n)} held-out examples its {label(task.metric)} went from "
        f"{s.value(task.base)} to {s.value(task.tuned)}{f' {s.of}' if not s.percent else ''} "
        f"({s.change(task.delta)}; 95 % interval {interval(s, task.lo, task.hi)})."
    ]
    return said + [_against(b, task) for b in record.baselines if b.metric == task.metric]


def _against(baseline: Baseline, task: TaskQuality) -> str:
    """Whether tuning beat what needs no training."""
    s = task_scale(task)
    word = "not measurably better than"
    lo, hi = baseline.lo, baseline.hi
    if lo is not None and hi is not None and (lo > 0 or hi < 0):
        word = "better than" if (lo > 0) == task.higher_is_better else "worse than"
    return (
        f"It is {word} {baseline.name}, which scores {s.value(baseline.value)} "
        f"({s.change(baseline.delta)}; 95 % interval {interval(s, lo, hi)})."
    )


def _mean(suite: SuiteVerdict) -> list[str]:
    """The change of the suite's mean, against its budget."""
    if suite.delta is None:
        return []
    s = suite_scale(suite)
    over = f"over {len(suite.tasks)} benchmarks " if len(suite.tasks) > 1 else ""
    budget = f"; the budget allows a loss of {s.amount(suite.epsilon)}" if suite.epsilon else ""
    return [
        f"Its mean accuracy {over}changed by {s.change(suite.delta)} points "
        f"(95 % interval {interval(s, suite.lo, suite.hi)}){budget}."
    ]


def _at_chance(record: RunRecord) -> list[str]:
    """Which benchmarks are not in the mean because the base knows nothing of them."""
    inside = record.suite_verdict.tasks if record.suite_verdict is not None else []
    rows = [r for r in record.retention if inside and r.chance is not None]
    if not (left_out := [row.task for row in rows if row.task not in inside]):
        return []
    return [
        f"Not in the mean: {listed(left_out)}, where the base is not shown to be above chance and "
        f"which therefore cannot show a loss."
    ]


def begin(words: str) -> str:
    """The same at the beginning of a sentence; names within it stay as they are."""
    return words[:1].upper() + words[1:]


def _beyond_the_mean(record: RunRecord) -> list[str]:
    """What no mean speaks for and is measurably worse: benchmarks in other units."""
    if (suite := record.suite_verdict) is None:
        return []
    beside = [row for row in beside_the_mean(record) if row.task not in suite.tasks]
    return [
        _got_worse(row)
        for row in beside
        if measurably_worse(row) or row.verdict == Verdict.FORGOTTEN
    ]


def _got_worse(row: RetentionRow) -> str:
    """`General text (Wikipedia) got 8.6 % worse (0.951 → 1.034 bits per byte; limit …).`"""
    s, name = row_scale(row), begin(task_said(row.task))
    around = f"95 % interval of the change {interval(s, row.lo, row.hi)}"
    if not row.base or row.tuned is None or row.delta is None or row.epsilon is None:
        return (
            f"{name} got worse by {s.amount(row.delta)} ({around}; the limit is "
            f"{s.size(row.epsilon)})."
        )
    share, limit = (_of_base(change, row.base) for change in (row.delta, row.epsilon))
    of = "" if s.percent else f" {s.of}"
    return (
        f"{name} got {share} worse ({s.value(row.base)} → {s.value(row.tuned)}{of}; {around}; the "
        f"limit is {limit})."
    )


def _of_base(change: float, base: float) -> str:
    """A change as a share of the base's score: `8.6 %`, `5 %`."""
    return percent(abs(change / base)).replace(".0 %", " %")


def _exceptions(rows: Sequence[RetentionRow], suite: str) -> list[str]:
    """Benchmarks that say something worse than the suite does."""
    said = []
    for verdict in (Verdict.FORGOTTEN, Verdict.SLIPPED):
        names = [row.task for row in rows if row.verdict == verdict]
        if names and suite not in (verdict, Verdict.FORGOTTEN):
            are = "is" if len(names) == 1 else "are"
            what = {
                Verdict.FORGOTTEN: f"{are} forgotten: over {'its' if are == 'is' else 'their'} own "
                "budget",
                Verdict.SLIPPED: "slipped: measurably worse",
            }[verdict]
            said.append(f"{listed(names)} {what}.")
    return said


_ENDED = {
    "breach": "It stopped there because the benchmarks had lost more than the budget allows.",
    "patience": "It stopped there because measurement after measurement found nothing better.",
}


def checkpoint(record: RunRecord) -> str:
    """Which step's weights these are, and why; empty where they are the last ones planned."""
    if (found := record.checkpoint) is None:
        return ""
    ended = _ENDED.get(found.ended, "")
    if not found.chosen:
        stay = ""
        if record.group("retention").get("on_breach") == "rollback":
            stay = "No step was shown to be inside the budget, so the last weights stayed."
        told = [f"The training went to step {found.last_step}.", ended, stay]
        return " ".join(filter(None, told))
    back = "" if found.step == found.last_step else f"; the training had gone to {found.last_step}"
    told = [
        f"These are the weights of step {found.step}: of {found.seen} measured, the one with the "
        f"lowest held-out loss inside the budget{back}.",
        ended,
        "The step was chosen on the selection half of the benchmark items; the verdicts here are "
        "those of the reporting half.",
    ]
    return " ".join(filter(None, told))


_SIGNS = {
    "p_gold": "the right choices became less probable",
    "bits_per_byte": "the right answers became less likely as text",
}


def alarm(suite: SuiteVerdict | None, signs: Sequence[str]) -> str:
    """What a measurement while training has to tell: a loss with the numbers it rests on, or what
    speaks of one that these items do not settle. Empty when there is nothing."""
    numbers = note = ""
    if suite is not None:
        note = suite.note
        if None not in (suite.delta, suite.lo, suite.hi, suite.epsilon):
            numbers = (
                f" (their mean {suite.delta:+.3f}, 95 % interval {suite.lo:+.3f} to "
                f"{suite.hi:+.3f}, budget -{suite.epsilon:.3f})"
            )
        if suite.verdict in (Verdict.SLIPPED, Verdict.FORGOTTEN):
            said = f"{suite.verdict}: {EXPLAINED[suite.verdict]}"
            return f"the benchmarks have {said}{numbers}. {note}".strip()
    if not signs:
        return ""
    seen = "; ".join(_SIGNS.get(sign, f"{sign} is not shown to be retained") for sign in signs)
    return (
        f"early signs of forgetting: {seen}. No loss of accuracy is shown{numbers}. {note}".strip()
    )
