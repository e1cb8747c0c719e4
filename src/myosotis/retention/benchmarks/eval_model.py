"""Written answers: a model that is asked a whole suite scores trees, and goes on from prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

from myosotis.models.generate import generate
from myosotis.retention.benchmarks.requests import Prompt
from myosotis.trees.scorer import Scorer, TreeScore
from myosotis.trees.tree import Tree

WRITE = "write"
"""The job of ranks that measure together (trees/shared.py)."""


class EvalModel:
    """A scorer and the tokenizer of its model; `scorer.TreeScorer` and `scorer.Writer`."""

    def __init__(self, scorer: Scorer, tokenizer: PreTrainedTokenizerBase) -> None:
        self.scorer = scorer
        self.tokenizer = tokenizer

    def evaluate(
        self, trees: Sequence[Tree], advance: Callable[[int], object] | None = None
    ) -> list[TreeScore]:
        return self.scorer.evaluate(trees, advance)

    def write(
        self, prompts: Sequence[Prompt], advance: Callable[[int], object] | None = None
    ) -> list[str]:
        """What the model goes on with, greedily, in the order of the prompts. Where its weights are
        spread over ranks, all of them write."""
        if self.scorer.ask is not None and self.scorer.lockstep:
            return self.scorer.ask(WRITE, prompts, advance=advance)  # type: ignore[no-any-return]
        texts = [""] * len(prompts)
        for until, most in dict.fromkeys((p.until, p.most) for p in prompts):
            which = [i for i, p in enumerate(prompts) if (p.until, p.most) == (until, most)]
            with self.scorer.arithmetic():
                written = generate(
                    self.scorer.model,  # type: ignore[arg-type]
                    self.tokenizer,
                    [prompts[i].ids for i in which],
                    max_new_tokens=most,
                    until=until,
                    advance=advance,
                )
            for i, text in zip(which, written, strict=True):
                texts[i] = text
        return texts
