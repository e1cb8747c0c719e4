"""Links planted where we write, files of others at `--out`, secrets on their way to a record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from myosotis.cli import main
from myosotis.config.recorded import literal, recorded
from myosotis.models.init_from import InitialUpdate
from myosotis.records.run_folder import RunFolder
from myosotis.records.schema import RunRecord
from myosotis.report.scorecard import FORMATS, scorecard
from myosotis.tracking import mlflow_store
from myosotis.utils.errors import ConfigError
from myosotis.utils.own_files import refuse_links

Refused = Callable[..., str]
PRECIOUS = "the user's own\n"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of the user's that a link would reach."""
    path = tmp_path / "precious"
    path.write_text(PRECIOUS)
    return path


PLACES = ("config.yaml", "record.json", "metrics.jsonl", "train.log", ".hydra/config.yaml",
          "checkpoints/last.ckpt", "update/adapter.safetensors", "scorecard.html")  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_run_writes_through_no_link(
    place: str, here: Path, precious: Path, refused: Refused
) -> None:
    link = here / "planted" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)
    message = refused("train", "out=planted", "tracking=none", "data=jsonl", "data.path=none.jsonl")
    assert "symbolic link" in message
    assert precious.read_text() == PRECIOUS
    assert [p for p in (here / "planted").rglob("*") if p.is_file()] == [link]


def test_nor_through_a_linked_folder(here: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "elsewhere").mkdir()
    (here / "planted").mkdir()
    (here / "planted" / ".hydra").symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in refused("train", "out=planted", "tracking=none")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_sweep_neither(here: Path, precious: Path, refused: Refused) -> None:
    (here / "planted" / "trial").mkdir(parents=True)
    (here / "planted" / "trial" / "record.json").symlink_to(precious)
    words = ["-m", "seed=0,1", "hydra.sweep.dir=planted", "tracking=none"]
    assert "symbolic link" in refused("train", *words)
    assert precious.read_text() == PRECIOUS


