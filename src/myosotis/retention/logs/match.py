"""Two logs brought item to item: what both have, and by name everything that differs.

What belongs here: the refusal to compare what was not asked alike, and the two ways around it that
a person may choose. `common` compares the items that both have; `other_setup` compares across
prompts, numbers of examples and task versions. What was left out or differs is said in either case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from myosotis.retention.logs.log import ItemText, Log, LoggedItem, LoggedTask
from myosotis.utils.errors import DataError
from myosotis.utils.escape import line

COMMON = "--common compares the tasks and items that both have."
OTHER_SETUP = "--other-setup compares all the same, and says so on the page."
SHOWN = 8
"""Differences that one message names; the rest is counted."""


class Pair(NamedTuple):
    """One task of both logs, with the same items in the base's order."""

    base: LoggedTask
    tuned: LoggedTask


@dataclass
class Matched:
    """Tasks by name, and what to say of them."""

    tasks: dict[str, Pair] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Difference(NamedTuple):
    """What differs, and whether it is about which items there are or how they were asked."""

    said: str
    of_items: bool


def match(base: Log, tuned: Log, *, common: bool = False, other_setup: bool = False) -> Matched:
    """The tasks and items of both logs. A is the base's, B the tuned model's.

    Raises `DataError` that names what differs, how much of it there is, and an example.
    """
    found = Matched()
    differences = list(_tasks_apart(base, tuned))
    for name in base.tasks:
        if name in tuned.tasks:
            pair = Pair(base.tasks[name], tuned.tasks[name])
            differences += _differences(pair, base, tuned)
            if (kept := _shared(pair)) is not None:
                found.tasks[name] = kept
    refused = [one for one in differences if not (common if one.of_items else other_setup)]
    if refused or not found.tasks:
        raise _refusal(base, tuned, refused or differences, bool(found.tasks))
    if base.tool and tuned.tool and base.tool != tuned.tool:
        found.notes.append(f"A was written by {base.tool}, B by {tuned.tool}.")
    if base.digest == tuned.digest:
        found.notes.append("A and B hold the same items with the same scores: is it one log twice?")
    found.notes += [_told(one) for one in differences]
    return found


def _told(one: Difference) -> str:
    return f"{one.said} {'Left out (--common).' if one.of_items else 'Compared (--other-setup).'}"


def _tasks_apart(base: Log, tuned: Log) -> Iterable[Difference]:
    for side, these, those in (("A", base, tuned), ("B", tuned, base)):
        if only := [name for name in these.tasks if name not in those.tasks]:
            listed = ", ".join(only[:6]) + (", …" if len(only) > 6 else "")
            yield Difference(f"Only {side} has {_count(len(only), 'task')}: {listed}.", True)


def _differences(pair: Pair, base: Log, tuned: Log) -> Iterable[Difference]:
    """What differs in one task, the items first."""
    name, ours, theirs = pair.base.name, pair.base.items, pair.tuned.items
    for side, these, those in (("A", ours, theirs), ("B", theirs, ours)):
        if only := [key for key in these if key not in those]:
            yield Difference(
                f"{name}: only {side} has {_count(len(only), 'item')}, e.g. {_key(only[0])}.", True
            )
    both = [(key, ours[key], theirs[key]) for key in ours if key in theirs]
    if other := [key for key, one, two in both if _differ(one.content, two.content)]:
        yield Difference(
            f"{name}: {_count(len(other), 'item')} of {len(both)} with the same number "
            f"{'is' if len(other) == 1 else 'are'} not the same document with the same answer, "
            f"e.g. {_key(other[0])}.",
            True,
        )
    for label, said in pair.base.setup.items():
        if (instead := pair.tuned.setup.get(label, said)) != said:
            yield Difference(
                f"{name}: the {label} is {line(said)[:80] or 'empty'} in A, "
                f"{line(instead)[:80] or 'empty'} in B.",
                False,
            )
    asked = [
        (key, one, two)
        for key, one, two in both
        if _differ(one.prompt, two.prompt) and not _differ(one.content, two.content)
    ]
    if asked:
        yield Difference(_prompts(name, asked, len(both), base, tuned), False)


def _differ(one: str, two: str) -> bool:
    """Where a log has no digest, nothing is known to differ."""
    return bool(one and two and one != two)


def _prompts(
    name: str,
    asked: list[tuple[str, LoggedItem, LoggedItem]],
    of: int,
    base: Log,
    tuned: Log,
) -> str:
    """Prompts that differ, with the place where the first of them part."""
    key, one, two = asked[0]
    why = [
        f"{what} {said} in A, {tuned.prompting[what]} in B"
        for what, said in base.prompting.items()
        if tuned.prompting.get(what, said) != said
    ]
    parted = _parted(_read(one.text).prompt, _read(two.text).prompt)
    explained = f" ({'; '.join(why)})" if why else ""
    return (
        f"{name}: the prompts of {_count(len(asked), 'item')} of {of} differ, e.g. {_key(key)}"
        f"{parted}{explained}."
    )


def _read(text: Callable[[], ItemText] | None) -> ItemText:
    return ItemText() if text is None else text()


def _parted(one: str, two: str) -> str:
    """`: “…A: ” against “…assistant”`, from a little before the first character that differs."""
    if one == two:
        return ""  # the choices or the end differ
    place = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), None)
    start = max(0, (min(len(one), len(two)) if place is None else place) - 12)
    cut = [line(text[start : start + 40]) for text in (one, two)]
    before = "…" if start else ""
    return f": “{before}{cut[0]}” against “{before}{cut[1]}”"


def _shared(pair: Pair) -> Pair | None:
    """The task with the items that are the same in both, in A's order; None without any."""
    base, tuned = pair
    keys = [
        key
        for key, item in base.items.items()
        if key in tuned.items and not _differ(item.content, tuned.items[key].content)
    ]
    if not keys:
        return None
    return Pair(*(replace(side, items={key: side.items[key] for key in keys}) for side in pair))


def _refusal(base: Log, tuned: Log, found: list[Difference], shares: bool) -> DataError:
    said = [f"  {one.said}" for one in found[:SHOWN]]
    if len(found) > SHOWN:
        said.append(f"  … and {len(found) - SHOWN} more differences.")
    what = "were not measured alike" if shares else "have no item in common"
    ways = [COMMON] if shares and any(one.of_items for one in found) else []
    ways += [OTHER_SETUP] if shares and any(not one.of_items for one in found) else []
    if not shares and base.kind != tuned.kind:
        ways.append(f"A is of {base.kind}, B of {tuned.kind}: they number items differently.")
    lines = [f"A ({base.place}) and B ({tuned.place}) {what}:", *said]
    return DataError("\n".join(lines), " ".join(ways))


def _count(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def _key(key: str) -> str:
    return f"item {line(key)[:60]}"
