"""Preference tuning: our DPO against TRL's `DPOTrainer`, on the same tokens in the same order.

    python bench/dpo_speed.py --pairs 96 --epochs 3

Time is the pass for the reference's log-probs and all steps, without loading and tokenising. TRL's
settings are searched first on fewer pairs: its batch sizes, with the reference precomputed and
live. (Its padding-free batches are not available for DPO in 1.16.) Its best is alternated with
ours, and how far the curves are apart is printed. Parity of all losses: `check_trl.py`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import common
import preferences

GRID = (1, 2, 4, 8)


def peers(args: argparse.Namespace) -> dict[str, common.Job]:
    """TRL's settings that are tried, by name."""
    found: dict[str, common.Job] = {}
    for precomputed in (True, False):
        for size in (b for b in GRID if b <= args.batch_size):
            name = f"TRL, {size} a batch, reference {'precomputed' if precomputed else 'live'}"
            found[name] = {"side": "trl", "device_batch": size, "precomputed": precomputed}
    return {k: v for k, v in found.items() if not args.only or args.only in k}


def speed(args: argparse.Namespace, job: common.Job) -> dict[str, Any]:
    grid: dict[str, float] = {}
    few = min(args.grid_pairs, args.pairs)
    fewer = {"pairs": few, "steps": args.epochs * -(-few // args.batch_size)}
    settings = {name: {**job, **peer} for name, peer in peers(args).items()}
    for name, setting in settings.items():
        grid[name] = common.run_worker(__file__, {**setting, **fewer}, args.threads)[
            "pairs_per_second"
        ]
        common.console.print(f"  {name}: {grid[name]:.2f} pairs/s")
    best = max(grid, key=grid.__getitem__)
    sides = {"myosotis": {**job, "side": "ours"}, best: settings[best]}
    found = common.alternate(__file__, sides, args.threads, args.repeats)
    common.show(
        f"TRL's settings, {few} pairs, {args.epochs} epochs",
        ("", "pairs/s"),
        [(name + " (best)" * (name == best), f"{rate:.2f}") for name, rate in grid.items()],
    )
    mine, theirs = (common.median(side, "pairs_per_second") for side in found.values())
    common.show(
        f"DPO, {args.update}, {args.pairs} pairs, {args.epochs} epochs, reference pass counted, "
        f"{args.dtype}: {mine / theirs:.2f} times TRL",
        ("", "pairs/s", "each round", "peak memory, GB"),
        [
            (
                name,
                f"{common.median(side, 'pairs_per_second'):.2f}",
                ", ".join(f"{r['pairs_per_second']:.2f}" for r in side),
                f"{common.median(side, 'peak_memory_gb'):.2f}",
            )
            for name, side in found.items()
        ],
    )
    for name, gap in preferences.gaps(*(side[0]["logged"] for side in found.values())).items():
        print(f"{name}: at most {gap:.1e} apart")
    return {"grid": grid, "best": best, "sides": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    preferences.options(parser)
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--grid-pairs", type=int, default=16)
    parser.add_argument("--only", help="try only TRL settings whose name contains this")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="keep every figure here")
    args = parser.parse_args()
    print(common.machine(args.threads))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "tokens.json")
        data.write_text(json.dumps(preferences.pairs(args, args.pairs)))
        steps = args.epochs * -(-args.pairs // args.batch_size)
        asked = {"pairs": args.pairs, "epochs": args.epochs, "steps": steps, "loss": "sigmoid"}
        common.save(args.json, speed(args, preferences.job_of(args, str(data), **asked)))


if __name__ == "__main__" and not common.worker(preferences.work):
    main()
