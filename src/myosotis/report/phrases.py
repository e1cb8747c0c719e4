"""How numbers are written for a person: units, signs, digits, names of metrics.

What belongs here: from numbers of a run record to text. Sentences are in `narrator.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from myosotis.records.schema import GENERAL_TEXTS, RetentionRow, SuiteVerdict, TaskQuality
from myosotis.utils.duration import duration as said_duration

MISSING = "—"
LABELS = {
    "loglik": "answer log-likelihood",
    "rougeL": "ROUGE-L",
    "chrf": "chrF",
    "acc": "accuracy",
    "acc_norm": "accuracy (length-normalised)",
    "bits_per_byte": "bits per byte",
    "byte_perplexity": "perplexity per byte",
    "word_perplexity": "perplexity per word",
    "exact_match": "exact match",
    "refused": "requests refused",
    "complied": "requests not refused",
    "reward_accuracy": "reward accuracy",
    "reward": "reward of the answers",
}

SHARES = ("em", "reward_accuracy", "refused", "complied")
"""Metrics that are a share of items, beside accuracies and exact match."""


def label(metric: str) -> str:
    """The metric's name in words, or as it is."""
    return LABELS.get(metric, metric)


def task_said(task: str) -> str:
    """A benchmark as a sentence names it: of general text, which text it is."""
    text = GENERAL_TEXTS.get(task)
    return f"general text ({text})" if text else task


def task_title(task: str) -> str:
    """The same at the head of a row or a column."""
    said = task_said(task)
    return said if said == task else said[:1].upper() + said[1:]


def is_share(metric: str, unit: str = "") -> bool:
    """Whether a metric is a share of items, shown in per cent."""
    named = metric.startswith(("acc", "exact_match")) or metric in SHARES
    return named or unit == "accuracy"


@dataclass(frozen=True)
class Scale:
    """How the values of one metric are written; all numbers of a row share one."""

    percent: bool
    digits: int
    unit: str

    def value(self, number: float | None) -> str:
        """A score: `44.5 %` or `−3.55`."""
        if number is None:
            return MISSING
        text = fixed(number * 100 if self.percent else number, self.digits)
        return f"{text} %" if self.percent else text

    def change(self, number: float | None) -> str:
        """A difference, always with its sign: `−1.5` (percentage points) or `+0.80`."""
        if number is None:
            return MISSING
        return fixed(number * 100 if self.percent else number, self.digits, signed=True)

    def size(self, number: float | None) -> str:
        """A difference without sign, e.g. of a budget: `2.4`."""
        if number is None:
            return MISSING
        return fixed(abs(number) * (100 if self.percent else 1), self.digits)

    def amount(self, number: float | None) -> str:
        """The same with its unit: `2.4 points`."""
        return MISSING if number is None else f"{self.size(number)} {self.of}".strip()

    @property
    def of(self) -> str:
        """The unit of a difference."""
        return "points" if self.percent else self.unit


def scale(metric: str, unit: str = "", *spread: float | None) -> Scale:
    """The scale of a metric, with two significant digits of the half-width of `spread`."""
    percent = is_share(metric, unit)
    known = [x * (100 if percent else 1) for x in spread if x is not None and abs(x) < 1e300]
    half = max(known) / 2 - min(known) / 2 if known else 0.0
    digits = 1 - math.floor(math.log10(half)) if half > 0 else 3 - 2 * percent
    smallest = min((abs(x) for x in known if x), default=1.0)
    if smallest < 0.5 * 10.0**-digits:  # an end that decides a verdict must not read as 0
        digits += 1
    unit = unit or ("" if percent else label(metric))
    return Scale(percent, min(max(digits, 1), 2 if percent else 4), unit)


def task_scale(task: TaskQuality) -> Scale:
    """The scale of a task metric."""
    return scale(task.metric, task.unit, task.lo, task.hi)


def row_scale(row: RetentionRow) -> Scale:
    """The scale of a benchmark's metric."""
    return scale(row.metric, "", row.lo, row.hi)


