"""The state of a checkout is read, and nothing that the checkout brings is run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from myosotis.records.schema import GitState
from myosotis.tracking.environment import git_state, versions


def git(*args: str) -> str:
    own = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *who, *args], check=True, capture_output=True, text=True, env=os.environ | own
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    (tmp_path / "a.txt").write_text("one")
    git("add", "a.txt")
    git("commit", "-qm", "first")
    return tmp_path


def test_the_commit_and_whether_files_differ_from_it(checkout: Path) -> None:
    commit = git("rev-parse", "HEAD")
    assert git_state() == GitState(commit, dirty=False)
    (checkout / "untracked").write_text("")
    assert git_state() == GitState(commit, dirty=False)
    (checkout / "a.txt").write_text("two")
    assert git_state() == GitState(commit, dirty=True)


def test_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state() == GitState()


def test_no_program_of_the_checkout_runs(checkout: Path, tmp_path: Path) -> None:
    """A file system monitor, a hook on index changes and a content filter; all three would."""
    mark = tmp_path / "it-ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\ncat\n")
    program.chmod(0o755)
    hook = checkout / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(program.read_text())
    hook.chmod(0o755)
    (checkout / ".gitattributes").write_text("*.txt filter=own\n")
    git("config", "filter.own.clean", str(program))
    git("config", "filter.own.required", "true")
    git("config", "core.fsmonitor", str(program))

    def touched() -> None:  # another time of change makes git compare the content
        os.utime(checkout / "a.txt", (1, 1))

    touched()
    git("status", "--porcelain")
    assert mark.exists()  # plain git runs what it finds
    mark.unlink()
    touched()
    assert git_state().commit == git("-c", "core.fsmonitor=false", "rev-parse", "HEAD")
    assert not mark.exists()


def test_versions_of_what_a_result_depends_on() -> None:
    assert {"python", "myosotis", "torch", "transformers", "mlflow"} <= versions().keys()
