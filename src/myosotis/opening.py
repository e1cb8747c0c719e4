"""The opening of a run: its journal, its name, and what is known before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from omegaconf import DictConfig, OmegaConf

from myosotis.config import config_hash, learning_rate
from myosotis.config.build import plain
from myosotis.journal import Journal, journal
from myosotis.logger import MLflowLogger, NullLogger
from myosotis.record import AttentionInfo, DataInfo, ModelInfo
from myosotis.runs import RunFolder
from myosotis.updates.base import numbers
from myosotis.workbench import Workbench


def opened(
    cfg: DictConfig, folder: RunFolder, overrides: Sequence[str]
) -> AbstractContextManager[Journal]:
    """The journal of this run; on resume, of the run that is continued."""
    before = folder.load() if folder.record.exists() else None
    name = before.run_name if before else cfg.tracking.run_name or _run_name(cfg)
    mlflow = NullLogger()
    if cfg.tracking.enabled:
        mlflow = MLflowLogger(
            cfg.tracking.uri,
            cfg.tracking.experiment,
            name,
            {**plain(cfg.tracking.tags), "myosotis.out": str(folder.path.resolve())},
            run_id=before.run_id if before else None,
        )
    return journal(
        folder.path,
        mlflow,
        run_name=name,
        command=before.command if before else ["myosotis", "train", *overrides],
        config=_resolved(cfg),
        config_hash=config_hash(cfg),
    )


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration with the learning rate that is used where none is given."""
    config = plain(cfg)
    config["optimizer"]["lr"] = learning_rate(cfg).value
    return config


def _run_name(cfg: DictConfig) -> str:
    update = cfg["update"]
    rank = f"-r{update.r}" if "r" in update else ""
    rate = f"{learning_rate(cfg).value:.0e}".replace("e-0", "e-")
    return f"{update.name}{rank}-lr{rate}-{cfg.data.name}-s{cfg.seed}"


def describe(kept: Journal, cfg: DictConfig, bench: Workbench) -> None:
    """What is known before anything is measured, to the record, the run folder and MLflow."""
    record = kept.record
    record.model = ModelInfo(
        id=bench.base.id,
        note="; ".join(filter(None, (bench.base.note, bench.start and bench.start.note))),
        parameters=numbers(bench.base.model),
        dtype=bench.precision.name,
        content_hash=bench.base.content_hash,
    )
    data = bench.data
    record.data = DataInfo(
        data.dataset.name,
        dict(data.dataset.manifest.get("rows", {})),
        data.dataset.manifest,
        str(data.dataset.manifest.get("hash", "")),
    )
    record.attention = AttentionInfo(bench.backend.name, bench.backend.reason)
    record.suite = bench.suite.identity()
    OmegaConf.save(cfg, kept.folder.config, resolve=True)
    kept.mlflow.log_hyperparams(_searchable(cfg))
    kept.mlflow.set_tags(
        {
            "method": cfg["update"].name if cfg.objective.name == "sft" else cfg.objective.name,
            "update": cfg["update"].name,
            "objective": cfg.objective.name,
            "seed": cfg.seed,
            "config_hash": record.config_hash,
        }
    )
    kept.artifact(kept.folder.config)
    kept.save()


def _searchable(cfg: DictConfig) -> dict[str, Any]:
    groups = ("model", "data", "update", "objective", "optimizer", "schedule", "trainer")
    chosen = {group: plain(cfg[group]) for group in groups}
    chosen["optimizer"]["lr"] = learning_rate(cfg).value
    kept = ("suite", "items", "budget", "num_fewshot")
    chosen["retention"] = {key: plain(cfg.retention)[key] for key in kept}
    return {**chosen, "seed": cfg.seed}
