"""Self-replay: the base writes the texts that are rehearsed, once, before it is tuned.

For a model whose pretraining data nobody has: its own samples stand for them (Sa-SFT, 2602.20162).
They are drawn from the beginning of a text, without a prompt. What it wrote is kept in the cache by
content: model, dtype, settings and versions.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from myosotis.controls import About, Control, Extra, Given, Term, at_least_one, moves_the_model
from myosotis.controls.replay import check_ratio, check_tokens, per_token, rehearsing
from myosotis.controls.texts import pieces
from myosotis.data.span_tokenizer import SpanTokenizer
from myosotis.models import wheels
from myosotis.models.generate import generate
from myosotis.trees.scorer import device_of, scorer_version
from myosotis.utils.atomic_write import write_text
from myosotis.utils.console import progress
from myosotis.utils.device import hardware
from myosotis.utils.errors import ConfigError, DataError
from myosotis.utils.one_process import kept

BATCH = 16
"""Texts written at a time; another number would write others."""


@dataclass(frozen=True)
class SelfReplay(Control):
    """`ratio` of all supervised tokens are of texts that the base wrote: `items` of them, of at
    most `tokens` tokens, sampled at `temperature` from the smallest set of words that has the
    probability `top_p`, by `seed`."""

    switch: ClassVar[str] = "ratio"

    ratio: float
    items: int = 128
    tokens: int = 128
    temperature: float = 1.0
    top_p: float = 0.95
    seed: int = 0

    @property
    def extra(self) -> Extra:
        said = f"{self.ratio:.3g} of the supervised tokens are replay that the base wrote"
        return Extra(per_token(self.ratio), said=said)

    def refuse(self, about: About, key: str) -> None:
        check_ratio(self.ratio, key)
        check_tokens(self.tokens, key)
        at_least_one(self.items, f"{key}.items")
        if not self.temperature > 0:
            raise ConfigError(
                f"{key}.temperature={self.temperature} would write the same text every time.",
                f"It must be above 0; {key}.temperature=1 samples as the model predicts.",
            )
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"{key}.top_p={self.top_p} is out of range.", "Above 0, at most 1.")
        moves_the_model(about, key)

    def prepare(self, given: Given) -> Term:
        found = list(pieces(self.written(given), given, self.tokens))
        if not found:
            raise DataError(
                "control.self_replay: the base wrote nothing that could be rehearsed",
                "control=replay reads texts of yours instead",
            )
        return rehearsing(found, given, self.ratio, "self_replay")

    def written(self, given: Given) -> list[str]:
        """What the base writes, from the cache or now."""
        path = self._place(given)

        def write(found: list[str]) -> None:
            with suppress(OSError):
                write_text(path, json.dumps(found, ensure_ascii=False))

        return kept(path, partial(_read, path), partial(self._write, given), write)

    def _place(self, given: Given) -> Path:
        settings = {k: v for k, v in asdict(self).items() if k != "ratio"}
        on = hardware(device_of(given.update.model))
        about = [given.model, given.dtype, on, scorer_version(), BATCH, settings]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        return wheels.cache_dir() / "self_replay" / f"{digest[:40]}.json"

    def _write(self, given: Given) -> list[str]:
        tokenizer = given.renderer.tokenizer
        opening = SpanTokenizer(tokenizer).opening("")
        said = progress("the base writes what is rehearsed", total=self.items)
        with given.update.disabled(), given.scorer.arithmetic(), said as advance:
            return generate(
                given.update.model,
                tokenizer,
                [opening] * self.items,
                max_new_tokens=min(self.tokens, given.context_length - len(opening)),
                temperature=self.temperature,
                top_p=self.top_p,
                seed=self.seed,
                batch_size=BATCH,
                advance=advance,
            )


def _read(path: Path) -> list[str] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, list) and all(isinstance(text, str) for text in found)
    return found if whole else None
