"""Preference tuning: our DPO against TRL's `DPOTrainer`, on the same tokens in the same order.

    python bench/dpo_speed.py --pairs 96 --epochs 3          speed, and that the losses agree
    python bench/dpo_speed.py --check                        32 pairs, 10 steps: parity alone
    python bench/dpo_speed.py --check --loss kto             against `KTOTrainer`; also ipo, hinge

Every side trains the same model from the same start (LoRA matrices too) on the same token ids,
with AdamW, a constant learning rate and the gradient clipped at 1. A step is `--batch-size` pairs.
Time is the pass for the reference's log-probs and all steps, without loading and tokenising. TRL's
settings are searched first on fewer pairs: its batch sizes, with the reference precomputed and
live. (Its padding-free batches are not available for DPO in 1.16.) Its best is alternated with
ours.

`--check` compares, at every step, the loss, the reward margin, the reward accuracy and the norm of
the gradient, and at the first and the last step the gradient itself; and exits with 1 when loss,
margin or gradient (relative to its norm) is further apart than 1e-4. For KTO every second answer is
the rejected one of its pair, and the answer to the next prompt stands beside it on both sides.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import common
import ours

GRID = (1, 2, 4, 8)
BETA = 0.1
BOUND = 1e-4
PARTS = ("prompt", "chosen", "rejected")
BOTH = {"train/loss": "loss", "train/grad_norm": "grad_norm"}  # ours -> TRL's name
LOGGED = {
    "pairs": {
        **BOTH,
        "train/reward_margin": "rewards/margins",
        "train/reward_accuracy": "rewards/accuracies",
        "train/chosen_logp": "logps/chosen",
        "train/rejected_logp": "logps/rejected",
    },
    "grades": {**BOTH, "train/drift": "kl"},
}
LOSSES = ("sigmoid", "ipo", "hinge", "kto")


def pairs(args: argparse.Namespace) -> list[dict[str, list[int]]]:
    """Token ids of prompt, chosen and rejected answer, in training order."""
    import numpy as np

    from myosotis import models
    from myosotis.data.encode import sides
    from myosotis.data.pairs import read_pairs
    from myosotis.data.templates import Template
    from myosotis.models import ModelSource

    template = Template(models.load_tokenizer(ModelSource(args.model, args.id, args.path)))
    found = read_pairs(args.data).examples
    chosen = np.random.default_rng(args.seed).permutation(len(found))[: args.pairs]
    if len(chosen) < args.pairs:
        raise SystemExit(f"{args.data} has {len(chosen)} pairs; {args.pairs} are needed")
    rows = []
    for i in chosen:
        better, worse = (template.render(side) for side in sides(found[i]))
        start = len(better.ids) - int(sum(better.weights))
        assert better.ids[:start] == worse.ids[:start]
        parts = better.ids[:start], better.ids[start:], worse.ids[start:]
        rows.append({name: list(map(int, ids)) for name, ids in zip(PARTS, parts, strict=True)})
    return rows


# ------------------------------------------------------------------ one side, in a worker


def work(job: common.Job) -> common.Result:
    """Worker: the reference pass and the training of one side."""
    import torch

    from myosotis import models
    from myosotis.models import ModelSource

    data = json.loads(Path(job["data"]).read_text())[: job["pairs"]]
    base = models.load(ModelSource(**job["model"]), getattr(torch, job["dtype"]))
    models.zero_dropouts(base.model)
    side = {"ours": _ours, "trl": _trl}[job["side"]]
    with tempfile.TemporaryDirectory() as folder:
        logged, seconds, gradients = side(base, data, job, folder)
    if job.get("gradients"):
        torch.save(gradients, job["gradients"])
    done = len(data) * job["epochs"]
    return {"logged": logged, "seconds": seconds, "pairs_per_second": done / seconds}


Found = tuple[list[dict[str, float]], float, dict[int, Any]]
"""What every step logged, all seconds, and the gradients of the first and the last step."""


def _kept(step: int, job: common.Job) -> bool:
    return bool(job.get("gradients")) and step in (0, job["steps"] - 1)


def _ours(base: Any, data: list[dict[str, Any]], job: common.Job, folder: str) -> Found:
    import torch

    from myosotis.reference import referenced
    from myosotis.trees.probe import probe
    from myosotis.trees.score import Scorer
    from myosotis.trees.tree import Path as Sequence
    from myosotis.trees.tree import Tree

    objective = _objective(job)

    def path(row: dict[str, Any], answer: str) -> Sequence:
        ids = row["prompt"] + row[answer]
        return Sequence(ids, [0] * len(row["prompt"]) + [1] * len(row[answer]))

    if objective.wants == "pairs":
        trees = [Tree.of([path(row, "chosen"), path(row, "rejected")]) for row in data]
    else:
        trees = [
            replace(
                Tree.of([path(row, "completion")]),
                grade=1 if row["label"] else -1,
                other=Tree.of([path(row, "KL_completion")]),
            )
            for row in graded(data)
        ]
    backend = probe(base.model)
    scorer = Scorer(base.model, backend, row_tokens=job["row_tokens"])
    gradients: dict[int, Any] = {}

    def watch(step: int, update: Any) -> None:
        if _kept(step, job):
            gradients[step] = {_plain(n): p.grad.clone() for n, p in update.parameters()}

    began = time.perf_counter()
    trees = referenced(trees, scorer, model=folder, dtype=job["dtype"], what="bench")
    update = ours.attached(base, job)
    scorer.model = update.model
    steps = _steps(trees, job)
    logged, _ = ours.train(update, objective, scorer, steps, job, folder, watch)
    seconds = time.perf_counter() - began
    torch.manual_seed(0)
    return logged, seconds, gradients


def graded(data: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every second pair's rejected answer, else the chosen one, and the answer of the next row."""
    own = [row["chosen" if k % 2 == 0 else "rejected"] for k, row in enumerate(data)]
    return [
        {
            "prompt": row["prompt"],
            "completion": own[k],
            "KL_completion": own[(k + 1) % len(own)],
            "label": k % 2 == 0,
        }
        for k, row in enumerate(data)
    ]


