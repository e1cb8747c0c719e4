"""Harder pairs: of several wrong answers, the one that the base itself finds likeliest.

A data source may give an example `rivals`, wrong answers that look right. Which of them is hardest
is for the base to say: the largest mean log-prob a token becomes the rejected answer. The base's
log-probs of both answers come with it, so that no reference pass is needed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example
from myosotis.data.tokenize import Encoded
from myosotis.objectives.reference_logprobs import referenced
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Path, Tree


def hardened(
    encoded: Encoded, template: ChatRenderer, scorer: Scorer, *, model: str, dtype: str, what: str
) -> Encoded:
    """The same examples in the same order, each against its hardest rival.

    `scorer` scores with the base, of which `model` is the content hash. Rivals that do not fit are
    no candidates, and an example without any stays as it is. Where no text is scored (a reward
    model's), the answers' text is scored for this choice alone.
    """
    text = template.of_text()
    plain = text is template
    fitting = [_fitting(example, template, encoded.max_length) for example in encoded.examples]
    which = [i for i, sides in enumerate(fitting) if sides]
    asked = [
        Tree.of(path if plain else text.render(example) for example, path in fitting[i])
        for i in which
    ]
    scored = referenced(asked, scorer, model=model, dtype=dtype, what=f"{what}, rivals")
    examples, trees = list(encoded.examples), list(encoded.trees)
    for i, tree in zip(which, scored, strict=True):
        logp = np.asarray(tree.reference)
        best = 1 + int(np.argmax((logp / np.array(tree.sizes))[1:]))
        (_, chosen), (wrong, rejected) = fitting[i][0], fitting[i][best]
        examples[i] = replace(examples[i], rejected=wrong.completion, rivals=())
        trees[i] = Tree.of([chosen, rejected])
        if plain:
            trees[i] = replace(trees[i], reference=logp[[0, best]])
    return replace(encoded, examples=examples, trees=trees)


def _fitting(example: Example, template: ChatRenderer, most: int) -> list[tuple[Example, Path]]:
    """The right answer and its rivals that fit into `most` tokens, with their paths; nothing where
    there is no such rival, or the right answer does not fit."""
    if not example.rivals or (right := template.render(example)).length > most:
        return []
    rivals = [(other, template.render(other)) for other in map(example.answered, example.rivals)]
    fitting = [(other, path) for other, path in rivals if path.length <= most]
    return [(example, right), *fitting] if fitting else []