@pytest.mark.parametrize("name", ["config.yaml", "retention_items.parquet", "update/x"])
def test_a_strangers_run_reads_through_none(
    name: str,
    stranger_run: Callable[..., Path],
    precious: Path,
    refused: Refused,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = stranger_run()
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(precious)
    assert "symbolic link" in refused("generate", run, "--prompt", "x")
    assert main(["sync", str(run), "tracking.uri=mlflow.db"]) == 1  # told of each run
    assert "symbolic link" in capfd.readouterr().out


def test_nothing_to_go_on_from_is_copied_through_one(here: Path, precious: Path) -> None:
    (here / "theirs").mkdir()
    (here / "theirs" / "notes").symlink_to(precious)
    start = InitialUpdate("theirs", here / "theirs")
    with pytest.raises(ConfigError, match="symbolic link"):
        start.keep(here / "run" / "start")
    assert not (here / "run").exists()


def test_the_folder_itself_may_be_a_link(here: Path) -> None:
    (here / "large-disk").mkdir()
    (here / "runs").symlink_to(here / "large-disk")
    refuse_links(here / "runs")
    refuse_links(here / "nowhere")


# --out


@pytest.fixture
def run(here: Path) -> Path:
    place = here / "runs" / "mine"
    RunRecord("b" * 32, "mine", status="FINISHED", started="2026-01-01").save(_made(place))
    return place


def _made(place: Path) -> Path:
    place.mkdir(parents=True)
    return place / "record.json"


@pytest.mark.parametrize(
    "name", ["x.py", "notes.md", "page.html", "table.csv", "data.json", "none"]
)
def test_a_file_of_another_kind_is_not_written_over(
    name: str, here: Path, run: Path, refused: Refused
) -> None:
    (here / name).write_text(PRECIOUS)
    message = refused("scorecard", run, "--out", here / name, "--format", "html")
    assert "no scorecard of ours" in message
    assert (here / name).read_text() == PRECIOUS


@pytest.mark.parametrize("dangling", [False, True])
def test_nor_what_a_link_names(
    dangling: bool, here: Path, run: Path, precious: Path, refused: Refused
) -> None:
    if dangling:
        precious.unlink()
    (here / "card.html").symlink_to(precious)
    assert "symbolic link" in refused("scorecard", run, "--out", here / "card.html")
    assert precious.exists() != dangling


@pytest.mark.parametrize("ending", sorted(FORMATS))
def test_a_scorecard_is_written_again(ending: str, here: Path) -> None:
    from myosotis.report.scorecard import is_one
    from tests.report.made import rank_lr, trial

    path = here / f"card{ending}"
    for records in (trial("lora", 4, 1e-3, 0), rank_lr()):
        scorecard(records, path)
        assert is_one(path)


def test_a_model_goes_through_no_link(here: Path, tmp_path: Path) -> None:
    from myosotis.commands.export import refuse_full

    (tmp_path / "empty").mkdir()
    (here / "out").symlink_to(tmp_path / "empty")
    with pytest.raises(ConfigError, match="symbolic link"):
        refuse_full(here / "out")
    assert list((tmp_path / "empty").iterdir()) == []


# Secrets


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("THEIR_SECRET", "hunter2")
    return "hunter2"


CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"a": "${oc.env:THEIR_SECRET}"},
    "with-a-default": {"a": "${oc.env:THEIR_SECRET,none}"},
    "inside": {"a": "x/${oc.env:THEIR_SECRET}/y"},
    "referred-to": {"a": "${b}", "b": "${oc.env:THEIR_SECRET}"},
    "referred-to-node": {"a": "${b}", "b": {"c": "${oc.env:THEIR_SECRET}"}},
    "in-a-list": {"a": ["${oc.env:THEIR_SECRET}"]},
    "name-made-up": {"a": "${oc.env:${b}}", "b": "THEIR_SECRET"},
    "selected": {"a": "${oc.select:b}", "b": "${oc.env:THEIR_SECRET}"},
}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_environment_is_in_no_record(name: str, secret: str) -> None:
    cfg = OmegaConf.create(CONFIGS[name])
    assert secret in str(OmegaConf.to_container(cfg, resolve=True))
    kept = recorded(cfg)
    assert secret not in str(kept)
    assert "oc.env" in str(kept)
    # It is looked up again when the run is taken up, and not where it is only shown.
    assert secret in str(OmegaConf.to_container(OmegaConf.create(kept), resolve=True))
    assert secret not in str(OmegaConf.to_container(literal(cfg), resolve=True))


def test_numbers_from_the_environment_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    from myosotis.config import compose

    monkeypatch.setenv("STEPS", "7")
    cfg = compose(["trainer.max_steps=${oc.env:STEPS}"])
    assert recorded(cfg)["trainer"]["max_steps"] == 7
    assert cfg.trainer.max_steps == 7


def test_reading_the_environment_works_afterwards(secret: str) -> None:
    recorded(OmegaConf.create({"a": "${oc.env:THEIR_SECRET}"}))
    assert OmegaConf.create({"a": "${oc.env:THEIR_SECRET}"}).a == secret
    assert OmegaConf.create({"a": "${oc.env:NOT_THERE_EITHER,x}"}).a == "x"


def test_a_password_in_an_address_is_in_no_record() -> None:
    kept = recorded(OmegaConf.create({"tracking": {"uri": "http://me:hunter2@host:5000"}}))
    assert kept == {"tracking": {"uri": "http://***@host:5000"}}
    with pytest.raises(ConfigError, match="without its password"):
        mlflow_store.resolve(kept["tracking"]["uri"])


def test_a_strangers_record_looks_nothing_up(
    here: Path, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from myosotis.commands.run_params import params, tags
    from myosotis.config import compose

    cfg = compose(["data.name='${oc.env:THEIR_SECRET}'"])
    assert secret not in str(params(cfg, ["data.name=x"])) + str(tags(cfg, ""))


def test_a_strangers_record_does_not_say_where_files_go(
    stranger_run: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    run = stranger_run()
    record = RunFolder(run).load()
    record.config = {"tracking": {"enabled": True, "uri": "http://127.0.0.1:9"}}
    record.save(run / "record.json")
    assert main(["sync", str(run)]) == 1
    assert "tracking.uri" in capfd.readouterr().out
