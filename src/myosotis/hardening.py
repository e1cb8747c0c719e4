"""Harder pairs: of several wrong answers, the one that the base itself finds likeliest.

A data source may give an example `rivals`, wrong answers that look right. Which of them is hardest
is for the base to say: the largest mean log-prob a token becomes the rejected answer. The base's
log-probs of both answers come with it, so that no reference pass is needed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from myosotis.data.encode import Encoded, sides
from myosotis.data.formats import Example
from myosotis.data.templates import Template
from myosotis.reference import referenced
from myosotis.trees.score import Scorer
from myosotis.trees.tree import Tree


def hardened(
    encoded: Encoded, template: Template, scorer: Scorer, *, model: str, dtype: str, what: str
) -> Encoded:
    """The same examples in the same order, each against its hardest rival.

    `scorer` scores with the base, of which `model` is the content hash. Rivals that do not fit are
    no candidates, and an example without any stays as it is.
    """
    text = Template(template.tokenizer, template.kind)  # to the base, all of it is text
    rivals = [_fitting(example, template, encoded.max_length) for example in encoded.examples]
    which = [i for i, found in enumerate(rivals) if found]
    asked = [
        Tree.of(text.render(e) for e in (example, *map(example.answered, rivals[i])))
        for i in which
        for example in [encoded.examples[i]]
    ]
    scored = referenced(asked, scorer, model=model, dtype=dtype, what=f"{what}, rivals")
    examples, trees = list(encoded.examples), list(encoded.trees)
    for i, tree in zip(which, scored, strict=True):
        logp = np.asarray(tree.reference)
        best = int(np.argmax((logp / np.array(tree.sizes))[1:]))
        examples[i] = replace(examples[i], rejected=rivals[i][best], rivals=())
        trees[i] = Tree.of(template.render(side) for side in sides(examples[i]))
        if type(template) is Template:
            trees[i] = replace(trees[i], reference=logp[[0, 1 + best]])
    return replace(encoded, examples=examples, trees=trees)


def _fitting(example: Example, template: Template, most: int) -> list[str]:
    """The rivals that fit into `most` tokens; none where the right answer does not."""

    def fits(answer: Example) -> bool:
        return len(template.render(answer).ids) <= most

    if not fits(example):
        return []
    return [rival for rival in example.rivals if fits(example.answered(rival))]
