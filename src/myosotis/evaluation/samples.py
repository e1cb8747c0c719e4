"""What is worth showing beside the numbers: items that were lost, and what both models wrote."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from myosotis.data.sft import Example
from myosotis.evaluation.evaluator import EvalResult
from myosotis.records.schema import Flip, Sample, Wording
from myosotis.retention.benchmarks.scores import Measurement, TaskScores
from myosotis.retention.benchmarks.task import Suite, Task
from myosotis.retention.flips import in_turn
from myosotis.retention.statistics.paired import paired


def flips(suite: Suite, base: Measurement, tuned: Measurement) -> list[Flip]:
    """Items answered right before and wrong after, as many as a record shows."""
    by_task: list[list[Flip]] = []
    for task in suite:
        before, after = base.tasks[task.name], tuned.tasks[task.name]
        flipped = _written_flips if before.texts else _chosen_flips
        by_task.append(flipped(task, before, after))
    return in_turn(by_task)


def _chosen_flips(task: Task, before: TaskScores, after: TaskScores) -> list[Flip]:
    return [
        Flip(
            task=task.name,
            item=item.id,
            prompt=item.prompt,
            choices=list(item.choices),
            gold=item.gold[0] if item.gold else None,
            base_choice=int(was),
            tuned_choice=int(now),
        )
        for item, was, now in zip(task.items, before.choice, after.choice, strict=True)
        if was in item.gold and now not in item.gold
    ]


def _written_flips(task: Task, before: TaskScores, after: TaskScores) -> list[Flip]:
    """The two answers in place of choices; the base's is the right one."""
    told = zip(task.items, before.primary, after.primary, before.texts, after.texts, strict=True)
    return [
        Flip(task.name, item.id, item.prompt, [was_said, now_said], 0, 0, 1)
        for item, was, now, was_said, now_said in told
        if was == 1 and now == 0
    ]


def samples(examples: Sequence[Example], base: EvalResult, tuned: EvalResult) -> list[Sample]:
    """Held-out prompts with the reference, and what both models wrote."""
    with_texts = [name for name, q in base.quality.items() if q.texts]
    if not with_texts:
        return []
    before, after = base.quality[with_texts[0]], tuned.quality[with_texts[0]]
    return [
        Sample(e.prompt[-1].content, e.completion, was, now)
        for e, was, now in zip(examples, before.texts, after.texts, strict=False)
    ]


def wording(samples: Sequence[Sample]) -> Wording | None:
    """How the answers are worded; None without any."""
    if not samples:
        return None
    base, tuned = ([getattr(s, side).split() for s in samples] for side in ("base", "tuned"))
    lengths = [np.array([float(len(words)) for words in said]) for said in (base, tuned)]
    change = paired(*lengths)
    return Wording(
        n=len(samples),
        words_base=change.base,
        words_tuned=change.tuned,
        words_lo=change.lo,
        words_hi=change.hi,
        distinct_base=[distinct(base, n) for n in (1, 2)],
        distinct_tuned=[distinct(tuned, n) for n in (1, 2)],
    )


def distinct(answers: Sequence[Sequence[str]], n: int) -> float | None:
    """distinct-n (Li et al. 2016): different runs of n words over all words written."""
    runs = {tuple(words[i : i + n]) for words in answers for i in range(len(words) - n + 1)}
    total = sum(map(len, answers))
    return len(runs) / total if total else None
