"""What an attack is: something a stranger prepared, and a canary that it would leave behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from myosotis.cli import main
from myosotis.records.schema import RunRecord


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, and a store, of this test's own; nothing trusted."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("MYOSOTIS_TRUSTED", "MYOSOTIS_TRUST", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder the user works in."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What the payload would make."""
    return tmp_path / "canary"


@pytest.fixture
def refused(here: Path, canary: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must be refused: one message, exit code 2, no canary; its message."""

    def run(*args: object) -> str:
        environment = dict(os.environ)
        capfd.readouterr()
        code = main([str(arg) for arg in args])
        out, err = capfd.readouterr()
        assert not canary.exists(), "the payload ran"
        assert code == 2, f"exit {code}\n{out}\n{err}"
        assert err.count("error: ") == 1, err
        assert "Traceback" not in out + err
        for name in ("MYOSOTIS_TRUST", "MYOSOTIS_TRUSTED"):
            assert os.environ.get(name) == environment.get(name)
        return " ".join(err.split())

    return run


@pytest.fixture
def folder_config(tmp_path: Path) -> Callable[[dict[str, Any]], list[str]]:
    """A config folder of a stranger's: the words that name its primary config."""

    def write(content: dict[str, Any], **files: str) -> list[str]:
        place = tmp_path / "stranger-conf"
        place.mkdir(exist_ok=True)
        content = {"defaults": ["train", "_self_"], **content}
        (place / "theirs.yaml").write_text(yaml.safe_dump(content))
        return ["-cd", str(place), "-cn", "theirs"]

    return write


def plain_config(place: Path) -> dict[str, Any]:
    """A run's configuration in which nothing lies elsewhere."""
    from myosotis.config import compose
    from myosotis.config.recorded import recorded

    cfg = compose(["out=run", "model=local", "model.path=model", "data=jsonl", "data.path=d.jsonl"])
    return recorded(cfg)


@pytest.fixture
def stranger_run(here: Path) -> Callable[..., Path]:
    """A finished run that came from elsewhere, with these keys of its config.yaml changed."""

    def make(changes: dict[str, Any] | None = None, text: str | None = None) -> Path:
        from omegaconf import OmegaConf

        place = here / "runs" / "from-elsewhere"
        (place / "update").mkdir(parents=True)
        (place / "checkpoints").mkdir()
        (place / "checkpoints" / "last.ckpt").touch()
        RunRecord("f" * 32, "theirs", status="FINISHED", started="2026-01-01").save(
            place / "record.json"
        )
        cfg = OmegaConf.create(plain_config(here))
        for key, value in (changes or {}).items():
            OmegaConf.update(cfg, key, value, force_add=True)
        (place / "config.yaml").write_text(text if text is not None else OmegaConf.to_yaml(cfg))
        return place

    return make
