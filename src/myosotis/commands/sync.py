"""Bringing MLflow up to what lies on disk, after its server was away or its database was lost.

What belongs here: reading a run folder and writing what MLflow lacks of it. Doing it twice changes
nothing. The record on disk stays as it is; only the id of a run that had to be made anew is new.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from myosotis.commands.mend import mend_folder
from myosotis.commands.opening import label
from myosotis.commands.run_params import place_tags
from myosotis.commands.sweep import conclude, trials_of
from myosotis.records.run_folder import RunFolder, SweepFolder, SweepInfo
from myosotis.records.schema import RunRecord
from myosotis.tracking import mlflow_client, mlflow_runs
from myosotis.tracking.jsonl_logger import JsonlLogger
from myosotis.tracking.mlflow_limits import METRICS_AT_ONCE, valid_name
from myosotis.tracking.mlflow_logger import MLflowLogger
from myosotis.tracking.mlflow_store import Store
from myosotis.tracking.run_tracker import verdict_tag
from myosotis.utils import signature, trust
from myosotis.utils.console import progress
from myosotis.utils.errors import ConfigError, DataError, MyosotisError, RunError
from myosotis.utils.escape import line
from myosotis.utils.own_files import refuse_links


def sync(folders: Sequence[RunFolder], uri: str | None) -> list[dict[str, Any]]:
    """Bring the store at `uri` (null: that of each run) up to these runs; what was done of each.

    The parent run of a sweep is brought along. Each run is brought on its own: of one that fails
    `failed` says why, and the same command brings it later. What was deleted in MLflow stays so.
    """
    done = []
    sweeps: dict[Path, SweepInfo] = {}
    with progress("sync", total=len(folders)) as advance:
        for folder in folders:
            try:
                done.append(_run(folder, _sweep(folder, sweeps, uri), uri))
            except (MyosotisError, *mlflow_client.FAILURES) as error:
                why = error.message if isinstance(error, MyosotisError) else str(error)
                done.append({"run_id": "", "run_name": folder.path.name, "out": str(folder.path),
                             "synced": False, "why": why, "failed": why})  # fmt: skip
            advance(1, folder.path.name)
    return done


def _sweep(folder: RunFolder, known: dict[Path, SweepInfo], uri: str | None) -> SweepInfo | None:
    """The sweep of a trial, brought once."""
    above = SweepFolder(folder.path.parent)
    if above.path not in known and (info := above.load()) is not None:
        known[above.path] = info
        known[above.path] = _parent(above, info, folder.load(), uri)
    return known.get(above.path)


def mend_tracking(folder: RunFolder) -> list[str]:
    """End the MLflow run of a record that has ended, where a kill came between; what was done."""
    record = folder.load()
    if not record.config or not _tracked(record, None):
        return []
    ask(folder, record, None)
    try:
        store = mlflow_client.open_store(record.config["tracking"].get("uri"), create=False)
        client = mlflow_client.client(store)
        there = mlflow_client.run_of_record(client, record.run_id, str(folder.path.resolve()))
        if there is None or mlflow_client.in_trash(client, there):
            return []
        if there == record.run_id and client.get_run(there).info.status == record.status:
            return []
        sync([folder], None)
    except (MyosotisError, *mlflow_client.FAILURES):
        return [f"MLflow cannot be reached: myosotis sync {record.run_id[:8]} will tell it"]
    return ["ended it in MLflow"]


def _run(folder: RunFolder, sweep: SweepInfo | None, uri: str | None) -> dict[str, Any]:
    refuse_links(folder.path)
    record = folder.load()
    ask(folder, record, uri)
    if os.access(folder.path, os.W_OK) and not folder.in_use:
        with folder.owned():
            mend_folder(folder)
    told = {"run_id": record.run_id, "run_name": record.run_name, "out": str(folder.path)}
    if not _tracked(record, uri):
        return {**told, "synced": False, "why": "tracking=none"}
    if record.status == "RUNNING" and not _left(folder, record, uri):
        return {**told, "synced": False, "why": "it is running"}
    store = _store(record.config, uri)
    if (deleted := _deleted(store, folder, record.run_id)) is not None:
        return {**told, "synced": False, "why": IN_TRASH.format(deleted)}
    tags = {**place_tags(folder, sweep and sweep.name), **verdict_tag(record)}
    parent = sweep.run_id if sweep else None
    mlflow, store = _logger(record.config, uri, record.run_name, tags, record.run_id, parent)
    assert mlflow.run_id is not None
    if mlflow.run_id != record.run_id:
        record = replace(record, run_id=mlflow.run_id)
        record.save(folder.record)
    if record.config:
        label(mlflow, OmegaConf.create(record.config), record, sweep)
    if record.data.name:
        mlflow.log_dataset(record.data)
    points = _curves(mlflow, store, folder, record)
    artifacts = {
        "": (folder.config, *folder.published, folder.record),
        "update": (folder.update,),
    }
    for place, paths in artifacts.items():
        for path in paths:
            if path.exists():
                mlflow.log_artifact(path, place or None)
    left = record.status == "RUNNING"
    mlflow.finish("KILLED" if left else record.status, "killed" if left else record.error)
    _whole(mlflow)
    return {**told, "run_id": mlflow.run_id, "synced": True, "points": points}


IN_TRASH = "it was deleted in MLflow; mlflow runs restore --run-id {} brings it back"


def _deleted(store: Store, folder: RunFolder | SweepFolder, run_id: str) -> str | None:
    """The id of its run in MLflow, if a person deleted that."""
    client = mlflow_client.client(store)
    there = mlflow_client.run_of_record(client, run_id, str(folder.path.resolve()))
    return there if there is not None and mlflow_client.in_trash(client, there) else None


def ask(folder: RunFolder, record: RunRecord, uri: str | None) -> None:
    """A record from elsewhere does not say where this user's files are sent."""
    named = record.group("tracking").get("uri")
    if uri is None and named is not None and signature.signed(folder.config) is None:
        wish = f"tracking.uri={line(named)} is where its files are sent"
        trust.require(f"The run {folder.path}", [wish], f"{folder.record} (or give tracking.uri=…)")


