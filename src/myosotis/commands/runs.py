"""`myosotis runs`: what runs there are, what one of them is, and how to be rid of one.

What belongs here: reading run folders for a person who looks for one, and deleting one of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.table import Table
from rich.text import Text

from myosotis.commands.run_params import data_name, model_name, swept
from myosotis.records.find import all_runs, find_run
from myosotis.records.run_folder import LOCK, WRITER, RunFolder, SweepFolder, bytes_in
from myosotis.records.schema import RunRecord
from myosotis.utils.duration import duration
from myosotis.utils.errors import ConfigError, MyosotisError, RunError
from myosotis.utils.escape import line

COLUMNS = ("name", "id", "model", "data", "method", "swept", "verdict", "size", "age", "status")

NAMED_BY = ("model", "data", "update", "objective")
"""The groups of a configuration that say what a run is of."""

MADE = (
    *("record.json", "config.yaml", "metrics.jsonl", "checkpoints", "update", "start", "csv"),
    *(
        "retention_items.parquet",
        "task_items.parquet",
        "reward.json",
        "scorecard.*",
        "export-*",
        "*.log",
        "tensorboard",
        "lightning",
    ),
    *("lightning_logs", "wandb", "*.sig", LOCK, WRITER, "*.partial", ".*.partial"),
)
"""What a run and the commands that work on it write in its folder; the rest is somebody's own."""


def listed(root: Path | None = None) -> list[dict[str, Any]]:
    """The runs below `root` (default: the current folder), newest first; damaged ones left out."""
    found = []
    for folder in all_runs(root):
        try:
            found.append(facts(folder))
        except MyosotisError:
            continue
    return sorted(found, key=lambda one: (one["started"], one["out"]), reverse=True)


def facts(folder: RunFolder) -> dict[str, Any]:
    """What tells a run from others. `bytes` is what its folder takes, what lies in it included."""
    record = folder.load()
    verdict = record.suite_verdict.verdict if record.suite_verdict else ""
    return {
        "run_id": record.run_id,
        "run_name": record.run_name,
        **_subject(record),
        "swept": " ".join(swept(record.command, SweepFolder(folder.path.parent).load())),
        "verdict": verdict,
        "bytes": bytes_in(folder.path),
        "started": record.started,
        "status": _status(folder, record),
        "out": str(folder.path),
    }


def _subject(record: RunRecord) -> dict[str, str]:
    """Model, data and method; `evaluate` and `export` are methods, and train on nothing."""
    cfg = DictConfig(_literal({name: record.config.get(name) for name in NAMED_BY}))
    used = record.command[1] if len(record.command) > 1 else "train"
    trained = used not in ("evaluate", "export")
    model = record.model.id.rstrip("/").rpartition("/")[2]
    try:
        if not trained:
            return {"model": model, "data": "", "method": used}
        update, objective = cfg["update"].name, cfg.objective.name
        method = update if objective == "sft" else f"{update} {objective}"
        return {"model": model_name(cfg) or model, "data": data_name(cfg), "method": method}
    except Exception:  # noqa: BLE001 - a configuration of another version, or none
        return {"model": model, "data": record.data.name, "method": record.update.name}


def _literal(value: Any) -> Any:
    """A configuration in which nothing refers to anything: it may have come from elsewhere."""
    if isinstance(value, dict):
        return {key: _literal(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_literal(one) for one in value]
    return value.replace("${", "$ {") if isinstance(value, str) else value


def _status(folder: RunFolder, record: RunRecord) -> str:
    """As recorded; of a run whose process is gone, that it was killed."""
    return "KILLED" if record.status == "RUNNING" and not folder.in_use else record.status


def shown_size(size: int) -> str:
    """`12 kB`, `3.4 MB`, `1.2 GB`: powers of 1000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def shown_age(started: str) -> str:
    """How long ago it began, in its largest unit: `3 d`, `2 h`, `5 min`."""
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):
        return ""
    if seconds >= 86_400:
        return f"{seconds / 86_400:.0f} d"
    return f"{seconds / 3600:.0f} h" if seconds >= 3600 else f"{max(seconds, 0) / 60:.0f} min"


def table(runs: list[dict[str, Any]]) -> Table:
    """The runs as a table; a column that is empty for all of them is left out."""
    rows = [
        {
            **run,
            "name": run["run_name"],
            "id": run["run_id"][:8],
            "size": shown_size(run["bytes"]),
            "age": shown_age(run["started"]),
        }
        for run in runs
    ]
    made = Table()
    used = [name for name in COLUMNS if any(row[name] for row in rows)]
    for name in used:
        right = name in ("size", "age")
        made.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(line(row[name])) for name in used))
    return made


def shown(query: str) -> dict[str, Any]:
    """The facts of the run that `query` means, with its command, duration, error and warnings."""
    folder = find_run(query)
    record = folder.load()
    seconds = record.cost.get("total_seconds")
    return facts(folder) | {
        "command": record.command,
        "ended": record.ended,
        "took": duration(seconds) if seconds else "",
        "error": record.error,
        "warnings": record.warnings,
        "scorecard": str(folder.scorecard) if folder.scorecard.exists() else "",
    }


def delete(
    query: str, agreed: Callable[[dict[str, Any]], bool], *, keep_mlflow: bool = False
) -> dict[str, Any]:
    """Delete the run that `query` means, in MLflow and on disk, once `agreed` says so of its facts.

    Files in its folder that no run writes stay. Raises `ConfigError` while it is being written,
    `RunError` when MLflow cannot be reached (nothing is deleted then).
    """
    folder = find_run(query)
    with folder.owned():
        found = facts(folder)
        if not agreed(found):
            return {**found, "deleted": False}
        if not keep_mlflow:
            _delete_in_mlflow(folder)
        _remove(folder)
        left = sorted(p.name for p in folder.path.iterdir() if p.name not in (LOCK, WRITER))
    return {**found, "deleted": True, "left": left}


def _delete_in_mlflow(folder: RunFolder) -> None:
    record = folder.load()
    tracking = record.group("tracking")
    if not tracking.get("enabled"):
        return
    from myosotis.commands.sync import ask  # takes seconds, which listing has no use for
    from myosotis.tracking import mlflow_client

    ask(folder, record, None)
    try:
        store = mlflow_client.open_store(tracking.get("uri"), create=False)
        client = mlflow_client.client(store)
        run_id = mlflow_client.run_of_record(client, record.run_id, str(folder.path.resolve()))
        if run_id is not None:
            client.delete_run(run_id)
    except ConfigError as error:
        raise _not_reached(error.message) from None
    except mlflow_client.FAILURES as error:
        raise _not_reached(str(error)) from None


def _not_reached(why: str) -> RunError:
    return RunError(
        f"Nothing was deleted: MLflow cannot be reached: {why}",
        "--keep-mlflow deletes the folder alone.",
    )


def _remove(folder: RunFolder) -> None:
    """What a run has made in its folder, the record last: a kill before leaves a run to delete."""
    ours = {path for name in MADE for path in folder.path.glob(name)}
    held = {folder.path / LOCK, folder.path / WRITER}
    for path in sorted(ours - held, key=lambda path: path == folder.record):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
