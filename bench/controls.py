"""What controls cost: time and peak memory of a training with each, over those of one without.

    python bench/controls.py --controls replay:ratio=0.1,tokens=32 kl l2sp ewc --steps 4

Each side in a process of its own, in turn, with the product's parts: data, base, update, what the
control makes ready (the Fisher information, what the base writes), then `--steps` optimiser steps.
`step` is the processor time of the steps alone, which other work on the machine hardly moves where
`--threads` is 1. The peak is that of the whole, counted from before the control is made ready: that
must fit, too. The caches of what is made ready begin empty.

The bounds: 1.15 times the memory for KL, EWC and L2-SP, and 1.5 times the time (KL on a tenth as
much text), which are its defaults.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import common

NONE = "none"


def work(job: common.Job) -> common.Result:
    """Worker: train one side once."""
    from myosotis.commands.components import attach, load_components
    from myosotis.commands.fit import fit
    from myosotis.config.compose import compose
    from myosotis.records.run_folder import RunFolder
    from myosotis.training.best_checkpoint import BestCheckpoint
    from myosotis.training.module import FineTuning
    from myosotis.utils.memory import forget_peak, peak_gb

    with tempfile.TemporaryDirectory() as folder:
        cfg = compose([*job["overrides"], f"out={folder}/run"])
        parts = attach(load_components(cfg, lambda _: None), cfg)
        os.environ["MYOSOTIS_CACHE"] = f"{folder}/cache"
        step, spent = FineTuning.training_step, list[float]()

        def timed(self: Any, *words: Any) -> Any:
            began = time.process_time()
            metrics = step(self, *words)
            spent.append(time.process_time() - began)
            return metrics

        FineTuning.training_step = timed
        forget_peak()
        began = time.process_time()
        best = BestCheckpoint(
            parts.update, RunFolder(Path(folder, "run")), on_breach="warn", patience=None
        )
        trained = fit(cfg, parts, best, [], [])
        whole = time.process_time() - began
        return {
            "seconds": sum(spent),
            "ready": whole - sum(spent),
            "memory": peak_gb(),
            "tokens": trained.tokens,
            "rehearsed": {name: read.tokens for name, read in trained.rehearsed.items()},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--controls", nargs="+", default=["replay", "kl", "l2sp", "ewc"])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="keep every figure here")
    parser.add_argument("overrides", nargs="*", help="as of myosotis train", metavar="KEY=VALUE")
    args, rest = parser.parse_known_args()
    print(common.machine(args.threads))
    shared = ["experiment=small", "retention=none", "tracking=none", "logger=none"]
    shared += [f"trainer.max_steps={args.steps}", f"trainer.num_threads={args.threads}"]
    shared += [*args.overrides, *rest]
    sides = {one: {"overrides": [*shared, *_chosen(one)]} for one in (NONE, *args.controls)}
    found = common.alternate(__file__, sides, args.threads, args.repeats)
    common.save(args.json, {"overrides": shared, "sides": found})
    plain = found[NONE]
    rows = []
    for name, results in found.items():
        step, memory = (common.median(results, key) for key in ("seconds", "memory"))
        rows.append(
            (
                name,
                f"{step / args.steps:.2f}",
                f"{step / common.median(plain, 'seconds'):.2f}",
                f"{memory:.2f}",
                f"{memory / common.median(plain, 'memory'):.2f}",
                f"{common.median(results, 'ready'):.0f}",
                _read(results[0]),
            )
        )
    columns = ("control", "s a step", "× none", "peak GB", "× none", "made ready, s", "text read")
    common.show(f"{args.steps} steps, {args.repeats} rounds: {' '.join(shared)}", columns, rows)


def _chosen(side: str) -> list[str]:
    """The overrides of `replay:ratio=0.1,tokens=32`."""
    name, _, settings = side.partition(":")
    return [f"control={name}", *(f"control.{name}.{s}" for s in settings.split(",") if s)]


def _read(result: dict[str, Any]) -> str:
    texts = sum(result["rehearsed"].values())
    return f"{texts} tokens, the task {result['tokens']}"


if __name__ == "__main__" and not common.worker(work):
    main()
