"""The opening of a run: its journal, its name, and what is known before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from omegaconf import DictConfig, OmegaConf

from myosotis.commands.components import Components
from myosotis.config import config_hash, learning_rate
from myosotis.config.instantiate import plain
from myosotis.records.run_folder import RunFolder, SweepInfo
from myosotis.records.schema import AttentionInfo, DataInfo, ModelInfo, RunRecord
from myosotis.tracking import mlflow_client
from myosotis.tracking.mlflow_logger import MLflowLogger, NullLogger
from myosotis.tracking.run_tracker import RunTracker, SilentTracker, journal
from myosotis.updates.tensors import num_parameters


def opened(
    cfg: DictConfig,
    folder: RunFolder,
    command: Sequence[str],
    sweep: SweepInfo | None = None,
    *,
    silent: bool = False,
) -> AbstractContextManager[RunTracker]:
    """The journal of this run; on resume, of the run that is continued. A `silent` one keeps
    nothing: the ranks that only train."""
    if silent:
        return nullcontext(SilentTracker(folder))
    before = folder.load() if folder.record.exists() else None
    name = before.run_name if before else cfg.tracking.run_name or _run_name(cfg)
    return journal(
        folder.path,
        mlflow_of(cfg, folder, name, before.run_id if before else None, sweep),
        run_name=name,
        command=before.command if before else list(command),
        config=_resolved(cfg),
        config_hash=config_hash(cfg),
    )


def _resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration with the learning rate that is used where none is given."""
    config = plain(cfg)
    config["optimizer"]["lr"] = learning_rate(cfg).value
    return config


def mlflow_of(
    cfg: DictConfig, folder: RunFolder, name: str, run_id: str | None, sweep: SweepInfo | None
) -> NullLogger:
    """The run in MLflow, a new one or that of `run_id`; a trial lies in its sweep.

    A sweep goes on when its server is away as a trial begins: `myosotis sync` tells it later.
    """
    if not cfg.tracking.enabled:
        return NullLogger()
    tags = {**plain(cfg.tracking.tags), mlflow_client.FOLDER: str(folder.path.resolve())}
    if sweep is not None:
        tags["sweep"] = sweep.name
    return MLflowLogger(
        cfg.tracking.uri,
        cfg.tracking.experiment,
        name,
        tags,
        run_id=run_id,
        parent_run_id=sweep.run_id if sweep is not None else None,
        required=sweep is None,
    )


def _run_name(cfg: DictConfig) -> str:
    """What sets this run apart, for people: of equal names the run id tells."""
    update, objective = cfg["update"], cfg.objective
    rank = f"-r{update.r}" if "r" in update else ""
    targets = update.get("target_modules")
    where = f"-{targets}" if targets in ("attention", "mlp") else ""
    beta = f"-beta{objective.beta:g}" if "beta" in objective else ""
    loss = f"-{objective.name}{beta}" if objective.name != "sft" else ""
    rate = f"{learning_rate(cfg).value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return f"{update.name}{rank}{where}{loss}-lr{rate}-{cfg.data.name}-s{cfg.seed}"


def describe(kept: RunTracker, cfg: DictConfig, bench: Components) -> None:
    """What is known before anything is measured, to the record, the run folder and MLflow."""
    if isinstance(kept, SilentTracker):
        return
    record = kept.record
    record.model = ModelInfo(
        id=bench.base.id,
        note="; ".join(filter(None, (bench.base.note, bench.initial and bench.initial.note))),
        parameters=num_parameters(bench.base.model),
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
    record.attention = AttentionInfo(bench.scorer.backend.name, bench.scorer.backend.reason)
    record.suite = bench.suite.identity()
    OmegaConf.save(cfg, kept.folder.config, resolve=True)
    tell(kept.mlflow, cfg, record)
    kept.artifact(kept.folder.config)
    kept.save()


def tell(mlflow: NullLogger, cfg: DictConfig, record: RunRecord) -> None:
    """What a run is searched by in MLflow, and the data it trains on."""
    mlflow.log_hyperparams(_searchable(cfg))
    mlflow.set_tags(
        {
            "method": cfg["update"].name if cfg.objective.name == "sft" else cfg.objective.name,
            "update": cfg["update"].name,
            "objective": cfg.objective.name,
            "seed": cfg.seed,
            "config_hash": record.config_hash,
        }
    )
    mlflow.log_dataset(record.data)


# What one filters and sorts runs by; the whole configuration is an artifact.
SEARCHABLE = (
    *("update", "objective", "optimizer", "schedule", "model.id", "data.name", "data.batch_size"),
    *("data.row_tokens", "trainer.max_steps", "trainer.max_epochs", "trainer.precision"),
    *("retention.suite", "retention.items", "retention.budget", "retention.num_fewshot", "seed"),
)


def _searchable(cfg: DictConfig) -> dict[str, Any]:
    """The values of these keys, flat; what names a class is left out."""
    found: dict[str, Any] = {}
    for key in SEARCHABLE:
        value = OmegaConf.select(cfg, key)
        values = plain(value) if isinstance(value, DictConfig) else {"": value}
        found |= {f"{key}.{name}".rstrip("."): each for name, each in values.items()}
    found["optimizer.lr"] = learning_rate(cfg).value
    return {key: value for key, value in found.items() if not key.endswith("._target_")}
