"""The opening of a run: its name, and what is known of it before anything is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from omegaconf import DictConfig, OmegaConf

from myosotis.commands.components import Components
from myosotis.commands.mend import clear
from myosotis.commands.run_params import params, place_tags, resolved, run_name, shown, swept, tags
from myosotis.config import config_hash, instantiate, learning_rate, strangers
from myosotis.config.instantiate import plain
from myosotis.models.load import BaseModel
from myosotis.records.run_folder import RunFolder, SweepInfo
from myosotis.records.schema import AttentionInfo, DataInfo, ModelInfo, RunRecord
from myosotis.retention.benchmarks.task import Suite
from myosotis.tracking.loggers import identity
from myosotis.tracking.mlflow_logger import MLflowLogger
from myosotis.tracking.null_logger import NullLogger
from myosotis.tracking.run_tracker import RunTracker, SilentTracker, track
from myosotis.trees.scorer import Scorer
from myosotis.updates.tensors import num_parameters
from myosotis.utils.atomic_write import write_text
from myosotis.utils.errors import ConfigError


@contextmanager
def claimed(
    cfg: DictConfig, folder: RunFolder, sweep: SweepInfo | None, *, silent: bool
) -> Iterator[None]:
    """The folder, for this run alone. A trial's is held by its sweep; other ranks have the first's.

    Raises `ConfigError` when another process writes it, or when it holds another run: the same run
    begins anew only where it left nothing to go on from.
    """
    if silent or sweep is not None:
        yield
        return
    with folder.owned():
        if cfg.resume is None and folder.record.exists():
            refuse_other(folder, config_hash(cfg))
        refuse_files(folder)
        clear(folder)
        yield


@contextmanager
def owned_anew(folder: RunFolder) -> Iterator[None]:
    """A folder for what cannot be taken up again: raises `ConfigError` when it holds a run."""
    with folder.owned():
        if folder.record.exists():
            refuse_other(folder, None)
        refuse_files(folder)
        yield


def refuse_files(folder: RunFolder) -> None:
    """Raise `ConfigError` when files with the names of a run's lie in a folder that holds no run:
    they are somebody's own, as in `out=.`.
    """
    names = [folder.config, folder.metrics, folder.items, folder.scorecard, folder.update]
    theirs = [path.name for path in (*names, folder.checkpoint.parent) if path.exists()]
    if theirs and not folder.record.exists():
        raise ConfigError(
            f"{folder.path} holds {theirs[0]}, and no run: it was not written over.",
            "Choose another out=FOLDER, or move that file away.",
        )


def refuse_other(folder: RunFolder, wanted: str | None) -> None:
    """Raise `ConfigError` when `folder` holds a run; except one of the hash `wanted` that stopped
    before its first checkpoint.
    """
    held = folder.load()
    same = held.config_hash == wanted and held.status != "FINISHED"
    if same and not folder.checkpoint.exists():
        return
    go_on = f"To go on with it: myosotis train resume={folder.path}. " if held.config else ""
    raise ConfigError(
        f"{folder.path} holds a run already: {held.run_name} ({held.run_id[:8]}, {held.status}).",
        f"{go_on if folder.checkpoint.exists() else ''}For another run choose another out=FOLDER.",
    )


@contextmanager
def opened(
    cfg: DictConfig,
    folder: RunFolder,
    command: Sequence[str],
    sweep: SweepInfo | None = None,
    *,
    silent: bool = False,
) -> Iterator[RunTracker]:
    """This run, tracked; on resume, the run that is continued. A `silent` one keeps nothing: the
    ranks that only train.

    What it is searched by, and its configuration, are told before anything is loaded: a run whose
    model or data cannot be read can be found by them, too.
    """
    if silent:
        yield SilentTracker(folder)
        return
    before = folder.load() if folder.record.exists() else None
    name = before.run_name if before else cfg.tracking.run_name or run_name(cfg)
    config = resolved(cfg)
    config["optimizer"]["lr"] = learning_rate(cfg).value
    with track(
        folder.path,
        mlflow_of(cfg, folder, name, sweep),
        run_name=name,
        command=before.command if before else shown(command),
        config=config,
        config_hash=config_hash(cfg),
    ) as tracker:
        searched = label(tracker.mlflow, cfg, tracker.record, sweep)
        if cfg.resume is None or not folder.config.exists():
            _write_config(tracker, cfg)
        for logger in instantiate.loggers(cfg, partial(identity, name, tracker.record.run_id)):
            tracker.loggers.append(logger)
            logger.log_hyperparams(searched)  # type: ignore[call-arg]
        yield tracker


def _write_config(tracker: RunTracker, cfg: DictConfig) -> None:
    """Not signed yet: nothing of it has loaded."""
    write_text(tracker.folder.config, OmegaConf.to_yaml(OmegaConf.create(resolved(cfg))))
    tracker.artifact(tracker.folder.config)


def label(
    mlflow: NullLogger, cfg: DictConfig, record: RunRecord, sweep: SweepInfo | None = None
) -> dict[str, Any]:
    """Tell MLflow what a run is searched by, its params returned; all of it is known from its
    configuration."""
    by_sweep = swept(record.command, sweep)
    searched = params(cfg, by_sweep)
    mlflow.log_hyperparams(searched)
    mlflow.set_tags(tags(cfg, record.config_hash, by_sweep))
    return searched


def mlflow_of(cfg: DictConfig, folder: RunFolder, name: str, sweep: SweepInfo | None) -> NullLogger:
    """The run in MLflow, a new one or that of the record in `folder`; a trial lies in its sweep.

    A sweep goes on when its server is away as a trial begins: `myosotis sync` tells it later.
    """
    if not cfg.tracking.enabled:
        return NullLogger()
    return MLflowLogger(
        cfg.tracking.uri,
        cfg.tracking.experiment,
        name,
        {**plain(cfg.tracking.tags), **place_tags(folder, sweep and sweep.name)},
        parent_run_id=sweep.run_id if sweep is not None else None,
        required=sweep is None,
    )


def describe(tracker: RunTracker, cfg: DictConfig, bench: Components) -> None:
    """What is known when all has loaded and nothing is measured, to the record and MLflow."""
    if isinstance(tracker, SilentTracker):
        return
    record = tracker.record
    describe_model(record, bench.base, bench.scorer, bench.suite, dtype=bench.precision.name)
    if bench.initial is not None:
        record.model.note = "; ".join(filter(None, (bench.base.note, bench.initial.note)))
    data = bench.data
    record.data = DataInfo(
        data.dataset.name,
        dict(data.dataset.manifest.get("rows", {})),
        data.dataset.manifest,
        str(data.dataset.manifest.get("hash", "")),
    )
    # What was given has loaded: from now on it is the run's own.
    strangers.keep(OmegaConf.create(resolved(cfg)), tracker.folder.config)
    if cfg.resume is not None:
        tracker.artifact(tracker.folder.config)
    tracker.mlflow.log_dataset(record.data)
    tracker.save()


def describe_model(
    record: RunRecord, base: BaseModel, scorer: Scorer, suite: Suite, *, dtype: str
) -> None:
    """The model that is measured, how it reads its rows, and what it is asked, to the record."""
    record.model = ModelInfo(
        id=base.id,
        note=base.note,
        parameters=num_parameters(base.model),
        dtype=dtype,
        content_hash=base.content_hash,
    )
    record.attention = AttentionInfo(scorer.backend.description, scorer.backend.reason)
    record.suite = suite.identity()
