"""`myosotis sweep NAME` of a study that has `stages`: its trainings, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from myosotis.cli import multirun
from myosotis.cli.errors import explained
from myosotis.cli.hydra_app import gated
from myosotis.config import compose
from myosotis.config.hashing import sweep_name
from myosotis.utils.errors import ConfigError


def has_stages(study: Path) -> bool:
    """Whether the file of a study has stages instead of a grid."""
    try:
        return "stages" in (OmegaConf.load(study) or {})
    except Exception:  # noqa: BLE001 - what is wrong with it is told when it is composed
        return False


def main(study: Path, words: Sequence[str]) -> Any:
    """Run the stages of `study` with `words` for all of them; returns {"sequence", "runs"}."""
    if odd := [word for word in words if "=" not in word or word.startswith(("-", "hydra"))]:
        raise ConfigError(
            f"A study of stages does not know what {odd[0]!r} is.", "Settings are key=value."
        )
    shared = [word for word in words if not word.startswith("out=")]

    def composed(own: Sequence[str]) -> DictConfig:
        every = [*shared, *own]
        try:
            return compose(every, study.stem, str(study.parent))
        except Exception as error:
            if (told := explained(error, every)) is not None:
                raise told from None
            raise

    cfg = composed([word for word in words if word.startswith("out=")])
    given = len(shared) < len(words)
    place = Path(cfg.out) if given else Path("multirun", sweep_name(study.stem, shared))
    from myosotis.commands import sequence

    runs = sequence.planned(OmegaConf.to_container(cfg.stages), composed, place)
    with multirun.closing():
        records = sequence.sequence(runs, place.name, ["myosotis", "sweep", study.stem, *words])
    document = {
        "sequence": {"name": place.name, "out": str(place)},
        "runs": [{"run_id": r.run_id, "run_name": r.run_name, "out": r.folder} for r in records],
        "stage": records[-1].stage,
        "scorecard": str(place / "scorecard.html"),
    }
    return gated(document, records[-1].suite_verdict, runs[-1].cfg)
