"""Losses against TRL's trainers, on the same tokens.

    python bench/check_trl.py                            DPO
    python bench/check_trl.py --loss ipo,hinge,kto       others; also simpo, orpo
    python bench/check_trl.py --loss grpo,dr_grpo,rloo   policies

Preferences: 32 pairs, 10 steps, in the same order. Compares at every step the loss, the reward
margin, the reward accuracy and the norm of the gradient, as far as TRL logs what we log, and at the
first and the last step the gradient itself; exits with 1 when loss, margin or gradient (relative to
its norm) is further apart than 1e-4. For KTO every second answer is the rejected one of its pair,
and the answer to the next prompt stands beside it on both sides. SimPO and ORPO are TRL's
experimental trainers.

Policies: one step on the same eight sampled answers, with their rewards, and their log-probs when
they were sampled and of the reference (`policies.py`). Compares the loss and the gradient, the
latter relative to its norm, within the same bound. TRL 1.16 has no PPO trainer any more.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from importlib.metadata import version
from pathlib import Path

import common
import policies
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


def check_policy(job: common.Job, threads: int, folder: str) -> bool:
    """Parity on the same sampled answers; prints every figure. Returns whether all are within
    bounds."""
    import torch

    if not Path(job["data"]).exists():
        common.run_worker(__file__, {**job, "side": "sampled"}, threads)
    losses, gradients = [], []
    for side in ("ours", "trl"):
        path = str(Path(folder, f"{side}.pt"))
        found = common.run_worker(__file__, {**job, "side": side, "gradients": path}, threads)
        losses.append(found["loss"])
        gradients.append(torch.load(path, weights_only=True))
    assert gradients[0].keys() == gradients[1].keys(), gradients[0].keys() ^ gradients[1].keys()
    a, b = (torch.cat([g[n].flatten() for n in gradients[0]]).double() for g in gradients)
    apart = {"loss": abs(losses[0] - losses[1]), "gradient": float((a - b).norm() / b.norm())}
    worst = max(apart.values())
    common.show(
        f"8 sampled answers, loss {losses[0]:.5f}, norm of the gradient {b.norm():.4f}",
        (f"{job['loss']} against TRL", "apart"),
        [(name, f"{gap:.2e}") for name, gap in apart.items()],
    )
    print(f"within {BOUND:g}: {'yes' if worst <= BOUND else 'NO'}")
    return worst <= BOUND


def work(job: common.Job) -> common.Result:
    """Worker: one side of a comparison."""
    return (policies if job["loss"] in policies.LOSSES else preferences).work(job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    preferences.options(parser)
    parser.add_argument("--loss", default="sigmoid", help="one or several, with commas")
    args = parser.parse_args()
    losses = args.loss.split(",")
    known = (*preferences.LOSSES, *policies.LOSSES)
    if unknown := set(losses) - set(known):
        parser.error(f"--loss {', '.join(unknown)}: it is among {', '.join(known)}")
    print(common.machine(args.threads) + f", trl {version('trl')}")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "tokens.json")
        if set(losses) & set(preferences.LOSSES):
            data.write_text(json.dumps(preferences.pairs(args, PAIRS)))
        asked = {"pairs": PAIRS, "epochs": -(-STEPS * args.batch_size // PAIRS), "steps": STEPS}
        job = preferences.job_of(args, str(data), **asked)
        alike = []
        for loss in losses:
            if loss in policies.LOSSES:
                own = {"loss": loss, "data": str(Path(folder, "sampled.json"))}
                alike.append(check_policy({**job, **own}, args.threads, folder))
            else:
                alike.append(check({**job, "loss": loss}, args.threads, folder))
    raise SystemExit(0 if all(alike) else 1)


if __name__ == "__main__" and not common.worker(work):
    main()