def suite_scale(suite: SuiteVerdict) -> Scale:
    """The scale of the suite's mean, which is over accuracy-like tasks."""
    return scale("acc", "", suite.lo, suite.hi)


def fixed(number: float, digits: int, *, signed: bool = False) -> str:
    """A decimal with a real minus sign; never `−0.0`."""
    if abs(number) >= 1e12:
        return f"{number:{'+' if signed else ''}.3g}".replace("-", "−")
    text = f"{abs(number):,.{digits}f}".replace(",", "\u202f")
    zero = not any(c in "123456789" for c in text)
    if number < 0 and not zero:
        return f"−{text}"
    return f"+{text}" if signed and not zero else text


def general(number: float | None) -> str:
    """Any number with about three significant digits."""
    if number is None:
        return MISSING
    size = abs(number)
    if size >= 1e6 or 0 < size < 1e-4:
        return f"{number:.3g}".replace("-", "−")
    if number == int(number):
        return fixed(number, 0)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    digits = max(digits, 2 - math.floor(math.log10(size))) if size < 0.1 else digits
    return fixed(number, digits)


def percent(share: float | None) -> str:
    """A share between 0 and 1, such as a calibration error: `4.2 %`."""
    return MISSING if share is None else f"{fixed(100 * share, 1)} %"


def count(number: float | None) -> str:
    """A whole number with thin groups: `1 954`."""
    return MISSING if number is None else fixed(number, 0)


def benchmark(task: str) -> str:
    """A benchmark beside its figures: `prose (Python's documentation)`, `wikipedia`, `piqa`."""
    text = GENERAL_TEXTS.get(task, task)
    return task if text.lower() == task.lower() else f"{task} ({text})"


OUT_OF_REACH = 10_000_000
"""Items that are as good as infinitely many; what a record of more items holds."""


def items_needed(fewest: int | None, most: int | None) -> str:
    """`1 600 to 4 100`, to two digits; `1 600 or more` where the upper end is out of reach. Records
    of earlier versions have one number."""
    if not fewest or most is None:
        return count(fewest) if fewest else ""
    few, many = (float(f"{number:.2g}") for number in (fewest, most))
    if most >= OUT_OF_REACH:
        return f"{count(few)} or more"
    return count(few) if few == many else f"{count(few)} to {count(many)}"


def plural(number: int, one: str, several: str = "") -> str:
    """`1 setting`, `3 settings`."""
    return f"{count(number)} {one if number == 1 else several or one + 's'}"


def large(number: float | None) -> str:
    """Parameters and the like: `4.88 M`."""
    if number is None:
        return MISSING
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"


def size(number: float | None) -> str:
    """Bytes: `19.5 MB`."""
    if number is None:
        return MISSING
    for unit, letter in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(number) >= unit:
            return f"{number / unit:.3g} {letter}"
    return f"{number:.0f} B"


def p_value(p: float | None) -> str:
    """`0.031`, `<0.001`."""
    if p is None:
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def duration(seconds: float | None) -> str:
    """A duration that may not have been measured."""
    return MISSING if seconds is None else said_duration(seconds)


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def interval(change: Scale, lo: float | None, hi: float | None) -> str:
    """`−3.1 to +0.9`."""
    if lo is None or hi is None:
        return "no interval"
    return f"{change.change(lo)} to {change.change(hi)}"


def gain(number: float | None, higher_is_better: bool) -> float | None:
    """A difference turned so that better is positive."""
    if number is None:
        return None
    return number if higher_is_better else -number


def outcome(task: TaskQuality | None) -> str:
    """`better`, `worse`, `same` or `missing`: what the interval of the task's change says."""
    if task is None or task.delta is None:
        return "missing"
    if task.lo is None or task.hi is None:
        return "same"
    ends = [gain(task.lo, task.higher_is_better), gain(task.hi, task.higher_is_better)]
    if all(end is not None and end > 0 for end in ends):
        return "better"
    return "worse" if all(end is not None and end < 0 for end in ends) else "same"
