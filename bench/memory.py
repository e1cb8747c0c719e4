"""Memory of a training step: what `myosotis plan` predicts against what the step takes.

    python bench/memory.py --methods full lora qlora

Each method in a process of its own, with the product's parts: the prediction first, then the data,
the base, the update and `--steps` optimiser steps, the peak counted from just before the first one.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import common


def work(job: common.Job) -> common.Result:
    """Worker: predict, then train a few steps."""
    import time
    from dataclasses import asdict

    import psutil

    from myosotis.commands.components import attach, load_components
    from myosotis.commands.fit import fit
    from myosotis.commands.plan import make
    from myosotis.config.compose import compose
    from myosotis.records.run_folder import RunFolder
    from myosotis.training.best_checkpoint import BestCheckpoint
    from myosotis.utils.memory import forget_peak, peak_gb

    with tempfile.TemporaryDirectory() as folder:
        cfg = compose([*job["overrides"], f"out={folder}/run"])
        predicted = make(cfg).memory
        parts = attach(load_components(cfg, lambda _: None), cfg)
        before = psutil.Process().memory_info().rss / 1e9
        forget_peak()
        began = time.perf_counter()
        place = RunFolder(Path(folder, "run"))
        best = BestCheckpoint(parts.update, place, on_breach="warn", patience=None)
        fit(cfg, parts, best, [], [])
        seconds = time.perf_counter() - began
        return {
            "predicted": asdict(predicted) | {"total": predicted.total},
            "before_training": before,
            "measured": peak_gb(),
            "seconds": seconds,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["full", "lora", "qlora"])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="keep every figure here")
    parser.add_argument("overrides", nargs="*", help="as of myosotis train", metavar="KEY=VALUE")
    args, rest = parser.parse_known_args()
    print(common.machine(args.threads))
    found: dict[str, Any] = {}
    rows = []
    for method in args.methods:
        words = [
            "experiment=small",
            f"method={method}",
            "retention=none",
            "tracking=none",
            f"trainer.max_steps={args.steps}",
            *args.overrides,
            *rest,
        ]
        one = found[method] = common.run_worker(__file__, {"overrides": words}, args.threads)
        total, measured = one["predicted"]["total"], one["measured"]
        parts = [f"{one['predicted'][part]:.2f}" for part in PARTS]
        rows.append(
            (method, *parts, f"{total:.2f}", f"{measured:.2f}", f"{total / measured - 1:+.0%}")
        )
        common.console.print(f"  {method}: {one}")
    columns = ("GB", *PARTS, "predicted", "measured", "off by")
    common.show(f"peak memory of a step, {args.steps} steps", columns, rows)
    common.save(args.json, found)


PARTS = ("program", "weights", "base_copy", "products", "gradients", "optimizer")
PARTS += ("activations", "logits")


if __name__ == "__main__" and not common.worker(work):
    main()
