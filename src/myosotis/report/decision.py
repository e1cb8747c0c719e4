"""The decision of a study in words: which setting to ship, why, and how sure that is.

What belongs here: from a choice to sentences and the table beside them. How it is made is in
`selection.py`.
"""

from __future__ import annotations

from typing import Any

from myosotis.report import phrases
from myosotis.report.grouping import ConfigGroup, Study
from myosotis.report.numbers import Numbers, plural
from myosotis.report.selection import Choice, GroupStats, shown


def headline(found: Study, choice: Choice) -> str:
    """The decision in one sentence."""
    n = len(found.settings)
    if choice.how == "different":
        return f"{n} settings, measured on different tasks."
    if choice.how == "unmeasured":
        return f"{plural(n, 'setting')}, none measured on both its task and the benchmarks."
    if choice.setting is None:
        return f"None of {plural(n, 'setting')} kept within the retention budget."
    name = choice.setting.label
    if choice.how == "unsettled":
        return f"No setting is shown to keep within the budget; {name} is the best guess."
    claimed = shown(choice.setting, choice.claimed_on).verdict
    if claimed == "retained":
        return f"Ship {name}: of what kept within the budget, it learned most."
    if claimed == "forgotten":
        return f"{name} was chosen, but is over the budget on fresh items."
    return f"{name} is the choice; that it keeps within the budget is not confirmed."


def ledes(found: Study, choice: Choice, numbers: Numbers) -> list[str]:
    """Why, with the numbers, and how sure that is."""
    if choice.setting is None:
        return []
    return [
        _basis(found, choice),
        _claim(choice, numbers),
        " ".join(filter(None, [_neighbours(choice), _seeds(choice)])),
    ]


def _basis(found: Study, choice: Choice) -> str:
    among = {
        "retained": "of the settings whose whole interval lies inside the retention budget",
        "unsettled": "of the settings that are not shown to have lost more than the budget and are "
        "estimated to be inside it",
    }[choice.how]
    if choice.chosen_on == "select":
        return (
            f"Chosen on one half of the held-out examples and benchmark items as the one that "
            f"learned most {among}; what follows is measured on the other half, which had no part "
            "in the choice."
        )
    return (
        f"It learned most {among}. These records do not say what each half of the items shows, so "
        "it was chosen on the items it is reported on, which flatters it: measure it again on "
        "fresh items before relying on it."
    )


def _claim(choice: Choice, numbers: Numbers) -> str:
    assert choice.setting is not None
    seen = shown(choice.setting, choice.claimed_on)
    budget = (
        f"; the budget allows a loss of {numbers.kept.amount(seen.epsilon)}" if seen.epsilon else ""
    )
    return (
        f"Its {phrases.label(numbers.metric)} changed by {numbers.gain(seen.gain)} {numbers.unit} "
        f"(95 % interval {numbers.gain_interval(seen.gain)}), its mean accuracy on the benchmarks "
        f"by {numbers.loss(seen.kept)} points ({numbers.loss_interval(seen.kept)}){budget}."
    )


def _neighbours(choice: Choice) -> str:
    """What else could be shipped as well, and what learned more."""
    said = []
    if choice.rivals:
        names = [s.label for s in choice.rivals]
        shown_names = (
            phrases.listed(names) if len(names) <= 4 else plural(len(names), "other setting")
        )
        said.append(f"What it learned cannot be told from {shown_names}.")
        cheapest = min([*choice.rivals, choice.setting], key=_seconds) if choice.setting else None
        if cheapest is not None and cheapest is not choice.setting and _seconds(cheapest) < 1e300:
            said.append(f"Of these, {cheapest.label} trained fastest.")
    if choice.greedier:
        names = [s.label for s in choice.greedier[:3]]
        more = f" and {len(choice.greedier) - 3} more" if len(choice.greedier) > 3 else ""
        learned = "learned more, and is" if len(choice.greedier) == 1 else "learned more, and are"
        said.append(f"{phrases.listed(names)}{more} {learned} not shown to be inside the budget.")
    return " ".join(said)


def _seconds(setting: ConfigGroup) -> float:
    known = [s for run in setting.runs if (s := run.cost.get("train_seconds")) is not None]
    return sum(s / len(known) for s in known) if known else float("inf")


def _seeds(choice: Choice) -> str:
    assert choice.setting is not None
    seeds = len(choice.setting.runs)
    if seeds > 1 and choice.run is not None:
        return f"The numbers are over its {seeds} seeds; of these, ship {choice.run.run_name}."
    return "It ran with one seed: how it would do with another is not in these intervals."


def tiles(choice: Choice, numbers: Numbers) -> list[dict[str, str]]:
    """The three numbers a reader takes away."""
    if choice.setting is None:
        return []
    assert choice.run is not None
    seen = shown(choice.setting, choice.claimed_on)
    where = "the half not used to choose" if choice.claimed_on == "report" else "all items"
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
            "label": "Kept",
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
    if choice.setting is None:
        return None
    entries = [(choice.setting, "chosen", "retained")]
    entries += [(s, "learned as much", "inconclusive") for s in choice.rivals[:4]]
    entries += [(s, "not inside the budget", "slipped") for s in choice.greedier[:4]]
    return {
        "rows": [
            {
                "number": s.number,
                "label": s.label,
                "why": why,
                "kind": kind,
                "chosen": cells(shown(s, choice.chosen_on), numbers),
                "claimed": cells(shown(s, choice.claimed_on), numbers),
            }
            for s, why, kind in entries
        ],
        "halved": choice.chosen_on == "select",
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
