"""Lost, or only mislaid: answers that tuning cost, asked again in other ways.

Two ways: with solved examples before the question, and after a few steps of training on other items
of the same benchmarks. What comes back so was not gone: the model no longer fell into the form in
which it was asked (spurious forgetting, Zheng et al. 2025, arXiv 2501.13453). Either way also
brings right answers where nothing was lost: so the items that both models got wrong are asked
beside, in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import torch

from myosotis.objectives.sft import SFT
from myosotis.objectives.total import total
from myosotis.records.schema import Recovery
from myosotis.retention.benchmarks.requests import LOGLIKELIHOOD, WRITTEN, Encoder
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Item, Suite, Task
from myosotis.retention.statistics.recovery import more, share
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.updates.base import Update

BATCH = 8
"""Items of a relearning step."""

Key = tuple[str, str]
"""An item: its benchmark, and its id there."""

Answers = Mapping[str, Mapping[str, tuple[float, float]]]
"""What base and tuned model scored, by benchmark and item."""


@dataclass(frozen=True)
class Lost:
    """The items to ask again, and those to learn from: `others` are neither lost nor never known,
    those that were not asked before first."""

    lost: frozenset[Key]
    never: frozenset[Key]
    others: dict[str, list[Item]]


def can_be_asked(task: Task) -> bool:
    """Whether a benchmark's items are right or wrong, and not written answers."""
    return task.accuracy_like and task.kind != WRITTEN


def lost_items(suite: Suite, answers: Answers) -> Lost:
    """Which items of the suite were lost, by what both models once scored."""
    lost, never = set[Key](), set[Key]()
    others: dict[str, list[Item]] = {}
    for task in filter(can_be_asked, suite):
        known = answers.get(task.name, {})
        fresh, kept = list[Item](), list[Item]()
        for item in task.items:
            before, after = known.get(item.id, (None, None))
            if before is None:
                fresh.append(item)
            elif not after:
                (lost if before else never).add((task.name, item.id))
            elif before:
                kept.append(item)
        others[task.name] = [*fresh, *kept]
    return Lost(frozenset(lost), frozenset(never), others)


def with_examples(
    suite: Suite, others: Mapping[str, Sequence[Item]], shots: int, encoder: Encoder
) -> Suite:
    """The suite with `shots` solved items of the same benchmark before every question."""

    def shown(item: Item, opening: str) -> Item:
        requests = [
            encoder.request(LOGLIKELIHOOD, (opening + request.text[0], *request.text[1:]))
            for request in item.requests
        ]
        return replace(item, requests=tuple(requests))

    tasks = []
    for task in suite:
        solved = [item.question for item in others[task.name][:shots]]
        opening = "".join(f"{question}\n\n" for question in solved)
        items = tuple(shown(item, opening) for item in task.items)
        tasks.append(replace(task, items=items, num_fewshot=len(solved)))
    return replace(suite, tasks=tuple(tasks))


def relearn(
    scorer: Scorer,
    update: Update,
    others: Mapping[str, Sequence[Item]],
    *,
    steps: int,
    lr: float,
    advance: Callable[[int], object] = lambda _: None,
) -> None:
    """Train the update in place for `steps` steps on the right answers of other items, the
    benchmarks in turn: AdamW at the rate `lr`, no warm-up."""
    trees = list(islice(_in_turn(others), steps * BATCH))
    optimizer = torch.optim.AdamW([p for _, p in update.parameters()], lr=lr, weight_decay=0.0)
    objective: Any = SFT()
    for start in range(0, len(trees), BATCH):
        batch = trees[start : start + BATCH]
        optimizer.zero_grad()
        with torch.enable_grad():
            total(
                scorer,
                objective,
                batch,
                scorer.batches(batch),
                normalizer=sum(tree.scored for tree in batch),
                kl_estimate=0.0,
                each=lambda _, loss: loss.backward(),
            )
        optimizer.step()
        advance(1)


def _in_turn(others: Mapping[str, Sequence[Item]]) -> Iterable[Tree]:
    """The right answer of one item after another, from every benchmark in turn, without end."""
    rings = [cycle(items) for items in others.values() if items]
    while rings:
        for ring in rings:
            item = next(ring)
            request = item.requests[item.gold[0] if item.gold else 0]
            yield Tree.of([request.windows[0].path()])


def recovery(
    way: str,
    amount: int,
    asked: Lost,
    now: Measurement,
    base: Measurement | None = None,
) -> tuple[Recovery, set[Key]]:
    """What one way brought back, and which of the lost items; `base` is the base asked alike."""
    right = _right(now)
    again, found = asked.lost & right, asked.never & right
    one, other = share(len(again), len(asked.lost)), share(len(found), len(asked.never))
    apart = more(one, other) if one is not None and other is not None else None
    tasks: dict[str, list[int]] = {}
    for name, item in sorted(asked.lost):
        count = tasks.setdefault(name, [0, 0])
        count[0] += (name, item) in again
        count[1] += 1
    told = Recovery(
        way=way,
        amount=amount,
        lost=len(asked.lost),
        again=len(again),
        again_lo=one and one.lo,
        again_hi=one and one.hi,
        never=len(asked.never),
        found=len(found),
        found_lo=other and other.lo,
        found_hi=other and other.hi,
        more=apart and apart.value,
        more_lo=apart and apart.lo,
        more_hi=apart and apart.hi,
        base_again=None if base is None else len(asked.lost & _right(base)),
        tasks=tasks,
    )
    return told, set(again)


def _right(measured: Measurement) -> frozenset[Key]:
    return frozenset(
        (name, item)
        for name, task in measured.tasks.items()
        for item, score in zip(task.items, task.primary, strict=True)
        if score
    )
