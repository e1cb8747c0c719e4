"""Examples shown in a prompt: what the base can do with a few solved ones in front."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example, Message
from myosotis.trees.tree import Path, Tree


def answer_only(example: Example) -> Example:
    """The example with only the last answer scored."""
    return replace(example, completion_only=True)


def choose_shots(examples: Sequence[Example], k: int, seed: int = 0) -> list[Example]:
    """`k` training examples by seed; fewer when there are not as many."""
    chosen = random.Random(seed).sample(range(len(examples)), min(k, len(examples)))
    return [examples[i] for i in chosen]


def few_shot_prompt(example: Example, shots: Sequence[Example], template: ChatRenderer) -> Example:
    """The example with `shots` before its question; only its own answer remains scored.

    In a chat the shots are earlier turns, without their system messages; the example's own comes
    first. Without a chat template they stand in the prompt as plain text, blank lines between.
    """
    example = answer_only(example)
    if not shots:
        return example
    if template.kind == "none":
        question, *rest = example.messages
        told = [f"{shot.messages[0].content}{shot.completion}\n\n" for shot in shots]
        question = replace(question, content="".join(told) + question.content)
        return replace(example, messages=(question, *rest))
    system = [m for m in example.messages if m.role in _SYSTEM]
    turns = [m for m in example.messages if m.role not in _SYSTEM]
    told = [_read_only(m) for shot in shots for m in shot.messages if m.role not in _SYSTEM]
    return replace(example, messages=(*system, *told, *turns))


_SYSTEM = ("system", "developer")


def _read_only(message: Message) -> Message:
    return replace(message, scored=False)


def instructed(example: Example, instruction: str, template: ChatRenderer) -> Example:
    """The example with an instruction before its question: as the system turn, in the place of its
    own; without a chat template at the beginning of the prompt."""
    example = answer_only(example)
    if template.kind == "none":
        question, *rest = example.messages
        question = replace(question, content=f"{instruction}\n\n{question.content}")
        return replace(example, messages=(question, *rest))
    turns = [m for m in example.messages if m.role not in _SYSTEM]
    return replace(example, messages=(Message("system", instruction), *turns))


def few_shot_trees(
    template: ChatRenderer,
    examples: Sequence[Example],
    shots: Sequence[Example],
    *,
    max_length: int,
    together: int = 8,
) -> tuple[list[Tree], list[int]]:
    """Trees for `loglik` and the number of shots each example got, in the order of the examples.

    Where all shots do not fit in `max_length` tokens, the last ones are left out; without any, the
    end of the answer is cut, as in training. `together` questions after the same shots make one
    tree, so that the shots are read once for all of them.
    """
    fitted = [_fit(template, example, shots, max_length) for example in examples]
    trees = []
    for _, run in groupby(fitted, key=lambda pair: pair[1]):
        paths = [path for path, _ in run]
        starts = range(0, len(paths), together)
        trees += [Tree.of(paths[start : start + together]) for start in starts]
    return trees, [count for _, count in fitted]


def trees_of_each(
    template: ChatRenderer,
    examples: Sequence[Example],
    shots: Sequence[Sequence[Example]],
    *,
    max_length: int,
) -> tuple[list[Tree], list[int]]:
    """The same with `shots[i]` before `examples[i]`; neighbours with the same ones share them."""
    trees, used = list[Tree](), list[int]()
    pairs = zip(examples, shots, strict=True)
    for _, run in groupby(pairs, key=lambda pair: id(pair[1])):
        asked = list(run)
        of_run = few_shot_trees(
            template, [example for example, _ in asked], asked[0][1], max_length=max_length
        )
        trees += of_run[0]
        used += of_run[1]
    return trees, used


def _fit(
    template: ChatRenderer, example: Example, shots: Sequence[Example], max_length: int
) -> tuple[Path, int]:
    for count in range(len(shots), 0, -1):
        path = template.render(few_shot_prompt(example, shots[:count], template))
        if path.length <= max_length:
            return path, count
    return template.render(answer_only(example)).cut(max_length), 0
