"""A data set as an objective reads it: answers, pairs, or graded answers.

Pairs can serve all three: their chosen answers are learned from, or each side is graded. Graded
answers serve two: the desirable ones are learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from myosotis.data.example import Dataset
from myosotis.data.sft import Example
from myosotis.data.stored_examples import GRADED, PAIRED, traits
from myosotis.utils.errors import DataError

WHERE_FOUND = {
    "pairs": "data=pairs reads prompt, chosen and rejected; data=docstring_pairs needs no file",
    "grades": "data=graded reads prompt, completion and label; pairs serve too",
}


_ALONE: dict[str, Any] = {"rejected": None, "rejected_turn": None, "rivals": ()}
"""What of an example is about other answers than its last."""


def viewed(dataset: Dataset, data_kind: str, objective: str) -> Dataset:
    """The data set as answers, pairs or grades. Raises `DataError` where it has no such thing."""
    known = [traits(part) for part in dataset.parts().values()]
    paired, graded = (all((one & bit).all() for one in known) for bit in (PAIRED, GRADED))
    if (data_kind == "pairs" and not paired) or (data_kind == "grades" and not (paired or graded)):
        raise DataError(
            f"objective={objective} learns from {data_kind}, and {dataset.name} has none",
            WHERE_FOUND[data_kind],
        )
    if data_kind == "grades":
        train, validation = (
            _graded(dataset.train, "train"),
            _graded(dataset.validation, "validation"),
        )
        # Held-out pairs stay pairs: which side a model prefers is the plainer question.
        test = dataset.test if paired else _graded(dataset.test, "test")
        return _with_balance(replace(dataset, train=train, validation=validation, test=test))
    if data_kind == "answers" and (paired or graded):
        learned = _each(dataset, _answers)
        if empty := [part for part, examples in learned.parts().items() if not examples]:
            raise DataError(
                f"{dataset.name}: no answer of the {empty[0]} part is one to give (label true)",
                MORE_HELD_OUT,
            )
        return learned
    return dataset


MORE_HELD_OUT = (
    "data.val_path=FILE and data.test_path=FILE hold out others; more are held out by "
    "data.val_fraction"
)
FEW, FEW_SHARE = 10, 0.05
"""Fewer answers of a kind than this, or a smaller share, are too few to be told from the others."""


def _with_balance(dataset: Dataset) -> Dataset:
    """The graded data set, with a sentence in its manifest where one kind is rare or missing.

    Raises `DataError` where none is to be given of those that are learned from, or of those that
    quality is measured on.
    """
    for part, examples in (("train", dataset.train), ("test", dataset.test)):
        if all(e.desirable is False for e in examples):
            raise DataError(
                f"{dataset.name}: none of {len(examples)} answers of the {part} part is one to "
                "give (label true)",
                MORE_HELD_OUT,
            )
    warnings = list(dataset.manifest.get("warnings", []))
    if dataset.test and all(e.desirable for e in dataset.test):
        warnings.append(
            f"all {len(dataset.test)} answers of the test part have label true: what is called "
            "separation there is how likely they are, and says nothing of others"
        )
    given = [e.desirable for e in dataset.train]
    counts = {True: given.count(True), False: given.count(False)}
    rarer = min(counts, key=lambda kind: counts[kind])
    few = counts[rarer]
    if few < FEW or few / len(given) < FEW_SHARE:
        told = f"label {'true' if rarer else 'false'}"
        sentence = f"{few} of {len(given)} training answers have {told}: "
        sentence += "too few to tell the two apart" if few else "there is nothing to be told apart"
        warnings.append(sentence)
    return replace(dataset, manifest={**dataset.manifest, "warnings": warnings})


def _each(dataset: Dataset, view: Callable[[Sequence[Example]], list[Example]]) -> Dataset:
    parts = {part: view(examples) for part, examples in dataset.parts().items()}
    return replace(dataset, **parts)


def _answers(examples: Sequence[Example]) -> list[Example]:
    """Chosen or desirable answers alone."""
    kept = [e for e in examples if e.desirable is not False]
    return [replace(e, **_ALONE, desirable=None) for e in kept]


def _graded(examples: Sequence[Example], part: str) -> list[Example]:
    """Each answer with its grade, and the answer to another prompt beside it."""
    single: list[Example] = []
    for example in examples:
        if example.rejected is None:
            single.append(example)
            continue
        for answer, desirable in ((example, True), (example.with_rejected(), False)):
            single.append(replace(answer, **_ALONE, desirable=desirable))
    return [replace(e, other=_next(single, i, part)) for i, e in enumerate(single)]


def _next(examples: list[Example], i: int, part: str) -> str:
    """The next answer, in a circle, that was given to another prompt. Raises `DataError`."""
    for k in range(1, len(examples)):
        other = examples[(i + k) % len(examples)]
        if other.prompt != examples[i].prompt:
            return other.completion
    count = len(examples)
    size = f"{count} graded answer{'s' * (count > 1)}" + ", all to one prompt" * (count > 1)
    more = "more data" if part == "train" else MORE_HELD_OUT
    raise DataError(
        f"the {part} part is too small: it holds {size}",
        f"the loss compares with answers to other prompts; {more}",
    )
