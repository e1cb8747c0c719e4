"""Labels by rank: of all answers that the data have, the one that a model finds likeliest.

Nothing is generated, so an answer is always one of the labels (as lm-eval scores multiple choice).
The labels of a prompt are a tree: the prompt is read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from myosotis.data import kinds
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.few_shot import answer_only
from myosotis.data.kinds import Advance
from myosotis.data.sft import Example
from myosotis.evaluation.task_metrics import METRICS, TaskScore, compare
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.utils.errors import DataError

MOST = 256
"""Labels that are ranked; more are texts, and no labels."""
AS_GENERATED = {kinds.RANKED_ACCURACY: "label_accuracy", kinds.RANKED_MACRO_F1: "macro_f1"}
"""The metrics here, by what they are of generated labels."""


def labels_of(examples: Iterable[Example]) -> list[str]:
    """The different answers of a data set, in the order of the alphabet.

    Raises `DataError` where there is one alone, or more than `MOST`.
    """
    found = set[str]()
    for example in examples:
        found.add(example.completion.strip())
        if len(found) > MOST:
            break
    if not 1 < len(found) <= MOST:
        count = f"more than {MOST}" if len(found) > MOST else len(found)
        raise DataError(
            f"task.metric={kinds.RANKED_ACCURACY} ranks the different answers of the data set, and "
            f"there are {count}",
            "label_accuracy judges the answer that is generated",
        )
    return sorted(found)


def ranked(
    metrics: Sequence[str],
    scorer: Scorer,
    template: ChatRenderer,
    examples: Sequence[Example],
    labels: Sequence[str],
    advance: Advance | None = None,
) -> dict[str, TaskScore]:
    """Each of `metrics` on the labels that the model finds likeliest, by name.

    Of each label the log-probability of all its tokens is taken, the end of the turn among them;
    of equal ones the first counts.
    """
    trees = [
        Tree.of([template.render(answer_only(example.answered(label))) for label in labels])
        for example in examples
    ]
    said = [labels[int(np.argmax(one.logp))] for one in scorer.evaluate(trees, advance)]
    references = [example.completion for example in examples]
    return {name: _named(name, compare(AS_GENERATED[name], said, references)) for name in metrics}


def _named(name: str, score: TaskScore) -> TaskScore:
    return replace(score, metric=name, unit=METRICS[name].unit)
