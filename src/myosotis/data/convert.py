"""A data set as an objective reads it: answers, pairs, or graded answers.

Pairs can serve all three: their chosen answers are learned from, or each side is graded. Graded
answers serve two: the desirable ones are learned from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from myosotis.data.example import Dataset
from myosotis.data.sft import Example
from myosotis.utils.errors import DataError

WHERE_FOUND = {
    "pairs": "data=pairs reads prompt, chosen and rejected; data=docstring_pairs needs no file",
    "grades": "data=graded reads prompt, completion and label; pairs serve too",
}


def viewed(dataset: Dataset, data_kind: str, objective: str) -> Dataset:
    """The data set as answers, pairs or grades. Raises `DataError` where it has no such thing."""
    examples = [example for part in dataset.parts().values() for example in part]
    paired = all(e.rejected is not None for e in examples)
    graded = all(e.desirable is not None for e in examples)
    if (data_kind == "pairs" and not paired) or (data_kind == "grades" and not (paired or graded)):
        raise DataError(
            f"objective={objective} learns from {data_kind}, and {dataset.name} has none",
            WHERE_FOUND[data_kind],
        )
    if data_kind == "grades":
        train, validation = (_graded(p) for p in (dataset.train, dataset.validation))
        # Held-out pairs stay pairs: which side a model prefers is the plainer question.
        test = dataset.test if paired else _graded(dataset.test)
        return replace(dataset, train=train, validation=validation, test=test)
    if data_kind == "answers" and (paired or graded):
        return _each(dataset, _answers)
    return dataset


def _each(dataset: Dataset, view: Callable[[list[Example]], list[Example]]) -> Dataset:
    parts = {part: view(examples) for part, examples in dataset.parts().items()}
    return replace(dataset, **parts)


def _answers(examples: list[Example]) -> list[Example]:
    """Chosen or desirable answers alone."""
    kept = [e for e in examples if e.desirable is not False]
    return [replace(e, rejected=None, desirable=None, rivals=()) for e in kept]


def _graded(examples: list[Example]) -> list[Example]:
    """Each answer with its grade, and the answer to another prompt beside it."""
    single: list[Example] = []
    for example in examples:
        if example.rejected is None:
            single.append(example)
            continue
        for answer, desirable in ((example, True), (example.answered(example.rejected), False)):
            single.append(replace(answer, rejected=None, desirable=desirable, rivals=()))
    return [replace(e, other=_next(single, i)) for i, e in enumerate(single)]


def _next(examples: list[Example], i: int) -> str:
    """The next answer, in a circle, that was given to another prompt. Raises `DataError`."""
    for k in range(1, len(examples)):
        other = examples[(i + k) % len(examples)]
        if other.prompt != examples[i].prompt:
            return other.completion
    raise DataError(
        f"all graded answers around {examples[i].where} are to one prompt",
        "the loss compares with answers to other prompts; more data, or another objective",
    )
