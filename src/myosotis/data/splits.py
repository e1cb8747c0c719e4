"""Which examples are held out: by content, never by their place in a file or the training seed.

What opens a conversation is hashed, and examples that open alike (case and white space aside) lie
on the same side. So no prompt is both learned and tested, adding lines to a file hardly moves the
others, and all trials of a sweep are measured on the same examples. Where records name a group (a
hospital, an author), a group lies on one side.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable

from myosotis.data.example import opening_key, pair_key
from myosotis.data.places import Place
from myosotis.data.sft import Example
from myosotis.utils.errors import ConfigError, DataError

VAL_FRACTION = 0.1
FEWEST = 4  # examples to hold out: two validate, two test, and task quality needs two
HELD_OUT_AT_MOST = 1000  # examples, when no fraction is given: more sharpen little and cost time


def take(examples: list[Example], count: int | None, seed: int) -> list[Example]:
    """A seeded subset, in the order of the file; it grows with `count`, never changes places."""
    if count is None or count >= len(examples):
        return examples
    if count < 1:
        raise ConfigError(f"data.*_items must be at least 1, or null for all (got {count})")
    ranked = sorted(range(len(examples)), key=lambda i: _rank(pair_key(examples[i]), seed))
    return [examples[i] for i in sorted(ranked[:count])]


def hold_out(
    examples: list[Example], count: int, seed: int, *, of_each: int = 0, parts: int = 1
) -> tuple[list[Example], list[Example], str]:
    """Take about `count` of `examples` out, whole groups of equal openings together.

    Returns what stays, what was taken, and what was grouped by: "opening", or "pair" when one
    opening covers more than half of the examples (plain text without prompts, one prompt for all):
    then only equal conversations stay together. Two different conversations are needed at least;
    neither side is ever empty. Where examples name groups, none lies on both sides ("group and
    opening", "group and pair", or "group" where too many share one of these), and at least one is
    taken for each of the `parts` that what is taken will be cut into; with fewer than one more than
    these, groups count for nothing. Of graded answers `of_each` of either grade are taken where
    there are enough, and one stays.
    """
    groups, by = _together(examples, parts + 1, seed)
    fewest = parts if by.startswith("group") else 1
    ranked = [groups[rank] for rank in sorted(groups)]
    taken, number = set[int](), 0
    for members in ranked:
        if len(taken) >= count and number >= fewest:
            break
        # A large group stays, rather than let the held-out part grow far beyond `count`.
        too_many = len(taken) + len(members) > max(2 * count, 1)
        if len(taken) + len(members) < len(examples) and not (number >= fewest and too_many):
            taken.update(members)
            number += 1
    if of_each and 2 * of_each <= count:
        taken = _with_each(examples, ranked, taken, of_each)
    stay = [example for i, example in enumerate(examples) if i not in taken]
    return stay, [examples[i] for i in sorted(taken)], by


def _with_each(
    examples: list[Example], ranked: list[list[int]], taken: set[int], of_each: int
) -> set[int]:
    """`taken` with whole groups put in the place of others, so that each grade is on both sides."""
    for grade in (True, False):
        holds = [group for group in ranked if any(examples[i].desirable is grade for i in group)]
        inside = [group for group in holds if taken.issuperset(group)]
        outside = [group for group in holds if group not in inside]
        while len(inside) < of_each and len(outside) > 1:
            inside.append(outside.pop(0))
            taken = taken.union(inside[-1])
            spare = next((g for g in reversed(ranked) if _spare(examples, taken, g, grade)), [])
            taken = taken.difference(spare)
        if not outside and len(inside) > 1:
            taken = taken.difference(inside.pop())
    return taken


def _spare(examples: list[Example], taken: set[int], group: list[int], grade: bool) -> bool:
    """Whether a group may be given back: it is taken, and says nothing of this grade."""
    return taken.issuperset(group) and all(examples[i].desirable is not grade for i in group)


def halves(examples: list[Example], seed: int) -> tuple[list[Example], list[Example]]:
    """Held-out examples as validation and test; equal openings stay together."""
    # Another seed than that of the first cut: by its ranks, all of these come early.
    graded = any(example.desirable is not None for example in examples)
    validation, test, _ = hold_out(examples, len(examples) // 2, seed + 1, of_each=int(graded))
    return validation, test


def require(examples: list[Example], different: int, file: Place, instead: str) -> None:
    distinct = set[str]()
    for example in examples:
        distinct.add(pair_key(example))
        if len(distinct) >= different:  # in most files the first few already are
            return
    raise DataError(
        f"{file} holds {len(distinct)} different records; at least {different} are needed to hold "
        "some out, which task quality is measured on",
        f"or give a file for that: {instead}",
    )


def held_out_count(total: int, fraction: float | None, fewest: int = FEWEST) -> int:
    """How many of `total` examples to hold out; without a fraction at least `fewest`, where a third
    is as many."""
    if fraction is None:
        least = max(2, min(fewest, total // 3))
        return min(max(least, round(total * VAL_FRACTION)), HELD_OUT_AT_MOST)
    if not 0 < fraction < 1:
        raise ConfigError(
            f"data.val_fraction must lie between 0 and 1 (got {fraction})",
            "task quality is measured on what is held out",
        )
    return max(2, round(total * fraction))


def named_group(example: Example) -> str | None:
    """The group that the example's record names; a text's own place is none."""
    return example.groups[0] if example.groups and example.groups[0] != example.where else None


Groups = dict[bytes, list[int]]
"""Which examples stay together, by their rank: of a million openings a hash, and not the text."""


def _together(examples: list[Example], fewest: int, seed: int) -> tuple[Groups, str]:
    """Which examples stay together, by a key that holds in a longer file, too; and by what. Groups
    count where there are `fewest` of them."""
    half = len(examples) / 2
    if len({group for e in examples if (group := named_group(e)) is not None}) >= fewest:
        for key, by in ((opening_key, "group and opening"), (pair_key, "group and pair")):
            groups = _joined(examples, key, seed)
            if max(map(len, groups.values())) <= half and len(groups) >= fewest:
                return groups, by
        return _grouped(examples, lambda e: named_group(e) or f"{pair_key(e)}\n", seed), "group"
    groups = _grouped(examples, opening_key, seed)
    if max(map(len, groups.values())) <= half:
        return groups, "opening"
    return _grouped(examples, pair_key, seed), "pair"


def _joined(examples: list[Example], key: Callable[[Example], str], seed: int) -> Groups:
    """Examples that share a group or a key, directly or through others, by the first of the names
    of their groups, or by the key where they name none."""
    parent: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    nodes = []
    for example in examples:
        own = ("key", key(example))
        nodes.append(own)
        if (group := named_group(example)) is not None:
            # The least name is the root: which one that is does not depend on the order.
            low, high = sorted((root(own), root(("group", group))))
            parent[high] = low
    joined: Groups = defaultdict(list)
    for i, node in enumerate(nodes):
        joined[_rank("\n".join(root(node)), seed)].append(i)
    return joined


def _grouped(examples: Iterable[Example], key: Callable[[Example], str], seed: int) -> Groups:
    groups: Groups = defaultdict(list)
    for i, example in enumerate(examples):
        groups[_rank(key(example), seed)].append(i)
    return groups


def _rank(text: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\n{text}".encode(), digest_size=16).digest()
