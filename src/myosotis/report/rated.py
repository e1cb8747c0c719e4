"""What people, or a judge, said of the answers of base and tuned model, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from myosotis.records.schema import JudgeResult, RatingResult, RefusalJudge
from myosotis.report import phrases


def ratings_said(given: RatingResult | None) -> list[str]:
    """What people said who did not know whose answer was whose; empty without ratings."""
    if given is None or given.win_rate is None:
        return []
    told = [
        f"{phrases.plural(given.ratings, 'rating')} of {phrases.plural(given.items, 'item')} by "
        f"{phrases.plural(given.raters, 'rater')}: the tuned model wins "
        f"{phrases.percent(given.win_rate)} (95 % interval {phrases.percent(given.lo)} to "
        f"{phrases.percent(given.hi)}; a tie counts half). {phrases.count(given.wins)} wins, "
        f"{phrases.count(given.ties)} ties, {phrases.count(given.losses)} losses."
    ]
    if given.agreement is not None:
        told.append(
            f"Two raters of one item agree in {phrases.percent(given.agreement)} of the pairs "
            f"({phrases.percent(given.agreement_lo)} to {phrases.percent(given.agreement_hi)})."
        )
    return told


def judge_said(given: JudgeResult | None) -> list[str]:
    """What a language model said, and how far it can be trusted; empty without a judge."""
    if given is None or given.win_rate is None:
        return []
    unread = f"; {phrases.count(given.unread)} more got no choice" if given.unread else ""
    told = [
        f"Judged by {given.model}, {phrases.plural(given.items, 'pair')} in both orders: the tuned "
        f"model wins {phrases.percent(given.win_rate)} (95 % interval {phrases.percent(given.lo)} "
        f"to {phrases.percent(given.hi)}; a tie counts half{unread}).",
        f"Both orders say the same in {phrases.percent(given.agreement)} "
        f"({phrases.percent(given.agreement_lo)} to {phrases.percent(given.agreement_hi)}); what "
        f"stands first wins {phrases.percent(given.first_rate)}.",
    ]
    if given.longer or given.shorter:
        told.append(
            f"Where the tuned model's answer is the longer one it wins "
            f"{phrases.percent(given.win_rate_longer)} (n={phrases.count(given.longer)}), where it "
            f"is the shorter one {phrases.percent(given.win_rate_shorter)} "
            f"(n={phrases.count(given.shorter)})."
        )
    return told


def refusals_said(given: Sequence[RefusalJudge]) -> list[str]:
    """What a language model said of refusals, and how often the rules say the same."""
    return [
        f"Refusals judged by {one.model}: {one.task} is {phrases.percent(one.base)} for the base "
        f"and {phrases.percent(one.tuned)} for the tuned model (95 % interval of the change "
        f"{phrases.percent(one.lo)} to {phrases.percent(one.hi)}, exact McNemar p "
        f"{phrases.p_value(one.p)}; n={phrases.count(one.items)}). It agrees with the rules on "
        f"{phrases.percent(one.agreement)} of the answers."
        for one in given
    ]
