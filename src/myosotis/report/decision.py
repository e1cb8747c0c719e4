"""The decision of a study in words: which setting to ship, why, and how sure that is.

What belongs here: from a choice to sentences and the table beside them. How it is made is in
`selection.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from myosotis.records.schema import RunRecord
from myosotis.records.verdict import Verdict
from myosotis.report import phrases
from myosotis.report.grouping import ConfigGroup, Study, study
from myosotis.report.narrator import ABILITY, EXPLAINED
from myosotis.report.numbers import Numbers
from myosotis.report.selection import Choice, GroupStats, best_run, choose, group_stats


def headline(found: Study, choice: Choice) -> str:
    """The decision in one sentence."""
    n = len(found.groups)
    if choice.how == "different":
        return f"{n} settings, measured on different tasks."
    if choice.how == "unmeasured":
        return f"{phrases.plural(n, 'setting')}, none measured on both its task and the benchmarks."
    if choice.group is None:
        return f"None of {phrases.plural(n, 'setting')} stayed within the retention budget."
    name = choice.group.label
    claimed = group_stats(choice.group, choice.claimed_on).verdict
    if choice.how == "retained" and claimed == Verdict.RETAINED:
        return f"Ship {name}: of the settings within budget, it learned most."
    if claimed == Verdict.FORGOTTEN:
        return f"{name} was selected, but on {_fresh_items(choice)} it is forgotten: over budget."
    return f"Best candidate: {name}. {_doubt(choice, claimed)}"


def _doubt(choice: Choice, claimed: str) -> str:
    """Why the choice is not simply shipped."""
    assert choice.group is not None
    fresh = _fresh_items(choice)
    slipped = f"on {fresh} alone it slipped: {EXPLAINED[Verdict.SLIPPED]}"
    if group_stats(choice.group).verdict == Verdict.RETAINED:
        but = f"{fresh} alone are too few to confirm it"
        if claimed == Verdict.SLIPPED:
            but = slipped
        elif claimed == Verdict.RETAINED:
            but = "the selection half alone has too few to confirm it"
        return f"On all items it stays within budget; {but}."
    if choice.how == "unsettled":
        return "No setting could be confirmed within budget."
    if claimed == Verdict.SLIPPED:
        return f"{slipped[:1].upper()}{slipped[1:]}."
    return f"{fresh[:1].upper()}{fresh[1:]} are too few to confirm that it stays within budget."


def _fresh_items(choice: Choice) -> str:
    """`the 60 fresh items`: those of the mean's benchmarks that had no part in the choice."""
    if choice.run is None or choice.run.suite_verdict is None or choice.claimed_on != "report":
        return "the items it is reported on"
    tasks = choice.run.suite_verdict.tasks
    items = sum((row.n or 0) // 2 for row in choice.run.retention if row.task in tasks)
    return f"the {phrases.count(items)} fresh items" if items else "the fresh items"


def ledes(found: Study, choice: Choice, numbers: Numbers) -> list[str]:
    """Why, with the numbers, and how sure that is."""
    if choice.group is None:
        return []
    return [
        _basis(choice),
        _claim(choice, numbers),
        " ".join(filter(None, [_neighbours(choice), _seeds(choice)])),
    ]


def sentences(records: Sequence[RunRecord]) -> list[str]:
    """The result of a sweep for a terminal or a note: how many ended, the decision and why, and
    what failed."""
    found = study(records)
    choice = choose(found)
    done = sum(record.status == "FINISHED" for record in records)
    said = [f"{done} of {len(records)} trials finished.", headline(found, choice)]
    if choice.group is not None:
        said += filter(None, ledes(found, choice, Numbers.of(found)))
    elif choice.how == "unmeasured" and (best := best_run(records)) is not None:
        said.append(f"{best.run_name} learned most.")
    return said + [f"{r.run_name} failed: {r.error}" for r in records if r.status == "FAILED"]


def _basis(choice: Choice) -> str:
    among = {
        "retained": "Of the settings whose whole interval lies within budget",
        "unsettled": "Of the settings that are not forgotten and whose estimate lies within budget",
    }[choice.how]
    if choice.chosen_on == "selection":
        return (
            f"{among}, it learned most on the selection half of the held-out examples and "
            "benchmark items. The numbers that follow are from the reporting half: fresh items, "
            "which had no part in the choice."
        )
    return (
        f"{among}, it learned most. These records do not say what each half of the items shows, so "
        "it was chosen on the items it is reported on, which flatters it: measure it again on "
        "fresh items before relying on it."
    )


def _claim(choice: Choice, numbers: Numbers) -> str:
    assert choice.group is not None
    seen = group_stats(choice.group, choice.claimed_on)
    budget = (
        f"; the budget allows a loss of {numbers.kept.amount(seen.epsilon)}" if seen.epsilon else ""
    )
    return (
        f"Its {phrases.label(numbers.metric)} changed by {numbers.gain(seen.gain)} {numbers.unit} "
        f"(95 % interval {numbers.gain_interval(seen.gain)}), its mean accuracy on the benchmarks "
        f"by {numbers.loss(seen.kept)} points ({numbers.loss_interval(seen.kept)}){budget}."
    )


NAMED = 5
"""Settings that a sentence names; of more it says the number, too."""


def _neighbours(choice: Choice) -> str:
    """What else could be shipped as well, and what learned more."""
    said = []
    tied = [s for s in choice.rivals if compared(s, choice)]
    if tied:
        said.append(f"What it learned is statistically tied with {_named(tied)}.")
        cheapest = min([*tied, choice.group], key=_seconds) if choice.group else None
        if cheapest is not None and cheapest is not choice.group and _seconds(cheapest) < 1e300:
            said.append(f"Of these, {cheapest.label} trained fastest.")
    single = [s for s in choice.rivals if len(s.runs) == 1]
    if single and choice.group is not None and len(choice.group.runs) > 1:
        said.append(f"One seed tells nothing of how it compares with {_named(single)}.")
    if choice.greedier:
        names = [s.label for s in choice.greedier[:3]]
        more = f" and {len(choice.greedier) - 3} more" if len(choice.greedier) > 3 else ""
        one = " with one seed" if all(len(s.runs) == 1 for s in choice.greedier) else ""
        said.append(
            f"{phrases.listed(names)}{more} learned more{one}, but could not be confirmed within "
            "budget."
        )
    return " ".join(said)


def compared(group: ConfigGroup, choice: Choice) -> bool:
    """Whether both have the seeds that it takes to tell a setting from the choice."""
    return choice.group is not None and min(len(group.runs), len(choice.group.runs)) > 1


def _named(groups: Sequence[ConfigGroup]) -> str:
    """`2 settings: a and b`; of many the first few."""
    names = [s.label for s in groups[:NAMED]]
    more = len(groups) - len(names)
    many = f"{phrases.plural(len(groups), 'setting')}: " if len(groups) > 1 else ""
    return many + (f"{', '.join(names)} and {more} more" if more else phrases.listed(names))


def _seconds(group: ConfigGroup) -> float:
    known = [s for run in group.runs if (s := run.cost.get("train_seconds")) is not None]
    return sum(s / len(known) for s in known) if known else float("inf")


def _seeds(choice: Choice) -> str:
    assert choice.group is not None
    seeds = len(choice.group.runs)
    if seeds > 1 and choice.run is not None:
        return (
            f"The numbers are means over its {seeds} seeds; of these, ship {choice.run.run_name}."
        )
    return (
        "It ran with one seed: these intervals do not include how it would do with another, and it "
        "is not called better than any other setting."
    )


def tiles(choice: Choice, numbers: Numbers) -> list[dict[str, str]]:
    """The three numbers a reader takes away."""
    if choice.group is None:
        return []
    assert choice.run is not None
    seen = group_stats(choice.group, choice.claimed_on)
    where = "fresh items (reporting half)" if choice.claimed_on == "report" else "all items"
    gain = seen.gain
    sure = gain is not None and gain.lo is not None and gain.lo > 0
    record = choice.run
    trainable = record.update.trainable
    return [
        {
            "label": "Learned",
            "value": numbers.gain(gain),
            "unit": numbers.unit,
            "note": f"{phrases.label(numbers.metric)}, on {where}",
            "kind": "retained" if sure else "",
        },
        {
            "label": ABILITY,
            "value": numbers.loss(seen.kept),
            "unit": "points",
            "note": f"mean accuracy, on {where}; budget −{numbers.kept.amount(seen.epsilon)}",
            "kind": seen.verdict,
        },
        {
            "label": "Cost",
            "value": phrases.duration(record.cost.get("train_seconds")),
            "note": f"of training; {phrases.large(trainable)} parameters"
            if trainable
            else "of training",
        },
    ]


def table(choice: Choice, numbers: Numbers) -> dict[str, Any] | None:
    """The chosen setting beside those that could take its place."""
    if choice.group is None:
        return None
    entries = [(choice.group, "chosen", "retained")]
    entries += [
        (
            s,
            "statistically tied" if compared(s, choice) else "one seed: not told apart",
            "inconclusive",
        )
        for s in choice.rivals[:NAMED]
    ]
    entries += [
        (s, "learned more, not confirmed within budget", "slipped") for s in choice.greedier[:4]
    ]
    return {
        "rows": [
            {
                "number": s.number,
                "label": s.label,
                "why": why,
                "kind": kind,
                "chosen": cells(group_stats(s, choice.chosen_on), numbers),
                "claimed": cells(group_stats(s, choice.claimed_on), numbers),
            }
            for s, why, kind in entries
        ],
        "halved": choice.chosen_on == "selection",
    }


def cells(seen: GroupStats, numbers: Numbers) -> dict[str, str]:
    """Gain, loss and verdict of a setting, written."""
    return {
        "gain": numbers.gain(seen.gain),
        "gain_interval": numbers.gain_interval(seen.gain),
        "kept": numbers.loss(seen.kept),
        "kept_interval": numbers.loss_interval(seen.kept),
        "verdict": seen.verdict,
    }
