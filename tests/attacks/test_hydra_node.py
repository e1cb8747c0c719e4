"""Hydra makes objects, sets variables and writes files by its own node: none of a stranger's."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from myosotis.cli import main
from myosotis.config import compose
from myosotis.config.hydra_node import SETTABLE

Refused = Callable[..., str]

MKDIR = "os.mkdir"


def made(target: str, canary: Path) -> dict[str, Any]:
    return {"_target_": target, "path": str(canary)}


NODES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "callback": lambda c: {"callbacks": {"x": made(MKDIR, c)}},
    "callback-in-an-argument": lambda c: {
        "callbacks": {
            "x": {
                "_target_": "hydra.experimental.callbacks.LogJobReturnCallback",
                "more": made(MKDIR, c),
            }
        }
    },
    "callback-in-a-list": lambda c: {
        "callbacks": {"x": {"_target_": "myosotis.cli.multirun.Opening", "l": [made(MKDIR, c)]}}
    },
    "callback-of-a-trusted-package": lambda c: {
        "callbacks": {"x": {"_target_": "torch.load", "f": str(c), "weights_only": False}}
    },
    "callback-by-interpolation": lambda c: {
        "callbacks": {"x": {"_target_": "${hydra.job.config_name}"}},
        "job": {"config_name": MKDIR},
    },
    "callback-that-is-an-interpolation": lambda c: {
        "callbacks": {"x": "${hydra.env}"},
        "env": made(MKDIR, c),
    },
    "callback-like-ours": lambda c: {
        "callbacks": {"x": {"_target_": "myosotis.cli.multirun.OpeningX"}}
    },
    "callback-of-hydra-itself": lambda c: {
        "callbacks": {"x": {"_target_": "hydra.utils.call", "config": made(MKDIR, c)}}
    },
    "launcher": lambda c: {"launcher": made(MKDIR, c), "mode": "MULTIRUN"},
    "launcher-beside-the-plugins": lambda c: {
        "launcher": {"_target_": "hydra_plugins.theirs.Launcher"},
        "mode": "MULTIRUN",
    },
    "sweeper": lambda c: {"sweeper": made(MKDIR, c), "mode": "MULTIRUN"},
    "sweeper-sampler": lambda c: {"sweeper": {"sampler": made(MKDIR, c)}, "mode": "MULTIRUN"},
    "sweeper-parameters": lambda c: {
        "sweeper": {"params": {"+hydra.callbacks.x._target_": "os.getcwd,os.getpid"}},
        "mode": "MULTIRUN",
    },
    "logging-factory": lambda c: {
        "job_logging": {"formatters": {"x": {"()": MKDIR, "path": str(c)}}}
    },
    "hydra-logging-factory": lambda c: {
        "hydra_logging": {"handlers": {"x": {"()": MKDIR, "path": str(c)}}}
    },
    "logging-class": lambda c: {
        "job_logging": {"handlers": {"x": {"class": "logging.handlers.SocketHandler"}}}
    },
    "logging-reference": lambda c: {
        "job_logging": {"handlers": {"console": {"stream": "ext://antigravity.fly"}}}
    },
    "log-over-a-file": lambda c: {"job_logging": {"handlers": {"file": {"filename": str(c)}}}},
    "log-beside-the-folder": lambda c: {
        "job_logging": {
            "handlers": {"file": {"filename": "${hydra.runtime.output_dir}/../../canary"}}
        }
    },
    "env-that-trusts": lambda c: {"job": {"env_set": {"MYOSOTIS_TRUSTED": "os"}}},
    "env-that-says-the-word": lambda c: {"job": {"env_set": {"MYOSOTIS_TRUST": "1"}}},
    "env-path": lambda c: {"job": {"env_set": {"PATH": "/tmp"}}},
    "env-preload": lambda c: {"job": {"env_set": {"LD_PRELOAD": "/tmp/x.so"}}},
    "env-index": lambda c: {"job": {"env_set": {"PIP_INDEX_URL": "http://127.0.0.1:9"}}},
    "env-secret-copied": lambda c: {"job": {"env_copy": ["HOME"]}},
    "shell-lines-for-jobs": lambda c: {
        "launcher": {
            "_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
            "setup": [f"touch {c}"],
        },
        "mode": "MULTIRUN",
    },
    "function-of-a-search-space": lambda c: {
        "sweeper": {"custom_search_space": "os.getcwd"},
        "mode": "MULTIRUN",
    },
}


@pytest.mark.parametrize("attack", sorted(NODES))
def test_a_config_folder_cannot_run_code(
    attack: str, refused: Refused, folder_config: Callable[..., list[str]], canary: Path
) -> None:
    words = folder_config({"hydra": NODES[attack](canary)})
    refused("train", *words, "tracking=none")


@pytest.mark.parametrize("attack", ["callback", "logging-factory", "env-that-trusts"])
@pytest.mark.parametrize("command", ["plan", "audit", "evaluate"])
def test_nor_does_any_other_command(
    attack: str,
    command: str,
    refused: Refused,
    folder_config: Callable[..., list[str]],
    canary: Path,
) -> None:
    words = folder_config({"hydra": NODES[attack](canary)})
    refused(command, *(["model"] if command == "evaluate" else []), *words)


@pytest.mark.parametrize(
    "override",
    [
        "+hydra.callbacks.x={{_target_: os.mkdir, path: '{canary}'}}",
        "+hydra.job.env_set.MYOSOTIS_TRUSTED=os",
        "hydra.launcher._target_=os.mkdir",
        "hydra.searchpath=[pkg://theirs]",
    ],
)
def test_an_override_is_checked_alike(override: str, refused: Refused, canary: Path) -> None:
    refused("train", override.format(canary=canary))


def test_a_package_is_not_imported_to_look_for_configs(
    refused: Refused,
    folder_config: Callable[..., list[str]],
    here: Path,
    canary: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (here / "theirs_pkg").mkdir()
    (here / "theirs_pkg" / "__init__.py").write_text(f"open({str(canary)!r}, 'w')\n")
    monkeypatch.syspath_prepend(here)  # as with PYTHONPATH=.
    words = folder_config({"hydra": {"searchpath": ["pkg://theirs_pkg"]}})
    assert "theirs_pkg" in refused("train", *words)
    assert "theirs_pkg" not in sys.modules


class Bomb:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_a_rerun_from_a_pickle_is_refused(refused: Refused, here: Path, canary: Path) -> None:
    (here / "config.pickle").write_bytes(pickle.dumps(Bomb(str(canary))))
    assert "pickle" in refused("train", "--experimental-rerun", here / "config.pickle")
    refused("train", f"--experimental-rerun={here / 'config.pickle'}")


def test_a_study_cannot_trust_a_models_code(
    refused: Refused, folder_config: Callable[..., list[str]], here: Path
) -> None:
    words = folder_config({"model": {"trust_remote_code": True}})
    assert "trust_remote_code" in refused("train", *words)
    assert "--trust" in refused("plan", *words)


def test_nor_by_the_parameters_of_its_sweeper(
    refused: Refused, folder_config: Callable[..., list[str]]
) -> None:
    params = {"model.trust_remote_code": "true", "seed": "0,1"}
    words = folder_config({"hydra": {"sweeper": {"params": params}, "mode": "MULTIRUN"}})
    assert "trust_remote_code" in refused("train", *words, "tracking=none", "hydra.sweep.dir=sweep")


def test_a_database_that_optuna_cannot_write_is_refused_before_anything_runs(
    refused: Refused, here: Path
) -> None:
    """Optuna 2.10 with SQLAlchemy 2.1: an AssertionError without a word, after the first trial."""
    pytest.importorskip("optuna")
    storage = "hydra.sweeper.storage='postgresql://me:secret@host/trials'"
    said = refused("sweep", "pareto", storage, "tracking=none")
    assert "hydra.sweeper.storage" in said and "Leave it out" in said and "secret" not in said


def test_typed_it_is_the_users_word() -> None:
    assert compose(["model.trust_remote_code=true"]).model.trust_remote_code is True


def test_what_hydra_is_for_still_works(folder_config: Callable[..., list[str]]) -> None:
    content = {
        "hydra": {
            "job": {"env_set": dict.fromkeys(SETTABLE, "1")},
            "callbacks": {"x": {"_target_": "hydra.experimental.callbacks.LogJobReturnCallback"}},
            "launcher": {
                "_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
            },
        }
    }
    words = folder_config(content)
    assert main(["train", *words, "--cfg", "job"]) == 0
