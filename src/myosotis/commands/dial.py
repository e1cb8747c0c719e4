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
from omegaconf import DictConfig, OmegaConf

from myosotis import updates
from myosotis.commands.components import (
    Components,
    attach,
    base_retention,
    load_components,
    merge_initial,
)
from myosotis.commands.export import refuse_full, write_dialled
from myosotis.commands.find_model import base_facts, config_of
from myosotis.commands.publish import publish
from myosotis.commands.resume import replace_values
from myosotis.commands.template_file import carry_template
from myosotis.config import check, instantiate
from myosotis.evaluation.evaluator import EvalResult
from myosotis.evaluation.interpolation import GRID, turn
from myosotis.records.find import find_run, has_update
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import DialChoice, DialPoint, RunRecord
from myosotis.records.verdict import Verdict
from myosotis.report import dial_curve, terminal
from myosotis.report.scorecard import scorecard
from myosotis.retention.compare import reachable_verdicts
from myosotis.utils.console import console
from myosotis.utils.errors import AssetError, ConfigError
from myosotis.utils.escape import terminal as escaped

CHANGEABLE = ("retention.", "task.items")
"""What may differ from the run: how retention is measured and judged. The rest made the weights."""


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
    cfg = _configuration(place, record, given, overrides)
    if out is not None:
        refuse_full(out)
    if cfg.trainer.num_threads:
        torch.set_num_threads(cfg.trainer.num_threads)
    parts = load_components(cfg, lambda _: None)
    _refuse_others(record, parts)
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
    record.dial, record.dial_choice = points, choice
    record.save(place.record)
    scorecard(record, place.scorecard)
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


def _configuration(
    place: RunFolder, record: RunRecord, given: DictConfig, overrides: Sequence[str]
) -> DictConfig:
    """The run's own, with what was given anew; refused here is what weights are not needed for."""
    if record.status != "FINISHED":
        raise AssetError(
            f"The run {place.path} has no finished update (its status is {record.status}).",
            f"If it was stopped, `myosotis train resume={place.path}` finishes it.",
        )
    cfg, _ = config_of(place)
    if others := [o for o in overrides if not o.lstrip("+~").startswith(CHANGEABLE)]:
        raise ConfigError(
            f"dial cannot change {others[0]}: it is part of what was trained.",
            "Only retention.… and task.items can differ from the run's.",
        )
    replace_values(cfg, given, overrides)
    OmegaConf.update(cfg, "retention.dial", [])
    OmegaConf.update(cfg, "out", str(place.path))  # where it keeps what it went on from
    check(cfg)
    update = updates.build(instantiate.update_settings(cfg))
    if not update.capabilities.scalable:
        raise ConfigError(
            f"update={update.name} cannot be scaled to a strength: "
            f"{update.capabilities.reasons['scalable']}."
        )
    return cfg


def _refuse_others(record: RunRecord, parts: Components) -> None:
    """Base and data must be those of the run: held-out examples of other data may be trained on."""
    if parts.base.content_hash != record.model.content_hash:
        raise ConfigError(
            f"{record.model.id} is no longer the model that the run was trained on.",
            "Its files have changed since; dial needs the base as it was.",
        )
    if str(parts.data.dataset.manifest.get("hash", "")) != record.data.hash:
        raise ConfigError(
            f"data={record.data.name} is no longer what the run was trained on.",
            "Its files (for docstrings: the installed packages) have changed since.",
        )
    if not any(task.accuracy_like for task in parts.suite):
        raise ConfigError(
            "The run has no benchmark that a verdict can rest on.",
            "Name some, as in 'retention.suite=[hellaswag,arc_easy]'.",
        )
