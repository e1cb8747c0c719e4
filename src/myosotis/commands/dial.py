"""`myosotis dial`: scale the update of a finished run down until it is within its budget.

The run is opened as it was trained: its base, its data, its benchmarks, its update. What the dial
finds becomes part of the run's record and scorecard; with a folder given, the model at the strength
that was chosen and confirmed is written there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from myosotis import updates
from myosotis.commands.components import (
    attach,
    base_retention,
    load_components,
    merge_initial,
)
from myosotis.commands.export import refuse_full, write_dialled
from myosotis.commands.find_model import base_facts
from myosotis.commands.finished import finished_config, refuse_others
from myosotis.commands.publish import keep, publish
from myosotis.commands.template_file import carry_template
from myosotis.config import instantiate
from myosotis.evaluation.evaluator import EvalResult
from myosotis.evaluation.interpolation import GRID, turn
from myosotis.records.find import find_run, has_update
from myosotis.records.schema import DialChoice, DialPoint, RunRecord
from myosotis.records.verdict import Verdict
from myosotis.report import dial_curve, terminal
from myosotis.retention.compare import reachable_verdicts
from myosotis.utils.console import console
from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import terminal as escaped


def dial(
    run: str, given: DictConfig, overrides: Sequence[str] = (), *, out: Path | None = None
) -> dict[str, Any]:
    """Choose a strength for the update of `run`, and confirm it; returns what was found.

    `overrides` name values of `given` that replace the run's own. `folder` in the result is where
    the model was written, None when it was not: no strength is inside the budget, or the choice was
    not confirmed. Raises `ConfigError` when the update does not scale or there is no benchmark to
    judge by, and when base or data are not those of the run any more.
    """
    place = find_run(run, able=has_update)
    record = place.load()
    cfg = finished_config(place, record, given, overrides, command="dial")
    _require_scalable(cfg)
    if out is not None:
        refuse_full(out)
    if cfg.trainer.num_threads:
        torch.set_num_threads(cfg.trainer.num_threads)
    parts = load_components(cfg, lambda _: None)
    refuse_others(record, parts)
    budget = instantiate.budget(cfg)
    retention = base_retention(parts.suite, parts.scorer, parts.base, parts.precision.name)
    parts = merge_initial(parts)
    base = EvalResult(retention, parts.evaluator.quality(parts.scorer, "base", texts=False))
    terminal.detectable(reachable_verdicts(base.retention.half("report").tasks, budget))
    parts = attach(parts, cfg)
    parts.update.load(place.update)
    tuned = parts.evaluator.sit(parts.scorer, "tuned", texts=False)
    points, choice = turn(
        parts.evaluator,
        parts.scorer,
        parts.update,
        base,
        tuned,
        metric=cfg.task.metric,
        budget=budget,
        strengths=GRID,
        refine=True,
    )

    def change(now: RunRecord) -> None:
        now.dial, now.dial_choice = points, choice

    record = keep(place, change)
    terminal.show_dial(record)
    form = None
    if out is not None and choice.alpha is not None and choice.confirmed:
        whole = cfg.model.start is not None  # an adapter would leave out what it stands on
        facts = base_facts(cfg, parts.base)
        form = write_dialled(parts.update, parts.base, choice.alpha, out, facts, whole=whole)
        carry_template(place.update, out, parts.base.tokenizer)
        console.print(f"Written to {escaped(out)} ({form}).", highlight=False, soft_wrap=True)
    elif out is not None:
        console.print("[yellow]Nothing was written.[/]")
    publish(place, record, cfg)
    return {
        "run_id": record.run_id,
        "alpha": choice.alpha,
        "confirmed": choice.confirmed,
        "verdict": verdict(points, choice),
        "choice": choice,
        "points": points,
        "said": dial_curve.said(record),
        "folder": str(out) if form else None,
        "form": form,
        "scorecard": str(place.scorecard),
    }


def verdict(points: Sequence[DialPoint], choice: DialChoice) -> str:
    """What the dial came to: the verdict of the choice on the half that reports, if there is one.

    Else `forgotten` when every strength is beyond the budget, `inconclusive` when that is open.
    """
    if choice.reported is not None:
        return choice.reported.verdict
    beyond = all(point.verdict == Verdict.FORGOTTEN for point in points)
    return Verdict.FORGOTTEN.value if beyond else Verdict.INCONCLUSIVE.value


def _require_scalable(cfg: DictConfig) -> None:
    update = updates.build(instantiate.update_settings(cfg))
    if not update.capabilities.scalable:
        raise ConfigError(
            f"update={update.name} cannot be scaled to a strength: "
            f"{update.capabilities.reasons['scalable']}."
        )