def _tracked(record: RunRecord, uri: str | None) -> bool:
    return uri is not None or record.group("tracking").get("enabled", True)


def _left(folder: RunFolder, record: RunRecord, uri: str | None) -> bool:
    """Whether nobody runs in it any more: its process was killed."""
    if folder.in_use:
        return False
    try:
        return not mlflow_runs.find_run(_store(record.config, uri), record.run_id).alive
    except (ConfigError, DataError):
        return True


def _store(config: dict[str, Any], uri: str | None) -> Store:
    return mlflow_client.open_store(uri or config.get("tracking", {}).get("uri"))


def _logger(
    config: dict[str, Any],
    uri: str | None,
    name: str,
    tags: dict[str, Any],
    run_id: str,
    parent: str | None = None,
) -> tuple[MLflowLogger, Store]:
    """The run in MLflow, taken up, or made where the store does not know it."""
    settings = config.get("tracking", {})
    store = _store(config, uri)
    mlflow = MLflowLogger(
        uri or settings.get("uri"),
        settings.get("experiment") or "myosotis",
        name,
        {**(settings.get("tags") or {}), **tags},
        parent_run_id=parent or None,
    )
    mlflow.start(run_id, again=bool(run_id))
    return mlflow, store


def _parent(folder: SweepFolder, info: SweepInfo, trial: RunRecord, uri: str | None) -> SweepInfo:
    """The sweep's own run, from its folder and the records of its trials."""
    if not _tracked(trial, uri):
        return info
    if _deleted(_store(trial.config, uri), folder, info.run_id) is not None:
        return replace(info, run_id="")
    tags = place_tags(folder, info.name)
    mlflow, store = _logger(trial.config, uri, info.name, tags, info.run_id)
    info = replace(info, run_id=mlflow.run_id or "", store=store.shown)
    folder.save(info)
    conclude(mlflow, folder, trials_of(folder))
    _whole(mlflow)
    return info


def _curves(mlflow: MLflowLogger, store: Store, folder: RunFolder, record: RunRecord) -> int:
    """Log the measurements that MLflow lacks, at times spread over the run; returns how many."""
    assert mlflow.run_id is not None
    client = mlflow_client.client(store)
    points = [p for p in JsonlLogger(folder.metrics).points() if p.value is not None]
    names = {point.name for point in points}
    there = {
        name: mlflow_client.steps_of(client, mlflow.run_id, valid_name(name)) for name in names
    }
    missing = [point for point in points if point.step not in there[point.name]]
    begun, ended = (_milliseconds(text) for text in (record.started, record.ended))
    last = max((point.step for point in points), default=0) or 1
    batch = [
        (
            valid_name(point.name),
            float(point.value or 0.0),
            begun + (max(ended, begun) - begun) * point.step // last,
            point.step,
        )
        for point in missing
    ]
    for i in range(0, len(batch), METRICS_AT_ONCE):
        try:
            mlflow_client.log_batch(client, mlflow.run_id, metrics=batch[i : i + METRICS_AT_ONCE])
        except mlflow_client.FAILURES as error:
            raise _failed(str(error)) from None
    return len(batch)


def _milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000) if time else 0


def _whole(mlflow: MLflowLogger) -> None:
    if mlflow.no_files:
        raise _failed(f"it takes no files ({mlflow.no_files}), the rest is there")
    if mlflow.incomplete:
        raise _failed("it could not be written")


def _failed(why: str) -> RunError:
    return RunError(
        f"MLflow could not be brought up to date: {why}.", "Run the same command again to continue."
    )
