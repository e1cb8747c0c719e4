"""A run folder from elsewhere is data: what could act needs the user's word in this command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from myosotis.config import strangers
from myosotis.utils import atomic_write, signature, trust
from myosotis.utils.errors import ConfigError

from .conftest import plain_config

Refused = Callable[..., str]
Made = Callable[..., Path]

COMMANDS = {
    "resume": lambda run: ["train", f"resume={run}", "tracking=none", "out=other"],
    "generate": lambda run: ["generate", run, "--prompt", "x"],
    "evaluate": lambda run: ["evaluate", run, "tracking=none", "retention.suite=[prose]"],
    "dial": lambda run: ["dial", run],
    "recover": lambda run: ["recover", run],
    "export": lambda run: ["export", run, "--to", "adapter"],
}

WISHES: dict[str, tuple[str, Any]] = {
    "remote-code": ("model.trust_remote_code", True),
    "remote-code-spelled-as-text": ("model.trust_remote_code", "yes"),
    "task-file": ("retention.suite", ["evil.yaml"]),
    "task-file-elsewhere": ("retention.suite", ["/x/evil.yml"]),
    "target": ("data.source._target_", "os.system"),
    "target-of-a-trusted-package": ("objective._target_", "torch.load"),
    "callback": ("callbacks.x._target_", "lightning.pytorch.callbacks.ModelCheckpoint"),
    "secret": ("tracking.run_name", "${oc.env:HOME}"),
    "secret-inside": ("data.source.path", "a/${oc.env:HOME}"),
    "secret-decoded": ("seed", "${oc.decode:${oc.env:HOME}}"),
    "absolute-data": ("data.path", "/etc/passwd"),
    "home": ("data.path", "~/notes.jsonl"),
    "above": ("model.path", "../../secret"),
    "drive": ("model.path", "C:\\\\models"),
    "benchmark-data": ("retention.data_files", {"hellaswag": "/etc/passwd"}),
    "server": ("tracking.uri", "http://127.0.0.1:9"),
    "programs": ("reward.code.run", True),
    "judge": ("reward.judge.url", "http://127.0.0.1:9/v1"),
    "secret-for-a-judge": ("reward.judge.key_env", "AWS_SECRET_ACCESS_KEY"),
    "start": ("model.start", "/x/update"),
}


@pytest.mark.parametrize("wish", sorted(WISHES))
def test_a_strangers_run_needs_the_users_word(
    wish: str, stranger_run: Made, refused: Refused
) -> None:
    key, value = WISHES[wish]
    run = stranger_run({key: value})
    message = refused("generate", run, "--prompt", "x")
    assert key.split(".")[0] in message
    assert "--trust" in message
    assert "config.yaml" in message


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_in_every_command_that_goes_by_it(
    command: str, stranger_run: Made, refused: Refused
) -> None:
    run = stranger_run({"model.trust_remote_code": True})
    assert "trust_remote_code" in refused(*COMMANDS[command](run))


def test_nothing_is_asked_for_what_cannot_act(stranger_run: Made) -> None:
    run = stranger_run()
    assert strangers.wishes(plain_config(run)) == []
    assert strangers.read(run / "config.yaml").model.path == "model"


def test_with_the_word_it_is_read(stranger_run: Made) -> None:
    run = stranger_run({"model.trust_remote_code": True})
    with trust.word(True):
        assert strangers.read(run / "config.yaml").model.trust_remote_code is True
    with pytest.raises(ConfigError, match="trust_remote_code"):  # of that command alone
        strangers.read(run / "config.yaml")


def signed_run(place: Path, **changes: Any) -> Path:
    cfg = OmegaConf.create(plain_config(place))
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value)
    path = place / "config.yaml"
    strangers.keep(cfg, path)
    return path


@pytest.mark.parametrize("dies_before", ["config.yaml.sig", "config.yaml"])
def test_a_run_that_is_killed_while_it_is_signed_anew_stays_ones_own(
    dies_before: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by bench/torture.py: a resumed run that died between the two was a stranger's."""
    path = signed_run(here, model__trust_remote_code=True)
    before = path.read_bytes()
    write_bytes = atomic_write.write_bytes

    def dies(target: Path, content: bytes) -> None:
        if target.name == dies_before:
            raise KeyboardInterrupt
        write_bytes(target, content)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(atomic_write, "write_bytes", dies)
        patched.setattr(signature, "write_bytes", dies)
        signed_run(here, model__trust_remote_code=True, seed=5)
    assert path.read_bytes() == before
    assert strangers.read(path).model.trust_remote_code is True
    assert strangers.read(signed_run(here, model__trust_remote_code=True, seed=5)).seed == 5
    path.write_bytes(before)  # what this user wrote before is still this user's
    assert strangers.read(path).model.trust_remote_code is True


def test_a_run_of_ones_own_is_not_asked_about(here: Path) -> None:
    path = signed_run(here, model__trust_remote_code=True, data__path="/data/mine.jsonl")
    assert strangers.read(path).data.path == "/data/mine.jsonl"


def test_a_signature_does_not_hold_for_another_text(here: Path) -> None:
    path = signed_run(here)
    text = path.read_text().replace("trust_remote_code: false", "trust_remote_code: true")
    path.write_text(text)
    with pytest.raises(ConfigError, match="trust_remote_code"):
        strangers.read(path)


@pytest.mark.parametrize(
    "forged",
    [
        {},
        [],
        {"hmac": "0" * 64, "files": []},
        {"hmac": None, "files": []},
        {"hmac": "é" * 64, "files": []},
        {"hmac": "0" * 64, "files": {"a": 1}},
    ],
    ids=repr,
)
def test_a_forged_signature_is_none(forged: Any, here: Path) -> None:
    path = signed_run(here, model__trust_remote_code=True)
    path.with_name("config.yaml.sig").write_text(json.dumps(forged))
    assert signature.signed(path) is None


def test_another_users_signature_is_none(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = signed_run(here, model__trust_remote_code=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(here / "another-home"))
    assert signature.signed(path) is None
    assert not signature.key_file().exists()  # asking makes no key
    with pytest.raises(ConfigError):
        strangers.read(path)


def test_nobody_else_can_read_the_key(here: Path) -> None:
    signed_run(here)
    assert signature.key_file().stat().st_mode & 0o077 == 0
    assert len(signature.key_file().read_bytes()) == 32


def test_a_signature_names_the_task_files_it_holds_for(here: Path) -> None:
    signed = signed_run(here, retention__suite=["mine.yaml", "prose"])
    files = signature.signed(signed)
    assert files == [str(here / "mine.yaml")]
    document = json.loads(signed.with_name("config.yaml.sig").read_text())
    document["files"] = ["/x/evil.yaml"]
    signed.with_name("config.yaml.sig").write_text(json.dumps(document))
    assert signature.signed(signed) is None


def test_a_home_that_cannot_be_written_signs_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(here / "file"))
    path = signed_run(here, model__trust_remote_code=True)
    assert signature.signed(path) is None
