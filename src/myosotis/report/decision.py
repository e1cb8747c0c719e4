"""The decision of a study in words: which setting to ship, why, and how sure that is.

What belongs here: from a choice to sentences and the table beside them. How it is made is in
`selection.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from myosotis.records.schema import RunRecord
from myosotis.records.verdict import OPEN, Verdict
from myosotis.report import phrases, remedy
from myosotis.report.grouping import ConfigGroup, Study, study
from myosotis.report.narrator import EXPLAINED
from myosotis.report.numbers import Numbers
from myosotis.report.run_verdict import items_of
from myosotis.report.selection import Choice, GroupStats, best_run, choose, group_stats, half_of


def headline(found: Study, choice: Choice) -> str:
    """The decision in one sentence."""
    n = len(found.groups)
    if choice.how == "different":
        return f"{n} settings, measured on different tasks: none is better than another."
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
        return "all items"
    tasks = choice.run.suite_verdict.tasks
    items = sum((row.n or 0) // 2 for row in choice.run.retention if row.task in tasks)
    return f"the {phrases.count(items)} fresh items" if items else "the fresh items"


def ledes(found: Study, choice: Choice, numbers: Numbers) -> list[str]:
    """Why, with the numbers, how sure that is, and what would make it sure."""
    if choice.group is None:
        return []
    return [
        _basis(choice),
        why(choice, numbers),
        " ".join(filter(None, [tied(choice), _seeds(choice), settle(choice)])),
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


def why(choice: Choice, numbers: Numbers) -> str:
    """What the choice learned and lost, on the items that had no part in choosing it."""
    if choice.group is None:
        return ""
    seen = group_stats(choice.group, choice.claimed_on)
    budget = (
        f"; the budget allows a loss of {numbers.kept.amount(seen.epsilon)}" if seen.epsilon else ""
    )
    on = _fresh_items(choice)
    return (
        f"On {on} its {phrases.label(numbers.metric)} changed by {numbers.gain(seen.gain)} "
        f"{numbers.unit} "
        f"(95 % interval {numbers.gain_interval(seen.gain)}), its mean accuracy on the benchmarks "
        f"by {numbers.loss(seen.kept)} points ({numbers.loss_interval(seen.kept)}){budget}."
    )


NAMED = 5
"""Settings that a sentence names; of more it says the number, too."""


def tied(choice: Choice) -> str:
    """What else could be shipped as well, which of it is cheapest, and what learned more."""
    said = []
    equals = [s for s in choice.rivals if compared(s, choice)]
    if equals:
        said.append(f"What it learned is statistically tied with {_named(equals)}.")
        said += filter(None, [_cheapest(equals, choice)])
    single = [s for s in choice.rivals if len(s.runs) == 1]
    if single and choice.group is not None and len(choice.group.runs) > 1:
        with_what = _named(single) if len(single) < 3 else f"{len(single)} other settings"
        said.append(f"One seed tells nothing of how it compares with {with_what}.")
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


def _cheapest(equals: Sequence[ConfigGroup], choice: Choice) -> str:
    """Which of the choice and its equals trains the fewest parameters. Not which was fastest: times
    of single runs differ by chance."""
    assert choice.group is not None
    sizes = {s.number: _parameters(s) for s in (choice.group, *equals)}
    known = [size for size in sizes.values() if size is not None]
    if len(known) < len(sizes) or min(known) == max(known):
        return ""
    fewest = [s for s in (choice.group, *equals) if sizes[s.number] == min(known)]
    size = f"({phrases.large(min(known))})"
    if choice.group in fewest:
        return f"Of these, none trains fewer parameters than it does {size}."
    verb = "trains" if len(fewest) == 1 else "train"
    return f"Cheapest of these: {_names(fewest)} {verb} the fewest parameters {size}."


def _parameters(group: ConfigGroup) -> int | None:
    return group.runs[0].update.trainable if group.runs else None


def _names(groups: Sequence[ConfigGroup]) -> str:
    """A few settings by name; of more, how many."""
    names = [s.label for s in groups[:3]]
    return phrases.listed([*names, f"{len(groups) - 3} more"] if len(groups) > 3 else names)


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


def settle(choice: Choice) -> str:
    """What would confirm the choice on fresh items; empty where they do, or say that it cannot be.

    The fresh items are half of all, and are asked anew of every trial.
    """
    if choice.group is None or choice.run is None:
        return ""
    if group_stats(choice.group, choice.claimed_on).verdict not in OPEN:
        return ""
    suite = half_of(choice.run, choice.claimed_on).suite
    share = 2 if choice.claimed_on == "report" else 1
    needed = suite.needed_items if suite is not None else None
    tasks = suite.tasks if suite is not None else []
    rows = [row for row in choice.run.retention if row.task in tasks]
    found = items_of(choice.run, rows, None if needed is None else share * needed)
    return remedy.settled_by(found, " per trial")


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
