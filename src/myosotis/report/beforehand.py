"""What a measurement can show, told before it is made: in words.

What belongs here: sentences on `DetectableEffect` (a fixed set of items) and `Outlook` (rounds
until it is settled). What a run did show is in `narrator.py`.
"""

from __future__ import annotations

import math

from myosotis.records.verdict import MIN_ITEMS, DetectableEffect, Outlook, Verdict
from myosotis.report.phrases import scale


def outlook(expected: Outlook) -> str:
    """How likely the verdict will be settled, in one line."""
    budget = scale("acc", "", -expected.epsilon, expected.epsilon).amount(expected.epsilon)
    asked = f"{expected.items:,} items of each benchmark first"
    if expected.most != expected.items:
        asked += f", then more until the verdict is settled, {expected.most:,} at most"
    return (
        f"their mean, budget {budget}: {asked}. If {expected.discordant * 100:g} % of the items "
        "change, a model that lost nothing is called retained with a chance of "
        f"{_chance(expected.retained)} (after {expected.items_retained:,.0f} items on average), "
        "and one "
        f"that lost twice the budget forgotten with {_chance(expected.forgotten)} "
        f"(after {expected.items_forgotten:,.0f})."
    )


def _chance(share: float) -> str:
    """In per cent, and never as if it were certain."""
    if share > 0.99:
        return "more than 99 %"
    return f"{share * 100:.0f} %" if share >= 0.01 else "less than 1 %"


def detectable(effect: DetectableEffect) -> str:
    """What the items of a benchmark can show, in one line: accuracies, in points."""
    s = scale("acc", "", -effect.slipped_from, effect.slipped_from)
    head = f"{effect.task}: {effect.items:,} items, budget {s.amount(effect.epsilon)}."
    if effect.items < MIN_ITEMS:
        return f"{head} Too few for any verdict (at least {MIN_ITEMS})."
    can = "they can confirm “retained”"
    if Verdict.RETAINED not in effect.verdicts:
        each = math.ceil(effect.retained_items / effect.tasks)
        can = (
            f"confirming “retained” needs about {effect.retained_items:,} items "
            f"(retention.items={each})"
        )
    return (
        f"{head} If {effect.discordant * 100:g} % of the items change: smallest detectable loss "
        f"{s.amount(effect.slipped_from)}; smallest provably over budget "
        f"{s.amount(effect.forgotten_from)}; {can}."
    )
