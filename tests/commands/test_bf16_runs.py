"""Whole runs of the real model in bf16, from the base to the scorecard: what a GPU does by default,
on a CPU, where it is slow and the same arithmetic."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from myosotis.commands.train import train
from myosotis.config import compose
from myosotis.records.run_folder import RunFolder
from myosotis.retention.benchmarks import prose
from myosotis.trees import packing_check
from myosotis.trees.scorer import Scorer, TreeScore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SMALL = [
    "model=smollm2-135m",
    "method=dpo",
    "objective.reference=auto",
    "data=pairs",
    "data.template=none",
    "data.batch_size=2",
    "data.row_tokens=64",
    "data.val_fraction=0.25",
    "trainer.accelerator=cpu",
    "trainer.max_steps=1",
    "trainer.checkpoint_every=null",
    "trainer.val_every=null",
    "retention.settle=false",
    "retention.every=null",
    "retention.kl_items=1",
    "task.items=2",
    "task.shots=0",
    "task.generate=1",
    "task.max_new_tokens=2",
    "tracking=none",
    "logger=none",
]


PAIRS = [
    {"prompt": f"{n} and {n} are", "chosen": f" {2 * n}.", "rejected": f" {3 * n + 1}."}
    for n in range(1, 17)
]
ITEMS = [{"question": f"{n} + 1?", "choices": [str(n), str(n + 1)], "answer": 1} for n in (3, 5)]


def lines(records: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize(
    ("method", "precision", "dtype"),
    [
        ("lora", "bf16-true", "bfloat16"),
        ("full", "bf16-mixed", "float32, products in bfloat16"),
    ],
)
def test_a_whole_run_in_bf16(
    method: str,
    precision: str,
    dtype: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At step 0 policy and reference are one model in one arithmetic: the margin is 0 and the loss
    ln 2. No log-prob that is asked for in the whole run is above 0, and off it is the base.

    A CPU without bf16 takes .02 seconds a token, so all that is read is short: one step, two items
    of a benchmark, and the trees of the packing check."""
    highest: list[float] = []
    monkeypatch.setattr(packing_check, "WINDOW", 4)
    monkeypatch.setattr(prose, "TOKENS", 16)
    monkeypatch.setattr(Scorer, "evaluate", watched(Scorer.evaluate, highest))
    monkeypatch.chdir(tmp_path)
    cfg = compose(
        [
            *SMALL,
            f"update={method}",
            f"trainer.precision={precision}",
            f"data.path={lines(PAIRS, tmp_path / 'pairs.jsonl')}",
            f"retention.suite=[{lines(ITEMS, tmp_path / 'sums.jsonl')}]",
            f"out={tmp_path / 'run'}",
        ]
    )
    record = train(cfg)
    assert record.status == "FINISHED", record.error
    assert record.model.dtype == dtype
    curve = {(p.name, p.step): p.value for p in record.curves}
    assert curve["train/loss", 1] == pytest.approx(math.log(2), abs=1e-6)
    assert curve["train/reward_margin", 1] == pytest.approx(0, abs=1e-6)
    assert len(highest) > 5 and max(highest) <= 0
    assert record.update.off_difference is not None  # judged by the run itself
    folder = RunFolder(tmp_path / "run")
    assert folder.scorecard.exists() and folder.update.exists()
    assert [row.task for row in record.retention] == ["sums"]
    assert max(shift.kl for shift in record.shift) > 0, "the step moved the model"


def watched(evaluate: Callable[..., list[TreeScore]], highest: list[float]) -> Any:
    def one(self: Scorer, *args: Any, **words: Any) -> list[TreeScore]:
        scores = evaluate(self, *args, **words)
        highest.extend(float(score.logp.max()) for score in scores)
        return scores

    return one
