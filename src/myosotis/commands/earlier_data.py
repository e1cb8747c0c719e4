"""What earlier stages of a sequence learned from, as a file that a control of a later one reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from myosotis.config import instantiate
from myosotis.data.convert import viewed
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
    lines: list[str] = []
    for one in before:
        answers = viewed(instantiate.dataset(one), "answers", "sft")
        lines_of(answers.train, SERVICES["hf"], lines.append)
    at.parent.mkdir(parents=True, exist_ok=True)
    write_text(at, "".join(lines))
    for name in asked:
        OmegaConf.update(cfg, f"control.{name}.texts", str(at))
