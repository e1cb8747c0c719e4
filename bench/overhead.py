"""What retention, tracking and the scorecard add to a bare Lightning loop.

    python bench/overhead.py --steps 40

Both sides train the same update on the same steps with the same module; the bare one has Lightning,
the data and an optimiser, measures the held-out loss when ours does, and saves the update. Ours is
`myosotis train` as it comes: looks while training, KL, the final benchmarks, MLflow on sqlite,
checkpoints, record and scorecard. The default training has 500 steps; a shorter one asks as much
smaller a share of the default's items, so that their part is that of the default. What is done once
(loading benchmarks, MLflow's database, the page) is not smaller for that: `--steps 2` shows it
alone. The base's benchmarks are in the cache, as in every run but the first. Task quality is no
retention: with `--task none` it is measured on as few examples as the held-out loss, and nothing is
generated. Wall time of everything after the imports.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import common
from omegaconf import OmegaConf

DEFAULT_STEPS = 500
COUNTS = (
    "retention.items",
    "retention.sequential_floor",
    "retention.kl_items",
    "task.items",
    "task.generate",
)


def overrides(job: common.Job, folder: str) -> list[str]:
    """The configuration of both sides; `folder` takes what a run writes."""
    from myosotis.config import compose
    from myosotis.evaluation.evaluator import WATCHED

    default = compose([])
    counts = {key: OmegaConf.select(default, key) for key in COUNTS}
    if job["task"] == "none":
        counts["task.items"] = WATCHED
    share = job["steps"] / DEFAULT_STEPS
    values = {key: max(2, round(share * count)) for key, count in counts.items()}
    if job["task"] == "none":
        values |= {"task.generate": 0, "task.shots": 0}
    return [
        f"out={folder}/run",
        f"tracking.uri=sqlite:///{folder}/mlflow.db",
        f"trainer.max_steps={job['steps']}",
        f"trainer.num_threads={job['threads']}",
        *(f"{key}={value}" for key, value in values.items()),
        *job["overrides"],
    ]


def work(job: common.Job) -> common.Result:
    """Worker: train one side once."""
    from myosotis.config import compose
    from myosotis.retention.benchmarks import prose

    prose.ENOUGH = max(2, round(prose.ENOUGH * job["steps"] / DEFAULT_STEPS))
    with tempfile.TemporaryDirectory() as folder:
        cfg = compose(overrides(job, folder))
        began = time.perf_counter()
        found = _ours(cfg) if job["side"] == "ours" else _bare(cfg, folder)
        return {"seconds": time.perf_counter() - began, **found}


def _ours(cfg: Any) -> common.Result:
    from myosotis.commands.train import train

    cost = train(cfg).cost
    return {"cost": cost, "train_seconds": cost["train_seconds"]}


def _bare(cfg: Any, folder: str) -> common.Result:
    import lightning

    from myosotis.commands.components import attach, load_components
    from myosotis.commands.fit import fine_tuning, loss_steps
    from myosotis.training.callbacks import PeriodicEval, ScheduledEval
    from myosotis.training.user_callbacks import UserCallbacks

    lightning.seed_everything(cfg.seed, verbose=False)
    cfg.retention.suite = []
    parts = attach(load_components(cfg, print), cfg)
    evaluation = ScheduledEval("validation", parts.held_out, loss_steps(cfg, parts))
    parts.held_out()
    trainer = lightning.Trainer(
        accelerator="cpu",
        callbacks=[PeriodicEval([evaluation], UserCallbacks((), lambda: False))],
        max_steps=parts.total_steps,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,
        default_root_dir=folder,
    )
    began = time.perf_counter()
    trainer.fit(fine_tuning(cfg, parts), datamodule=parts.data)
    seconds = time.perf_counter() - began - evaluation.seconds
    parts.held_out()
    parts.update.save(Path(folder, "update"), base_id=parts.base.id)
    return {"train_seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the configuration")
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS)
    parser.add_argument("--task", default="none", choices=("none", "default"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="keep every figure here")
    given = parser.parse_args()
    print(common.machine(given.threads))
    job: common.Job = {"steps": given.steps, "task": given.task, "overrides": given.overrides}
    cold = {**job, "side": "ours", "overrides": [*given.overrides, "trainer.max_steps=1"]}
    common.run_worker(__file__, cold, given.threads)  # the base's benchmarks go to the cache
    sides = {"bare Lightning": {**job, "side": "bare"}, "myosotis": {**job, "side": "ours"}}
    found = common.alternate(__file__, sides, given.threads, given.repeats)
    bare, ours = found.values()
    ratio = common.median(ours, "seconds") / common.median(bare, "seconds")
    common.show(
        f"{given.steps} steps: {ratio - 1:+.1%} of wall time",
        ("", "seconds, each round", "of these, training steps"),
        [
            (
                name,
                ", ".join(f"{r['seconds']:.0f}" for r in rs),
                ", ".join(f"{r['train_seconds']:.0f}" for r in rs),
            )
            for name, rs in found.items()
        ],
    )
    parts = ("train", "retention", "validation", "base", "final")
    spent = {part: [r["cost"][f"{part}_seconds"] for r in ours] for part in parts}
    spent["rest"] = [
        r["seconds"] - sum(spent[part][i] for part in parts) for i, r in enumerate(ours)
    ]
    common.show(
        "of it, by our own clock",
        ("", "seconds, each round", "of the training's"),
        [
            (
                part,
                ", ".join(f"{s:.1f}" for s in seconds),
                f"{sum(seconds) / sum(spent['train']):.1%}",
            )
            for part, seconds in spent.items()
        ],
    )
    common.save(given.json, {"ratio": ratio, "sides": found})


if __name__ == "__main__" and not common.worker(work):
    main()
