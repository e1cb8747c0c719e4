"""Preference losses against TRL's trainers: 32 pairs, 10 steps, the same tokens in the same order.

    python bench/check_trl.py                          DPO
    python bench/check_trl.py --loss ipo,hinge,kto     others; also simpo, orpo

Compares at every step the loss, the reward margin, the reward accuracy and the norm of the
gradient, as far as TRL logs what we log, and at the first and the last step the gradient itself;
exits with 1 when loss, margin or gradient (relative to its norm) is further apart than 1e-4. For
KTO every second answer is the rejected one of its pair, and the answer to the next prompt stands
beside it on both sides. SimPO and ORPO are TRL's experimental trainers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import common
import preferences

PAIRS, STEPS, BOUND = 32, 10, 1e-4


def check(job: common.Job, threads: int, folder: str) -> bool:
    """Parity on the same pairs; prints every figure. Returns whether all are within bounds."""
    import torch

    # KTO's z is of a batch there, of a step here.
    device = job["batch_size"] if job["loss"] == "kto" else min(8, job["batch_size"])
    sides = {
        "ours": {**job, "side": "ours"},
        "trl": {**job, "side": "trl", "device_batch": device, "precomputed": True},
    }
    logged, gradients = {}, {}
    for name, side in sides.items():
        path = str(Path(folder, f"{name}.pt"))
        found = common.run_worker(__file__, {**side, "gradients": path}, threads)
        logged[name], gradients[name] = found["logged"], torch.load(path, weights_only=True)
    apart = preferences.gaps(logged["ours"], logged["trl"])
    worst = max(apart["train/loss"], apart.get("train/reward_margin", 0.0))
    rows = [(name, f"{gap:.2e}") for name, gap in apart.items()]
    for step in gradients["ours"]:
        mine, theirs = gradients["ours"][step], gradients["trl"][step]
        assert mine.keys() == theirs.keys(), mine.keys() ^ theirs.keys()
        a, b = (torch.cat([g[n].flatten() for n in mine]).double() for g in (mine, theirs))
        turned = float((a / a.norm() - b / b.norm()).norm())
        rows.append((f"direction of the gradient, step {step + 1}", f"{turned:.2e}"))
        worst = max(worst, turned)
    first, last = (logged["ours"][i]["train/loss"] for i in (0, -1))
    common.show(
        f"{PAIRS} pairs, {STEPS} steps of {job['batch_size']}, loss {first:.4f} to {last:.4f}",
        (f"{job['loss']} against TRL", "furthest apart"),
        rows,
    )
    print(f"within {BOUND:g}: {'yes' if worst <= BOUND else 'NO'}")
    return worst <= BOUND


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    preferences.options(parser)
    parser.add_argument("--loss", default="sigmoid", help="one or several, with commas")
    args = parser.parse_args()
    losses = args.loss.split(",")
    if unknown := set(losses) - set(preferences.LOSSES):
        parser.error(f"--loss {', '.join(unknown)}: it is among {', '.join(preferences.LOSSES)}")
    print(common.machine(args.threads))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "tokens.json")
        data.write_text(json.dumps(preferences.pairs(args, PAIRS)))
        asked = {"pairs": PAIRS, "epochs": -(-STEPS * args.batch_size // PAIRS), "steps": STEPS}
        job = preferences.job_of(args, str(data), **asked)
        alike = [check({**job, "loss": loss}, args.threads, folder) for loss in losses]
    raise SystemExit(0 if all(alike) else 1)


if __name__ == "__main__" and not common.worker(preferences.work):
    main()
