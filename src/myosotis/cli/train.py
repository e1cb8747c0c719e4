"""`myosotis train`: one run or a Hydra sweep, through `hydra.main`.

Everything Hydra's own command line offers works: -m, --cfg, --info, -cd, -cn, --hydra-help.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from myosotis.cli import explain
from myosotis.cli.outcome import Gated, JobsFailed, show
from myosotis.config.composition import PRIMARY
from myosotis.config.schema import register
from myosotis.errors import ConfigError, MyosotisError

SIGNALLED = 128  # exit codes above this: stopped by a signal, in good order

# What the jobs of this process came to, in order: Hydra hands back no results of a multirun.
_finished: list[Any] = []
_failed: list[dict[str, Any]] = []
_started: list[DictConfig] = []
_given_argv: list[str] = []


class JobFailed(Exception):
    """Stands for a job's error in Hydra's hands.

    Hydra keeps the exceptions of failed jobs until the sweep ends, and with a traceback the model
    of each would stay alive; this one is raised `from None` and carries words only.
    """


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, already told. Hydra would go on with the next job after an Exception."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


def main(args: list[str]) -> Any:
    """Run `myosotis train ARGS`; returns the run record, or for a multirun {"runs": [...]}."""
    if "-h" in args or "--help" in args:
        from myosotis.cli import helptext

        helptext.train([arg for arg in args if arg not in ("-h", "--help")])
        return None
    for kept in (_finished, _failed, _started):
        kept.clear()
    register()
    _run_hydra(args)
    multirun = len(_started) > 1 or any(isinstance(done, Job) for done in _finished)
    if multirun:
        return {"runs": [job.document for job in _finished]}
    if not _finished:
        return None  # --cfg, --info: Hydra has printed what was asked
    record, cfg = _finished[0], _started[0]
    return gated(record, record.suite_verdict, cfg)


def gated(result: Any, suite_verdict: Any, cfg: DictConfig) -> Any:
    """`result`; raises `Gated` when the config asks for a gate and the verdict does not pass it."""
    if not cfg.retention.gate:
        return result
    from myosotis.config import build

    budget = build.budget(cfg)
    # Without a verdict nothing is settled.
    if code := 4 if suite_verdict is None else budget.exit_code(suite_verdict.verdict):
        raise Gated(result, code)
    return result


class Job:
    """A finished job of a multirun, as the JSON document lists it."""

    def __init__(self, record: Any, overrides: list[str], out: str) -> None:
        self.document = {
            "overrides": overrides,
            "out": out,
            "run_id": record.run_id,
            "run_name": record.run_name,
            "status": record.status,
            "quality": quality(record),
            "forgetting": forgetting(record),
        }


def quality(record: Any) -> float | None:
    """The task's score after tuning, in its metric's own unit."""
    return None if record.task is None else record.task.tuned


def forgetting(record: Any) -> float | None:
    """Base minus tuned over the suite: positive means worse."""
    verdict = record.suite_verdict
    return None if verdict is None or verdict.delta is None else -verdict.delta


MEASURES = {"quality": quality, "forgetting": forgetting}


def _job(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """What Hydra calls for each job; returns what `sweep.objectives` names, to the sweeper."""
    job = HydraConfig.get()
    overrides = [*job.overrides.task, *_own_folder(job)]
    _started.append(cfg)
    sys.argv = _given_argv  # Lightning starts the other ranks of a run by this very command
    with open_dict(cfg):
        cfg.out = job.runtime.output_dir
    if job.mode != RunMode.MULTIRUN:
        record = _train(cfg, overrides)
        _finished.append(record)
    else:
        record = _job_of_many(cfg, int(job.job.num), overrides)
        _finished.append(Job(record, overrides, cfg.out))
    values = tuple(_measured(record, name) for name in cfg.sweep.objectives)
    return values[0] if len(values) == 1 else values


def _measured(record: Any, name: str) -> float:
    value = MEASURES[name](record)
    return float("nan") if value is None else float(value)


def _own_folder(job: Any) -> list[str]:
    """`-cd DIR` as an override, so that the command which a run records finds the same config."""
    folders = [s.path for s in job.runtime.config_sources if s.provider == "command-line"]
    return [f"hydra.searchpath=[file://{folder}]" for folder in folders]


def _train(cfg: DictConfig, overrides: list[str]) -> Any:
    from myosotis import run

    try:
        return run.train(cfg, overrides)
    except MyosotisError as error:
        if error.exit_code > SIGNALLED and not error.hint:
            error.hint = f"Go on with: myosotis train resume={_name_of_run(cfg)}"
        raise


def _name_of_run(cfg: DictConfig) -> str:
    """What to call a stopped run: its id, short."""
    from myosotis.record import RunRecord

    if cfg.resume is not None:
        return str(cfg.resume)
    with suppress(MyosotisError):
        return RunRecord.load(cfg.out).run_id[:8]
    return "last"


def _job_of_many(cfg: DictConfig, number: int, overrides: list[str]) -> Any:
    try:
        return _train(cfg, overrides)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - told here, counted at the end
        if isinstance(error, MyosotisError):
            show(error)
            if error.exit_code > SIGNALLED:  # asked to stop: the other jobs do not start
                raise Stopped(error.exit_code) from None
        else:
            import traceback

            traceback.print_exception(error)
        summary = f"job {number} ({' '.join(overrides)}): {error}"
        _failed.append({"overrides": overrides, "status": "FAILED", "error": str(error)})
    raise JobFailed(summary)


def _run_hydra(args: list[str]) -> None:
    """`hydra.main` on these arguments, with errors raised instead of printed.

    HYDRA_FULL_ERROR is Hydra's own switch for that. A user who sets it gets the full traceback.
    """
    asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    global _given_argv
    _given_argv, sys.argv = sys.argv, ["myosotis train", *args]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with _logging_restored(), _errors_told_once():
            hydra.main(config_path=PRIMARY, config_name="train", version_base="1.3")(_job)()
    except JobFailed:
        done = [job.document for job in _finished]
        raise JobsFailed(
            f"{len(_failed)} of {len(_started)} jobs failed.", [*done, *_failed]
        ) from None
    except Exception as error:
        # Once a job has started, what is raised is the job's own.
        if asked_for_traceback or _started or isinstance(error, MyosotisError):
            raise
        if (told := _told(error, args)) is not None:
            raise told from None
        raise
    finally:
        sys.argv = _given_argv
        if not asked_for_traceback:
            del os.environ["HYDRA_FULL_ERROR"]


@contextmanager
def _logging_restored() -> Iterator[None]:
    """Take Hydra's handlers off again: a caller in the same process has its own."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def _errors_told_once() -> Iterator[None]:
    """Without Hydra's own line ("Error executing job with overrides: …") before each error."""
    kept = JobReturn.return_value

    def get(job: JobReturn) -> Any:
        if job.status == JobStatus.FAILED:
            raise job._return_value
        assert job.status == JobStatus.COMPLETED
        return job._return_value

    JobReturn.return_value = property(get, kept.fset)
    try:
        yield
    finally:
        JobReturn.return_value = kept


def _told(error: Exception, args: list[str]) -> MyosotisError | None:
    if isinstance(error, OSError) and error.filename:
        return ConfigError(
            f"Cannot write the run folder {error.filename}: {error.strerror}.",
            "Choose another with out=FOLDER (hydra.sweep.dir=FOLDER for -m).",
        )
    return explain.explained(error, args)
