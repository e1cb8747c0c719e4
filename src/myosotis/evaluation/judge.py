"""A language model as a judge of two answers, over any endpoint (utils/chat_endpoint.py).

Judges prefer what stands first, and what is longer (Zheng et al. 2023, "Judging LLM-as-a-judge").
So every pair is asked in both orders, which count half each; how often the two orders agree, and
how the win rate goes with the difference in length, is reported beside it. Replies are cached by
all that was asked, so that asking again costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from myosotis.records.schema import JudgeResult
from myosotis.retention.statistics.paired import paired
from myosotis.utils.chat_endpoint import Ask
from myosotis.utils.errors import RunError

RUBRIC = (
    "Which answer is more correct, complete and helpful for the prompt? Do not prefer an answer "
    "for its place or its length."
)
ASKED = """Compare two answers to a prompt.

{rubric}

[Prompt]
{prompt}

[Answer A]
{a}

[Answer B]
{b}

End with one line that says A, B or tie."""
_CHOICE = re.compile(r"(?:answer\s*)?\**\[*\s*(A|B|tie)\s*\]*\**[.!]?", re.IGNORECASE)


class Pair(NamedTuple):
    """A prompt and the answers of the tuned model and of the base."""

    prompt: str
    tuned: str
    base: str


def choice_of(reply: str) -> str | None:
    """A, B or tie, from the last line that says one; None where none does."""
    for line in reversed([line.strip() for line in reply.splitlines() if line.strip()]):
        if found := _CHOICE.fullmatch(line):
            return found[1].upper() if len(found[1]) == 1 else "tie"
    return None


def judged(
    pairs: Sequence[Pair],
    ask: Ask,
    *,
    model: str = "",
    rubric: str = RUBRIC,
    advance: Callable[[int], object] = lambda n: None,
) -> JudgeResult:
    """Ask about every pair in both orders; `advance(1)` is called after each pair.

    A pair of which either reply says nothing is left out and counted. Raises `RunError` where none
    is left.
    """
    firsts, seconds, kept = [], [], []
    for pair in pairs:
        first = _score(ask, rubric, pair, tuned_first=True)
        second = _score(ask, rubric, pair, tuned_first=False)
        advance(1)
        if first is not None and second is not None:
            firsts.append(first)
            seconds.append(second)
            kept.append(pair)
    if not kept:
        raise RunError("no reply of the judge says A, B or tie", "another judge, or another rubric")
    first, second = np.array(firsts), np.array(seconds)
    scores = (first + second) / 2
    change = paired(np.full(len(scores), 0.5), scores)
    same = (first == second).astype(float)
    alike = paired(np.zeros(len(same)), same)
    longer = np.array([len(pair.tuned.split()) - len(pair.base.split()) for pair in kept])
    return JudgeResult(
        model=model,
        items=len(kept),
        unread=len(pairs) - len(kept),
        win_rate=0.5 + change.delta,
        lo=max(0.0, 0.5 + change.lo),
        hi=min(1.0, 0.5 + change.hi),
        agreement=alike.tuned,
        agreement_lo=max(0.0, alike.lo),
        agreement_hi=min(1.0, alike.hi),
        first_rate=float((first + (1 - second)).mean() / 2),
        win_rate_longer=_mean(scores[longer > 0]),
        win_rate_shorter=_mean(scores[longer < 0]),
        longer=int((longer > 0).sum()),
        shorter=int((longer < 0).sum()),
    )


def score_in_both_orders(ask: Ask, rubric: str, pair: Pair) -> float | None:
    """What the judge gives the pair's first answer (`tuned`), half for each order; None where one
    of the replies says nothing."""
    first = _score(ask, rubric, pair, tuned_first=True)
    second = _score(ask, rubric, pair, tuned_first=False)
    return None if first is None or second is None else (first + second) / 2


def _score(ask: Ask, rubric: str, pair: Pair, *, tuned_first: bool) -> float | None:
    """The tuned model's score in one order: 1, ½ or 0; None where the reply says nothing."""
    a, b = (pair.tuned, pair.base) if tuned_first else (pair.base, pair.tuned)
    choice = choice_of(ask(ASKED.format(rubric=rubric, prompt=pair.prompt, a=a, b=b)))
    if choice is None:
        return None
    return 0.5 if choice == "tie" else float((choice == "A") == tuned_first)


def _mean(scores: np.ndarray) -> float | None:
    return float(scores.mean()) if len(scores) else None
