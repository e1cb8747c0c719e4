"""Replay: texts of what the base is to keep are learned beside the task, in an exact share.

A share of one per cent of pretraining-like text removes most of the rise of the loss on general
text ("Scaling laws for forgetting during finetuning with pretraining data injection", 2502.06042).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from myosotis.controls import About, Control, Extra, Given, Spent, Step, Term, moves_the_model
from myosotis.controls.rehearsal import Rehearsal, rehearsal
from myosotis.controls.texts import require, texts
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.utils.errors import ConfigError


class ReplayTerm(Term):
    """The negative log-likelihood of a step's texts, over the supervised tokens of its task.

    So a token of replay weighs as much as one of the task under `objective=sft`, whose loss is
    divided by the same number.
    """

    def __init__(self, scorer: Scorer, rehearsal: Rehearsal) -> None:
        self.scorer = scorer
        self.rehearsal = rehearsal

    def accumulate(self, at: Step) -> float:
        chosen = self.rehearsal.at(at.number, at.supervised)
        value = 0.0
        if not chosen or not at.supervised:  # on no rank
            return value
        for batch in at.batches(at.mine(chosen)):
            share = -self.scorer.score(batch).logp_B.sum() / at.supervised
            at.backward(share, None)
            value += share.item()
        return value

    def spent(self, steps: int) -> Spent:
        return self.rehearsal.spent(steps)

    def state_dict(self) -> dict[str, Any]:
        return self.rehearsal.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rehearsal.load_state_dict(state)


@dataclass(frozen=True)
class Replay(Control):
    """`ratio` of all supervised tokens are those of `texts`, cut into pieces of `tokens` tokens."""

    switch: ClassVar[str] = "ratio"

    ratio: float
    texts: str = "prose"
    tokens: int = 128

    @property
    def extra(self) -> Extra:
        said = f"{self.ratio:.3g} of the supervised tokens are replay"
        return Extra(per_token(self.ratio), said=said)

    def refuse(self, about: About, key: str) -> None:
        check_ratio(self.ratio, key)
        check_tokens(self.tokens, key)
        require(self.texts, f"{key}.texts")
        moves_the_model(about, key)

    def prepare(self, given: Given) -> Term:
        return rehearsing(texts(self.texts, given, self.tokens), given, self.ratio, "replay")


def per_token(ratio: float) -> float:
    """Tokens of replay per token of the task, where `ratio` of all are replay."""
    return ratio / (1 - ratio)


def rehearsing(found: Sequence[Tree], given: Given, ratio: float, name: str) -> ReplayTerm:
    """Texts at work: `ratio` of all supervised tokens are theirs."""
    seed = [given.seed, zlib.crc32(name.encode())]
    share = per_token(ratio)
    return ReplayTerm(given.scorer, rehearsal(found, given.supervised, share, seed))


def check_ratio(ratio: float, key: str) -> None:
    """Raise `ConfigError` for a share of all tokens that is none."""
    if not 0 <= ratio < 1:
        raise ConfigError(
            f"{key}.ratio={ratio} is out of range.",
            "It is the share of all supervised tokens that are replay: at least 0, below 1 "
            f"({key}.ratio=0.01 is usual).",
        )


def check_tokens(tokens: int, key: str) -> None:
    """Raise `ConfigError` for pieces of text too short to be read."""
    if tokens < 8:
        raise ConfigError(f"{key}.tokens={tokens} is out of range.", "It must be at least 8.")
