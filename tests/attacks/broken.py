"""Broken inputs: a small world in which everything works, and the ways in which each file of it can
be damaged. Used by test_broken_inputs.py and test_fuzz.py.

What belongs here: making the world, damaging one of its files, and running a command on it with a
bound on time and memory. Nothing here may load weights: a broken input is to be refused before.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 20
"""A command that takes longer hangs."""

MEMORY = 3 * 2**30
"""Bytes of address space that a command may take on top of what the process has."""


class Weights(BaseException):
    """The command has read all that it was given, and would now load weights."""


class Hangs(BaseException):
    """The command takes longer than `SECONDS`."""


def build(place: Path, tiny_model: Path) -> None:
    """A model, data, benchmarks of one's own, a run that is finished, and an adapter."""
    import torch
    import yaml
    from omegaconf import OmegaConf
    from transformers import AutoModelForCausalLM

    from myosotis import updates
    from myosotis.config import compose, config_hash
    from myosotis.config.recorded import recorded
    from myosotis.records.schema import RunRecord

    model = place / "model"
    model.mkdir(parents=True)
    for file in sorted(tiny_model.iterdir()):
        target = place / file.name if file.name == "data.jsonl" else model / file.name
        shutil.copyfile(file, target)
    items = [{"question": f"{n}?", "choices": ["a", "b"], "answer": n % 2} for n in range(40)]
    (place / "own.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (place / "items.jsonl").write_text('{"question": "a or b?", "label": 0}\n' * 40)
    (place / "task.yaml").write_text(TASK)
    run = place / "runs" / "it"
    run.mkdir(parents=True)
    cfg = compose([*words("out=runs/it"), "update.r=2", "retention.suite=[own.jsonl]"])
    settings = recorded(cfg)
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    record = RunRecord("a" * 32, "it", status="FINISHED", started="2026-01-01T00:00:00+00:00")
    record.config, record.config_hash = settings, config_hash(cfg)
    record.save(run / "record.json")
    update = updates.build(OmegaConf.to_container(cfg["update"]))  # type: ignore[arg-type]
    update.attach(AutoModelForCausalLM.from_pretrained(model))
    update.save(run / "update", base_id="theirs/model")
    shutil.copytree(run / "update", place / "adapter")
    (place / "adapter" / "update.json").unlink()  # as plain PEFT writes one
    (run / "checkpoints").mkdir()
    state = {"state_dict": update.state_dict(), "global_step": 1, "epoch": 0, "loops": {}}
    torch.save({**state, "optimizer_states": [{}]}, run / "checkpoints" / "last.ckpt")
    (run / "metrics.jsonl").write_text('{"step": 1, "train/loss": 2.0}\n')


TASK = """\
task: theirs
dataset_path: json
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["a", "b"]
doc_to_target: label
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1}
"""


def words(*changes: str) -> list[str]:
    """The settings of a run in the world, with `changes`."""
    given = {
        "model": "local",
        "model.path": "model",
        "data": "jsonl",
        "data.path": "data.jsonl",
        "data.template": "none",
        "data.max_length": "32",
        "retention.suite": "[]",
        "tracking": "none",
        "trainer.accelerator": "cpu",
        "out": "out",
    }
    for change in changes:
        key, _, value = change.partition("=")
        given[key] = value
    return [f"{key}={value}" for key, value in given.items()]


# ------------------------------------------------------------------ damage


def _cut(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _with(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
)
"""Ten thousand million leaves once every alias is written out."""

DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": _with(b""),
    "zeros": _with(bytes(4096)),
    "text": _with(b"this is something else\n"),
    "latin-1": _with("caf\xe9 \xfc\n".encode("latin-1")),
    "cut": _cut,
    "a-list": _with(b"[1, 2]\n"),
    "null": _with(b"null\n"),
    "deep": _with(b"[" * 20_000),
    "long-number": _with(b'{"schema": 1, "a": ' + b"9" * 10_000 + b"}\n"),
    "pipe": _pipe,
    "socket": _socket,
    "folder": _folder,
}


# ------------------------------------------------------------------ running


@contextmanager
def bounded(seconds: int = SECONDS) -> Iterator[None]:
    """What takes too long raises `Hangs`, what takes too much memory a `MemoryError`."""

    def late(number: int, frame: Any) -> None:
        raise Hangs(f"{seconds} seconds")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)  # pytest may have set one
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
