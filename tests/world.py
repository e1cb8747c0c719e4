"""A small world for whole runs through the command line: a random model and a data file.

No network and no wheel: the suite is general prose, which every Python carries.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import transformers as hf

from myosotis.tracking.mlflow_client import open_store
from tests import warm
from tests.data.conftest import byte_level


def build(place: Path) -> Path:
    """A folder with a random model of two layers and forty questions."""
    tokenizer = byte_level()
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    hf.set_seed(0)
    hf.LlamaForCausalLM(config).save_pretrained(place / "model")
    tokenizer.save_pretrained(place / "model")
    lines = [{"prompt": f"the answer of {n}", "completion": f"is {n * 7}"} for n in range(40)]
    (place / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


def settings(world: Path, out: Path, **changes: Any) -> list[str]:
    given = {
        "model": "local",
        "model.path": world / "model",
        "data": "jsonl",
        "data.path": world / "mine.jsonl",
        "data.batch_size": 4,
        "data.row_tokens": 64,
        "data.val_fraction": 0.25,
        "trainer.max_steps": 12,
        "trainer.accelerator": "cpu",
        "trainer.num_threads": 1,
        "trainer.checkpoint_every": 5,
        "retention.suite": "[prose]",
        "retention.items": 30,
        "retention.every": "null",
        "task.generate": 2,
        "task.max_new_tokens": 4,
        "optimizer.lr": 0.01,
        "out": out,
        **changes,
    }
    return [f"{key}={value}" for key, value in given.items()]


@cache
def empty_store() -> Path:
    """An MLflow store without a run: making one takes dozens of migrations, seconds a folder."""
    place = Path(tempfile.mkdtemp(prefix="empty-store-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    open_store(f"sqlite:///{place / 'mlflow.db'}")
    return place / "mlflow.db"


def put_store(args: list[str], cwd: Path) -> None:
    """The store that `args` would make in `cwd`, if they would and there is none."""
    otherwise = any(arg.startswith(("tracking", "logger", "resume")) for arg in args)
    tracks = args[:1] in (["train"], ["sweep"]) and not otherwise
    if tracks and cwd.is_dir() and not (cwd / "mlflow.db").exists():
        shutil.copyfile(empty_store(), cwd / "mlflow.db")


def start(args: list[str], cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """The command in a process and a session of its own; a fresh interpreter for `options`."""
    put_store(args, cwd)
    env = {**os.environ, "MYOSOTIS_CACHE": str(cwd / "cache"), "OMP_NUM_THREADS": "1"}
    env.pop("MLFLOW_TRACKING_URI", None)
    return warm.start(args, cwd, env, **options)


def call(args: list[str], cwd: Path, code: int = 0, **options: Any) -> tuple[str, str]:
    process = start(args, cwd, **options)
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
    assert code not in (2, 3, 4, 130, 143) or "Traceback" not in err, err
    return out, err


def steps_done(out: Path) -> int:
    """The last optimiser step of a run, as its folder shows it."""
    path = out / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return max((json.loads(x)["step"] for x in lines if "train/loss" in x), default=0)
