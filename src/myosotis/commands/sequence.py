"""Trainings one after another, each from the last one's weights (`stages` of a study).

Each stage is an ordinary run in a folder of its own, and all that is added to it is how well its
model does the task of every stage: a row of the matrix R. What is finished is not run again, so the
same command goes on where it was killed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from myosotis import updates
from myosotis.commands.earlier_data import name_earlier
from myosotis.commands.mend import mend_folder
from myosotis.commands.publish import keep, publish
from myosotis.commands.stage_scores import Questions, base_row, row_after, stage_of
from myosotis.commands.sync import mend_tracking
from myosotis.commands.train import train
from myosotis.config import check, config_hash, instantiate
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RunRecord
from myosotis.report import sequence as told
from myosotis.report.scorecard import scorecard
from myosotis.utils.console import console
from myosotis.utils.errors import SIGNALLED, ConfigError, MyosotisError
from myosotis.utils.escape import terminal

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,40}")


@dataclass(frozen=True)
class StageRun:
    """One training of a sequence: what it is called, its configuration and its place."""

    name: str
    cfg: DictConfig
    folder: RunFolder
    overrides: list[str]  # its own, after those of all stages


Compose = Callable[[Sequence[str]], DictConfig]


def planned(stages: Any, compose: Compose, place: Path) -> list[StageRun]:
    """The stages below `place`; `compose` gives the configuration that some overrides make.

    Raises `ConfigError` for what cannot be one after another, before any weights load.
    """
    runs: list[StageRun] = []
    for number, (name, words) in enumerate(stages.items(), 1):
        if not NAME.fullmatch(str(name)):
            raise ConfigError(
                f"stages: {str(name)[:40]!r} cannot name a folder.", "Use letters, digits, - and _."
            )
        words = [str(word) for word in words or []]
        folder = RunFolder(place / f"{number}-{name}")
        start = [f"model.start='{runs[-1].folder.path}'"] if runs else []
        cfg = compose([*words, *start, f"out='{folder.path}'"])
        cfg.stages = {}
        name_earlier(cfg, [run.cfg for run in runs], place / f"{number}-earlier.jsonl")
        OmegaConf.update(cfg, "tracking.tags.stage", f"{place.name} {number}", force_add=True)
        runs.append(StageRun(str(name), cfg, folder, words))
    if len(runs) < 2:
        raise ConfigError("stages needs two trainings or more.")
    _require_one_measure(runs)
    return runs


def _require_one_measure(runs: Sequence[StageRun]) -> None:
    """What lets the tasks be compared, and one stage go on from another."""
    from myosotis.evaluation.task_metrics import METRICS

    for i, run in enumerate(runs):
        try:
            check(run.cfg)
        except MyosotisError as error:
            error.message = f"Stage {run.name}: {error.message}"
            raise
        update = updates.build(instantiate.update_settings(run.cfg))
        if i + 1 < len(runs) and not update.capabilities.mergeable:
            raise ConfigError(
                f"Stage {run.name}: no other stage can go on from update={update.name}, which "
                f"cannot be merged: {update.capabilities.reasons['mergeable']}."
            )
        if run.cfg["update"].get("quantization"):
            raise ConfigError(
                f"Stage {run.name}: a base in four bits cannot be gone on from.",
                "Leave out update.quantization.",
            )
        if instantiate.objective(run.cfg).needs_value_head:
            raise ConfigError(
                f"Stage {run.name}: objective={run.cfg.objective.name} measures with a head that "
                "the other stages do not have."
            )
        if str(run.cfg.trainer.devices) != "1":
            raise ConfigError("stages run on one device.", "Leave out trainer.devices.")
    metrics = {run.cfg.task.metric for run in runs}
    if len(metrics) > 1:
        raise ConfigError(
            f"The stages differ in task.metric: {', '.join(sorted(metrics))}.",
            "One metric has to measure every task after every stage.",
        )
    if (metric := METRICS.get(metrics.pop())) is not None and metric.aggregated:
        raise ConfigError(
            f"task.metric={metric.name} is no mean over examples, which stages are compared by.",
            "task.metric=loglik is one.",
        )
    if len({str(instantiate.model_source(run.cfg)) for run in runs}) > 1:
        raise ConfigError("The stages differ in their model: they go on from each other's weights.")


def sequence(runs: Sequence[StageRun], name: str, command: Sequence[str]) -> list[RunRecord]:
    """Run what is not finished; returns the record of every stage, with its row of R.

    Raises `ConfigError` when a folder holds a stage with other settings, `Interrupted` after Ctrl-C
    or SIGTERM: the same command goes on.
    """
    place = runs[0].folder.path.parent
    cfg = runs[0].cfg
    if cfg.trainer.num_threads:
        torch.set_num_threads(cfg.trainer.num_threads)
    for run in runs:
        _require_same(run)
    questions = Questions([(run.name, run.cfg) for run in runs])
    rows = [base_row(questions, place / "base_items.parquet")]
    records: list[RunRecord] = []
    for number, run in enumerate(runs, 1):
        said = f"[bold]Stage {number} of {len(runs)}: {terminal(run.name)}[/]"
        console.print(said, highlight=False)
        record = _trained(run, command)
        rows.append(row_after(questions, run.folder))
        about = stage_of(questions, rows, name, number)
        about.overrides = run.overrides
        if record.stage != about:
            record = keep(run.folder, lambda now, stage=about: setattr(now, "stage", stage))
            publish(run.folder, record, run.cfg)
        records.append(run.folder.load())
        scorecard(records, place / "scorecard.html")
    told.show(records, place / "scorecard.html")
    return records


def _require_same(run: StageRun) -> None:
    if not run.folder.record.exists():
        return
    held = run.folder.load()
    if held.config_hash != config_hash(run.cfg):
        raise ConfigError(
            f"The folder {run.folder.path} holds a stage with other settings.",
            "Choose another place with out=FOLDER.",
        )


def _trained(run: StageRun, command: Sequence[str]) -> RunRecord:
    """The record of a stage: as it is, taken up, or from the beginning."""
    folder, interrupted = run.folder, run.folder.interrupted
    if folder.record.exists() and folder.load().status == "FINISHED":
        if interrupted:  # behind its result, where its page and MLflow come
            mend_folder(folder)
            mend_tracking(folder)
        return folder.load()
    cfg = run.cfg.copy()
    if folder.checkpoint.exists():
        cfg.resume = cfg.out
    try:
        train(cfg, run.overrides, command=command)
    except MyosotisError as error:
        if error.exit_code > SIGNALLED:
            error.hint = "Run the same command again to continue."
        raise
    return folder.load()
