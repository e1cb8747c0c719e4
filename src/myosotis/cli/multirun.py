"""Hydra's multirun as one sweep: opened before its trials, and what its jobs do.

A job may run in this process or, with a parallel launcher, in any other; all it leaves is its run
folder, which the sweep reads. conf/train.yaml names it by the hash of its configuration, so that
the same job always finds its own and no two share one.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from myosotis.cli.exit_codes import only_our_warnings, show
from myosotis.cli.studies import command
from myosotis.config import config_hash
from myosotis.config.instantiate import plain
from myosotis.records.run_folder import RunFolder, SweepFolder
from myosotis.utils.console import console
from myosotis.utils.errors import SIGNALLED, ConfigError, MyosotisError


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, already told. Hydra would go on with the next job after an Exception."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class Refused(BaseException):
    """Carries an error through Hydra, which turns a callback's Exceptions into warnings."""

    def __init__(self, error: MyosotisError) -> None:
        super().__init__(str(error))
        self.error = error


class Opening(Callback):
    """Hydra calls this before the first job of a multirun, in the process that launches them."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            _open(config)
        except MyosotisError as error:
            raise Refused(error) from None


# The sweep of this process, from its opening by Hydra until `main` has told its end.
_open_sweeps: list[Any] = []


def current() -> Any:
    """The `Sweep` that this process has opened, or None."""
    return _open_sweeps[-1] if _open_sweeps else None


def _open(config: DictConfig) -> None:
    from myosotis.commands.sweep import Sweep

    path = Path(config.hydra.sweep.dir).absolute()
    tracking = plain(config.tracking)
    settings = {key: tracking[key] for key in ("uri", "experiment", "tags")}
    study = config.hydra.job.config_name != "train"
    sweep = Sweep(
        SweepFolder(path),
        path.name if study else f"sweep {path.parent.name} {path.name}",
        command([*own_config(config.hydra), *config.hydra.overrides.task]),
        settings if tracking["enabled"] else None,
        count(config.hydra),
    )
    _open_sweeps.append(sweep.__enter__())


@contextmanager
def closing() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does; at the end the sweep is closed, if one was opened."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Stopped(SIGNALLED + signum)

    _open_sweeps.clear()
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except BaseException as error:
        if sweep := current():
            sweep.__exit__(type(error), error, None)
        raise
    else:
        if sweep := current():
            sweep.__exit__(None, None, None)
    finally:
        signal.signal(signal.SIGTERM, before)


def count(hydra: DictConfig) -> int | None:
    """How many jobs a multirun has, where its sweeper knows beforehand."""
    if (trials := OmegaConf.select(hydra, "sweeper.n_trials")) is not None:
        return int(trials)
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    if not str(hydra.sweeper.get("_target_", "")).endswith("BasicSweeper"):
        return None
    params = [f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()]
    words = OverridesParser.create().parse_overrides([*params, *hydra.overrides.task])
    return sum(len(batch) for batch in BasicSweeper.split_arguments(words, None))


def own_config(hydra: Any) -> list[str]:
    """`-cd DIR -cn NAME`, for a command that finds the same primary config."""
    folders = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    name = hydra.job.config_name
    return [*(f"-cd={folder}" for folder in folders), *([f"-cn={name}"] if name != "train" else [])]


def command_of(hydra: Any) -> list[str]:
    """The words after `myosotis train` that give one job of a multirun alone."""
    own = own_config(hydra)
    mode = ["hydra.mode=RUN"] if any(word.startswith("-cn") for word in own) else []
    return [*own, *mode, *hydra.overrides.task]


def run_job(cfg: DictConfig, words: list[str]) -> Any:
    """One trial: the record of a finished one, a half-done one taken up, or a new run.

    Returns its record, or None when it failed: that is on record too. Another process that runs the
    same trial is waited for. Raises `Stopped` when told to stop, and `Refused` when the first trial
    cannot begin: nor could the others.
    """
    if current() is None and console.is_terminal:
        console.quiet = True  # one process draws; what is to be told is in the records
    folder = RunFolder(Path(cfg.out))
    interrupted = folder.interrupted
    with folder.held(), only_our_warnings():
        before = folder.load() if folder.record.exists() else None
        if before is not None and before.config_hash not in (config_hash(cfg), ""):
            raise ConfigError(
                f"The folder {folder.path} holds a trial with other settings.",
                "Leave hydra.sweep.subdir as it is, or give each trial a folder of its own.",
            )
        if before is not None and before.status == "FINISHED":
            if interrupted:  # behind its result, where its page and MLflow come
                _mend(folder)
            return before
        if folder.checkpoint.exists():
            cfg.resume = cfg.out
            words = [*words, f"resume={cfg.out}"]
        # The other ranks of a distributed trial are to run it alone, not the sweep.
        sys.argv = [*sys.argv[:1], "train", *words, f"out={cfg.out}"]
        try:
            return _run(cfg, words, SweepFolder(folder.path.parent))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - on record, and counted at the end
            if isinstance(error, MyosotisError) and error.exit_code > SIGNALLED:
                error.hint = "Run the same command again to continue."
                show(error)
                raise Stopped(error.exit_code) from None
            if isinstance(error, MyosotisError) and _refused_at_first(folder, error):
                error.hint = f"{error.hint}\nNo other trial was started.".strip()
                raise Refused(error) from None
            _record_failure(cfg, folder, words, error, before)
            return None


def _mend(folder: RunFolder) -> None:
    from myosotis.commands.mend import mend_folder
    from myosotis.commands.sync import mend_tracking

    mend_folder(folder)
    mend_tracking(folder)


def _refused_at_first(folder: RunFolder, error: MyosotisError) -> bool:
    """Whether this process opened the sweep, and its first trial is refused for what was asked."""
    others = (run for run in SweepFolder(folder.path.parent).trials() if run.path != folder.path)
    return current() is not None and error.exit_code == ConfigError.exit_code and not any(others)


def _run(cfg: DictConfig, words: list[str], sweep: SweepFolder) -> Any:
    from myosotis.commands import train

    return train.train(cfg, words, sweep.load(), command(words))


def _record_failure(
    cfg: DictConfig, folder: RunFolder, words: list[str], error: BaseException, before: Any
) -> None:
    """A trial that failed before it was tracked has a record too, and a run in MLflow."""
    if not isinstance(error, MyosotisError):
        import traceback

        traceback.print_exception(error)
    if folder.record.exists() and folder.load() != before:
        return  # it was tracked, and has told
    from myosotis.commands.opening import mlflow_of
    from myosotis.commands.run_params import shown
    from myosotis.tracking.run_tracker import track

    name = before.run_name if before else " ".join(w for w in words if "=" in w)
    sweep = SweepFolder(folder.path.parent).load()
    mlflow = mlflow_of(cfg, folder, name, sweep)
    with (
        suppress(type(error)),
        track(
            folder.path,
            mlflow,
            run_name=name,
            command=shown(command(words)),
            config={},
            config_hash=config_hash(cfg),
        ),
    ):
        raise error
