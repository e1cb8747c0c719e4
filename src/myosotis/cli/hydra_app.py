"""`myosotis train`: one run or a Hydra sweep, through `hydra.main`.

Everything Hydra's own command line offers works: -m, --cfg, --info, -cd, -cn, --hydra-help.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from myosotis.cli import errors, multirun, studies
from myosotis.cli.exit_codes import Gated, JobsFailed
from myosotis.config import hydra_node, register_resolvers
from myosotis.config.compose import PRIMARY, quoted
from myosotis.config.schema import register
from myosotis.config.targets import settled
from myosotis.utils.errors import ConfigError, MyosotisError
from myosotis.utils.escape import redacted

register_resolvers()  # here, because a parallel launcher's processes import this and nothing else

# The run of this process and its config: Hydra hands back no result.
_finished: list[Any] = []
_started: list[DictConfig] = []
_given_argv: list[str] = []


def main(args: list[str]) -> Any:
    """Run `myosotis train ARGS`; returns the run record, or for a multirun {"runs": [...]}."""
    if "-h" in args or "--help" in args:
        from myosotis.cli import help

        help.train([arg for arg in args if arg not in ("-h", "--help")])
        return None
    for kept in (_finished, _started):
        kept.clear()
    register()
    with multirun.closing():
        _run_hydra(quoted(args))
    if (sweep := multirun.current()) is not None:
        if failed := sweep.failed():
            raise JobsFailed(
                f"{len(failed)} of {len(sweep.trials)} trials failed.",
                "Run the same command again: it repeats only the failed trials.",
                sweep.document(),
            )
        return sweep.document()
    if not _finished:
        return None  # --cfg, --info: Hydra has printed what was asked
    record, cfg = _finished[0], _started[0]
    return gated(record, record.suite_verdict, cfg)


def gated(result: Any, suite_verdict: Any, cfg: DictConfig) -> Any:
    """`result`; raises `Gated` when the config asks for a gate and the verdict does not pass it."""
    if not cfg.retention.gate:
        return result
    from myosotis.config import instantiate

    budget = instantiate.budget(cfg)
    # Without a verdict nothing is settled.
    if code := 4 if suite_verdict is None else budget.exit_code(suite_verdict.verdict):
        raise Gated(result, code)
    return result


def _job(cfg: DictConfig) -> float | tuple[float, ...] | None:
    """What Hydra calls for each job; returns what `sweep.objectives` names, to the sweeper.

    None stands for a job that failed or did not measure that: the others go on with any sweeper.
    """
    job = HydraConfig.get()
    _started.append(cfg)
    sys.argv = _given_argv or sys.argv  # Lightning starts the other ranks of a run by this command
    _redact(Path(job.runtime.output_dir) / (job.output_subdir or ""))
    with open_dict(cfg):
        cfg.out = job.runtime.output_dir
    if job.mode != RunMode.MULTIRUN:
        try:
            _finished.append(_train(cfg, multirun.command_of(job)))
        finally:
            _remove_empty(Path(job.runtime.output_dir))
        return None
    if "joblib" in str(job.launcher.get("_target_")) and cfg.trainer.accelerator != "cpu":
        _take_a_device()
    record = multirun.run_job(cfg, multirun.command_of(job))
    values = tuple(_measured(record, name) for name in cfg.sweep.objectives) if record else (None,)
    known = tuple(value for value in values if value is not None)
    if len(known) < len(values):
        return None
    return known[0] if len(known) == 1 else known


def _take_a_device() -> None:
    """Of several trials at a time on this machine, each has a GPU of its own, if there are any."""
    from myosotis.models.wheels import cache_dir
    from myosotis.utils import own_device

    own_device.take(cache_dir() / "devices" / socket.gethostname())


def _redact(folder: Path) -> None:
    """What Hydra has written of the command, without users and passwords of addresses."""
    for path in folder.glob("*.yaml"):
        with suppress(OSError):
            if (text := path.read_text("utf-8")) != (safe := redacted(text)):
                path.write_text(safe, "utf-8")


def _remove_empty(folder: Path) -> None:
    """Hydra makes a folder before it is known whether anything begins in it."""
    with suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()


def _measured(record: Any, name: str) -> float | None:
    from myosotis.commands.sweep import Trial

    return Trial(Path(), record).objectives[name]


def _train(cfg: DictConfig, overrides: list[str]) -> Any:
    from myosotis.commands import train

    try:
        return train.train(cfg, overrides, command=studies.command(overrides))
    except MyosotisError as error:
        if error.exit_code > multirun.SIGNALLED and not error.hint:
            error.hint = f"To continue: myosotis train resume={_name_of_run(cfg)}"
        raise


def _name_of_run(cfg: DictConfig) -> str:
    """What to call a stopped run: its id, short."""
    from myosotis.records.schema import RunRecord

    if cfg.resume is not None:
        return str(cfg.resume)
    with suppress(MyosotisError):
        return RunRecord.load(cfg.out).run_id[:8]
    return "last"


def _run_hydra(args: list[str]) -> None:
    """`hydra.main` on these arguments, with errors raised instead of printed.

    HYDRA_FULL_ERROR is Hydra's own switch for that. A user who sets it gets the full traceback.
    """
    hydra_node.refuse_rerun(args)
    asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    global _given_argv
    _given_argv, sys.argv = sys.argv, ["myosotis train", *args]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with _logging_restored(), _errors_told_once(), settled(), hydra_node.guarded(args):
            hydra.main(config_path=PRIMARY, config_name="train", version_base="1.3")(_job)()
    except multirun.Refused as refused:
        raise refused.error from None
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
    return errors.explained(error, args)
