"""Where weights are spread over ranks, one that runs out of memory does not leave the others
waiting for as long as a rank waits for another: all end with what it says."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from torch import distributed as torch_distributed
from torch.distributed import distributed_c10d

from myosotis.utils import distributed, rank_failure
from myosotis.utils.errors import RunError
from tests.ranks import on_ranks

FAILS = """
import os, sys, time
from pathlib import Path
import lightning, torch
from myosotis.training.strategy import SpreadRanks
from myosotis.trees.shared import Crew, Weights
from myosotis.utils import distributed, rank_failure
from myosotis.utils.errors import RunError
from tests.training.test_module import Steps, examples, module

rank, folder = int(os.environ["LOCAL_RANK"]), Path(sys.argv[1])
where, failing = (folder / "case").read_text().split()
model = module("full", 2, 12)
began = [0.0]

def planted(layer, given):
    if began[0] and rank == int(failing):
        raise torch.OutOfMemoryError("CUDA out of memory (planted)")


class Looks(lightning.Callback):
    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if batch_idx == 1 and where == "training":
            began[0] = time.monotonic()

    def on_train_batch_end(self, trainer, model, *_):
        if where != "measuring":
            return
        began[0] = time.monotonic()
        crew = Crew(model.scorer, Weights(lambda: 1.0, lambda strength: None), {})
        if rank:
            crew.help_out()
            return
        with crew.led():
            model.scorer.evaluate(examples(5))


# In the second layer: the other rank goes on to the next one, and waits for this one's share of it.
model.model.model.layers[1].self_attn.register_forward_pre_hook(planted)
trainer = lightning.Trainer(
    accelerator="cpu", devices=2, strategy=SpreadRanks(), max_steps=3, logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    use_distributed_sampler=False, callbacks=[Looks()],
)
try:
    with rank_failure.heard():
        trainer.fit(model, Steps())
except RunError as error:
    said = str(error)
took = time.monotonic() - began[0]
assert f"out of memory on rank {failing}" in said, said
assert "rows_at_once" in said and took < 60, took
"""


@pytest.mark.parametrize("case", ["training 1", "measuring 0"])
def test_both_ranks_end_in_seconds_with_the_reason(case: str, tmp_path: Path) -> None:
    (tmp_path / "case").write_text(case)
    on_ranks(2, FAILS, tmp_path)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two ranks on GPUs, in the eyes of the one that listens."""
    kept = torch_distributed.HashStore()
    monkeypatch.setattr(distributed_c10d, "_get_default_store", lambda: Kept(kept))
    monkeypatch.setattr(distributed, "several", lambda: True)
    monkeypatch.setattr(distributed, "on_host", lambda: False)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(rank_failure, "EVERY", 0.01)
    monkeypatch.setattr(rank_failure, "GRACE", 0.05)
    return kept


class Kept:
    def __init__(self, store: Any) -> None:
        self.store = store

    def clone(self) -> Any:
        return self.store


def test_on_gpus_a_thread_wakes_who_waits(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hears there that another is gone: the reason is read, and the exchange given up."""
    woken = threading.Event()
    monkeypatch.setattr(distributed, "break_off", woken.set)
    with pytest.raises(RunError, match="rank 7 had enough"), rank_failure.heard():
        rank_failure.listen()
        store.set(rank_failure.REASON, "rank 7 had enough")
        assert woken.wait(20)
        raise RuntimeError("NCCL communicator was aborted")


def test_who_is_still_waiting_is_ended(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, codes = threading.Event(), []

    def leave(code: int) -> None:
        codes.append(code)
        ended.set()

    monkeypatch.setattr(distributed, "break_off", lambda: None)
    monkeypatch.setattr("os._exit", leave)
    rank_failure.listen()
    store.set(rank_failure.REASON, "rank 7 had enough")
    assert ended.wait(20) and codes == [1]
    with rank_failure.heard():
        pass


def test_an_error_of_one_s_own_stays_as_it_is(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "break_off", lambda: None)
    with pytest.raises(RuntimeError, match="shapes do not match"), rank_failure.heard():
        rank_failure.listen()
        raise RuntimeError("shapes do not match")
