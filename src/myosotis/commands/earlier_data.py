"""What earlier stages of a sequence learned from, as a file that a control of a later one reads.

The stages take turns in it, an example each: a control reads so many of the first ones
(`controls/texts.py`), and they are to be of every stage, however large the first was.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from myosotis.config import instantiate
from myosotis.data.convert import viewed
from myosotis.data.example import Example
from myosotis.data.services import SERVICES, lines_of
from myosotis.utils.atomic_write import write_text
from myosotis.utils.errors import ConfigError

EARLIER = "earlier"
"""As `control.replay.texts`, in a stage: the training examples of all stages before it."""


def name_earlier(cfg: DictConfig, before: Sequence[DictConfig], at: Path) -> None:
    """Where a control of `cfg` reads `EARLIER`, write what the configurations `before` train on to
    the file `at`, and name that instead. Raises `ConfigError` in a first stage."""
    asked = [name for name, one in (cfg.control or {}).items() if one.get("texts") == EARLIER]
    if not asked:
        return
    if not before:
        raise ConfigError(
            f"control.{asked[0]}.texts={EARLIER}: the first stage has none before it.",
            "Give it to the later stages alone, or name other texts.",
        )
    stages = [viewed(instantiate.dataset(one), "answers", "sft").train for one in before]
    lines: list[str] = []
    lines_of(in_turn(stages), SERVICES["hf"], lines.append)
    at.parent.mkdir(parents=True, exist_ok=True)
    write_text(at, "".join(lines))
    for name in asked:
        OmegaConf.update(cfg, f"control.{name}.texts", str(at))


def in_turn(stages: Sequence[Sequence[Example]]) -> list[Example]:
    """The first example of each stage, then the second of each, and so on; one that has no more is
    passed over."""
    return [one for turn in zip_longest(*stages) for one in turn if one is not None]