def _objective(job: common.Job) -> Any:
    from myosotis.objectives.kto import KTO
    from myosotis.objectives.preference import DPO, IPO, Hinge

    return {"sigmoid": DPO, "ipo": IPO, "hinge": Hinge, "kto": KTO}[job["loss"]](beta=BETA)


def _steps(rows: list[Any], job: common.Job) -> list[list[Any]]:
    size = job["batch_size"]
    epoch = [rows[i : i + size] for i in range(0, len(rows), size)]
    return (epoch * job["epochs"])[: job["steps"]]


def _plain(name: str) -> str:
    """A parameter's name without what wraps it: which adapter, which model."""
    return name.replace(".default", "").removeprefix("base_model.model.")


def _trl(base: Any, data: list[dict[str, Any]], job: common.Job, folder: str) -> Found:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    kto = job["loss"] == "kto"
    device = min(job["device_batch"], job["batch_size"])
    config = (KTOConfig if kto else DPOConfig)(
        loss_type=job["loss"],
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        seed=job["seed"],
        max_steps=job["steps"],
        per_device_train_batch_size=device,
        gradient_accumulation_steps=job["batch_size"] // device,
        precompute_ref_log_probs=job["precomputed"],
        beta=BETA,
        max_length=None,
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    gradients: dict[int, Any] = {}

    class Keep(TrainerCallback):
        # Clipping comes before this; the norm is logged, and clipping is undone by it.
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **words: Any) -> None:
            if _kept(state.global_step, job):
                named = words["model"].named_parameters()
                gradients[state.global_step] = {
                    _plain(n): p.grad.clone() for n, p in named if p.grad is not None
                }

    class Tokenised(KTOTrainer if kto else DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    if kto:
        names = ("prompt", "completion", "KL_completion")
        rows = [
            {"label": row["label"], **{f"{name}_ids": row[name] for name in names}}
            for row in graded(data)
        ]
    else:
        rows = [{f"{name}_ids": row[name] for name in PARTS} for row in data]
    model = ours.wrapped(base.model, job)
    began = time.perf_counter()
    trainer = Tokenised(
        model=model,
        args=config,
        processing_class=base.tokenizer,
        train_dataset=Dataset.from_list(rows),
        callbacks=[Keep()],
    )
    trainer.train()
    seconds = time.perf_counter() - began
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    names = LOGGED["grades" if kto else "pairs"]
    logged = [{mine: float(entry[theirs]) for mine, theirs in names.items()} for entry in entries]
    return logged, seconds, gradients


# ------------------------------------------------------------------ the comparison


def peers(args: argparse.Namespace) -> dict[str, common.Job]:
    """TRL's settings that are tried, by name."""
    found: dict[str, common.Job] = {}
    for precomputed in (True, False):
        for size in (b for b in GRID if b <= args.batch_size):
            name = f"TRL, {size} a batch, reference {'precomputed' if precomputed else 'live'}"
            found[name] = {"side": "trl", "device_batch": size, "precomputed": precomputed}
    return {k: v for k, v in found.items() if not args.only or args.only in k}


def job_of(args: argparse.Namespace, data: str) -> common.Job:
    return {
        "model": {"kind": args.model, "id": args.id, "path": args.path},
        "data": data,
        "pairs": args.pairs,
        "epochs": args.epochs,
        "steps": args.epochs * -(-args.pairs // args.batch_size),
        "update": args.update,
        "loss": args.loss,
        "lr": args.lr,
        "batch_size": args.batch_size,
        "dtype": args.dtype,
        "seed": args.seed,
        "row_tokens": args.row_tokens,
    }


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
    for name, gap in gaps(*(side[0]["logged"] for side in found.values())).items():
        print(f"{name}: at most {gap:.1e} apart")
    return {"grid": grid, "best": best, "sides": found}


def gaps(mine: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, float]:
    """By name, how far two runs are apart at the worst of all steps."""
    return {
        name: max(abs(a[name] - b[name]) for a, b in zip(mine, theirs, strict=True))
        for name in theirs[0]
    }


def check(args: argparse.Namespace, job: common.Job, folder: str) -> bool:
    """Parity on the same pairs; prints every figure. Returns whether all are within bounds."""
    import torch

    # KTO's z is of a batch there, of a step here.
    device = args.batch_size if args.loss == "kto" else 8
    sides = {
        "ours": {**job, "side": "ours"},
        "trl": {**job, "side": "trl", "device_batch": device, "precomputed": True},
    }
    logged, gradients = {}, {}
    for name, side in sides.items():
        path = str(Path(folder, f"{name}.pt"))
        found = common.run_worker(__file__, {**side, "gradients": path}, args.threads)
        logged[name], gradients[name] = found["logged"], torch.load(path, weights_only=True)
    apart = gaps(logged["ours"], logged["trl"])
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
        f"{args.pairs} pairs, {job['steps']} steps, loss {first:.4f} to {last:.4f}",
        (f"{args.loss} against TRL", "furthest apart"),
        rows,
    )
    print(f"within {BOUND:g}: {'yes' if worst <= BOUND else 'NO'}")
    return worst <= BOUND


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = Path(__file__).parents[2] / "shared" / "data" / "rasbt_preference" / "train.jsonl"
    parser.add_argument("--data", default=str(default), help="a jsonl file of pairs")
    parser.add_argument("--check", action="store_true", help="parity instead of speed")
    parser.add_argument("--loss", default="sigmoid", choices=LOSSES)
    parser.add_argument("--update", default="lora", choices=("lora", "full"))
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--pairs", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8, help="pairs a step")
    parser.add_argument("--grid-pairs", type=int, default=16)
    parser.add_argument("--only", help="try only TRL settings whose name contains this")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--row-tokens", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="wheel", choices=("wheel", "local", "hub"))
    parser.add_argument("--id", default="smollm2-135m")
    parser.add_argument("--path")
    parser.add_argument("--json", type=Path, help="keep every figure here")
    args = parser.parse_args()
    if args.check:
        args.pairs, args.epochs, args.batch_size = 32, 10, 32
    elif args.loss == "kto":
        parser.error("--loss kto goes with --check: speed is measured on pairs")
    print(common.machine(args.threads))
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "tokens.json")
        data.write_text(json.dumps(pairs(args)))
        job = job_of(args, str(data))
        if args.check:
            raise SystemExit(0 if check(args, job, folder) else 1)
        common.save(args.json, speed(args, job))


if __name__ == "__main__" and not common.worker(work):
    main()
