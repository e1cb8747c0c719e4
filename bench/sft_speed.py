"""Instruction tuning: our step against TRL's `SFTTrainer`, on the same tokens in the same order.

    python bench/sft_speed.py --steps 12
    python bench/sft_speed.py --update full --lr 1e-5 --data docstrings

Every side trains the same model from the same start (LoRA matrices too) on the same token ids and
answer masks, tokenised beforehand, with AdamW, a constant learning rate and the gradient clipped at
1. A step is `--batch-size` examples. TRL's settings are searched first, one short run each: padded
batches, padding-free batches and packed rows, over its batch sizes, the rest of a step by gradient
accumulation. Its best is then alternated with ours. Padded and padding-free runs make the steps we
make, so their losses must agree step by step; packing puts other examples together, and is compared
by the mean over the second half.

Time is that of the steps alone, the first left out; peak memory is of the whole process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import ours

GRID = (1, 2, 4, 8, 16)
ROWS = (512, 1024)
SPARE = 1.3
"""Examples beyond what the steps need: packed rows of a step may hold a few more."""


# ------------------------------------------------------------------ what is trained on


def examples(args: argparse.Namespace) -> list[dict[str, list[int]]]:
    """Token ids and answer masks of the examples, in training order: enough for the longest run."""
    import numpy as np

    from myosotis.data import sources
    from myosotis.data.chat_template import ChatRenderer
    from myosotis.models.load import ModelSource, load_tokenizer

    template = ChatRenderer(load_tokenizer(ModelSource(args.model, args.id, args.path)))
    count = round(SPARE * args.steps * args.batch_size)
    if args.data == "docstrings":
        dataset = sources.docstrings(train_items=count)
    else:
        dataset = sources.files(args.data)
    chosen = np.random.default_rng(args.seed).permutation(len(dataset.train))[:count]
    if len(chosen) < count:
        raise SystemExit(f"{args.data} has {len(chosen)} examples; {count} are needed")
    paths = [template.render(dataset.train[i]) for i in chosen]
    return [{"ids": list(p.ids), "mask": [int(w) for w in p.weights]} for p in paths]


# ------------------------------------------------------------------ one side, in a worker


def work(job: common.Job) -> common.Result:
    """Worker: train on one side; per step its loss and seconds."""
    import torch

    from myosotis.models.dropouts import zero_dropouts
    from myosotis.models.load import ModelSource, load_base_model

    data = json.loads(Path(job["data"]).read_text())
    if job.get("mode") != "packed":
        data = data[: job["steps"] * job["batch_size"]]
    dtype = getattr(torch, job["dtype"])
    base = load_base_model(ModelSource(**job["model"]), dtype)
    zero_dropouts(base.model)
    side = {"ours": _ours, "trl": _trl}[job["side"]]
    with tempfile.TemporaryDirectory() as folder:
        losses, seconds, counts = side(base, data, job, folder)
    timed = sum(seconds[1:])
    return {
        "losses": losses,
        "seconds": timed,
        "examples_per_second": sum(counts[1:]) / timed,
        "tokens_per_second": sum(len(x["ids"]) for x in data) / len(data) * sum(counts[1:]) / timed,
        "steps": len(losses),
    }


Steps = tuple[list[float], list[float], list[int]]
"""Loss, seconds and examples of every step."""


def _ours(base: Any, data: list[dict[str, Any]], job: common.Job, folder: str) -> Steps:
    from myosotis.objectives.sft import SFT
    from myosotis.trees.packing_check import probe
    from myosotis.trees.scorer import Scorer
    from myosotis.trees.tree import Path as Sequence
    from myosotis.trees.tree import Tree

    size = job["batch_size"]
    trees = [Tree.of([Sequence(x["ids"], x["mask"])]) for x in data]
    backend = probe(base.model)
    update = ours.attached(base, job)
    scorer = Scorer(update.model, backend, row_tokens=job["row_tokens"])
    steps = [trees[i : i + size] for i in range(0, len(trees), size)][: job["steps"]]
    logged, seconds = ours.train(update, SFT(), scorer, steps, job, folder)
    return [step["train/loss"] for step in logged], seconds, [len(step) for step in steps]


def _trl(base: Any, data: list[dict[str, Any]], job: common.Job, folder: str) -> Steps:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    model = ours.wrapped(base.model, job)
    packed = job["mode"] == "packed"
    # A packed row holds several examples: as many rows a step as give the examples of a step.
    mean = sum(len(x["ids"]) for x in data) / len(data)
    rows = (
        max(1, round(job["batch_size"] * mean / job["max_length"])) if packed else job["batch_size"]
    )
    device = min(job["device_batch"], rows)
    config = SFTConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        seed=job["seed"],
        max_steps=job["steps"],
        per_device_train_batch_size=device,
        gradient_accumulation_steps=max(1, round(rows / device)),
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        completion_only_loss=True,
        packing=packed,
        padding_free=job["mode"] == "padding-free",
        max_length=job["max_length"] if packed else None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.began)

    trainer = SFTTrainer(
        model=model,
        args=config,
        processing_class=base.tokenizer,
        train_dataset=Dataset.from_list(
            [{"input_ids": x["ids"], "completion_mask": x["mask"]} for x in data]
        ),
        callbacks=[Clock()],
    )
    each = [len(n) for n in trainer.train_dataset["seq_lengths"]] if packed else []
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    per_step = device * config.gradient_accumulation_steps
    counts = [per_step] * len(losses)
    if packed:  # rows differ in how many examples they hold
        if len(each) < per_step * len(losses):
            raise SystemExit(f"{len(each)} packed rows are too few for {len(losses)} steps")
        counts = [sum(each[i * per_step : (i + 1) * per_step]) for i in range(len(losses))]
    return losses, seconds, counts


# ------------------------------------------------------------------ the comparison


def peers(args: argparse.Namespace) -> dict[str, common.Job]:
    """TRL's settings that are tried, by name."""
    found: dict[str, common.Job] = {}
    for size in (b for b in GRID if b <= args.batch_size):
        found[f"TRL padded, {size} a batch"] = {"mode": "padded", "device_batch": size}
        if size > 1:
            found[f"TRL padding-free, {size} a batch"] = {
                "mode": "padding-free",
                "device_batch": size,
            }
    for length in ROWS:
        for size in (1, 2, 4):
            name = f"TRL packed to {length}, {size} rows a batch"
            found[name] = {"mode": "packed", "max_length": length, "device_batch": size}
    return {k: v for k, v in found.items() if not args.only or args.only in k}


def loss_gap(ours: list[float], theirs: list[float], same_steps: bool) -> float:
    """How far two curves are apart, as a share of theirs: the worst step, or the later mean."""
    if same_steps:
        return max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))
    late = [statistics.mean(curve[len(curve) // 2 :]) for curve in (ours, theirs)]
    return abs(late[0] - late[1]) / late[1]


def measure(args: argparse.Namespace, data: str) -> dict[str, Any]:
    job: common.Job = {
        "model": {"kind": args.model, "id": args.id, "path": args.path},
        "data": data,
        "update": args.update,
        "lr": args.lr,
        "batch_size": args.batch_size,
        "steps": args.steps,
        "dtype": args.dtype,
        "seed": args.seed,
        "row_tokens": args.row_tokens,
    }
    grid: dict[str, float] = {}
    settings = {name: {**job, "side": "trl", **peer} for name, peer in peers(args).items()}
    for name, setting in settings.items():
        found = common.run_worker(__file__, {**setting, "steps": args.grid_steps}, args.threads)
        grid[name] = found["examples_per_second"]
        common.console.print(f"  {name}: {grid[name]:.2f} examples/s")
    best = max(grid, key=grid.__getitem__)
    sides = {"myosotis": {**job, "side": "ours"}, best: settings[best]}
    found = common.alternate(__file__, sides, args.threads, args.repeats)
    ours, theirs = found.values()
    report(args, grid, best, found)
    gap = loss_gap(ours[0]["losses"], theirs[0]["losses"], settings[best]["mode"] != "packed")
    print(f"loss, mean of the first and the last quarter: {falls(found)}")
    print(f"loss curves differ by {gap:.2%} (within 2 %: {'yes' if gap <= 0.02 else 'NO'})")
    return {"grid": grid, "best": best, "loss_gap": gap, "sides": found}


def falls(found: dict[str, list[common.Result]]) -> str:
    """Each side's loss at the start and at the end."""
    parts = []
    for name, results in found.items():
        losses = results[0]["losses"]
        quarter = max(1, len(losses) // 4)
        first, last = statistics.mean(losses[:quarter]), statistics.mean(losses[-quarter:])
        parts.append(f"{name} {first:.3f} to {last:.3f}")
    return "; ".join(parts)


def report(
    args: argparse.Namespace,
    grid: dict[str, float],
    best: str,
    found: dict[str, list[common.Result]],
) -> None:
    """The two tables: TRL's grid, and the sides that were alternated."""
    common.show(
        f"TRL's settings, {args.grid_steps} steps each",
        ("", "examples/s"),
        [(f"{name}{' (best)' * (name == best)}", f"{rate:.2f}") for name, rate in grid.items()],
    )
    ours, theirs = (common.median(side, "examples_per_second") for side in found.values())
    common.show(
        f"{args.update}, {args.data_name}, {args.steps} steps of {args.batch_size} examples, "
        f"{args.dtype}: {ours / theirs:.2f} times TRL",
        ("", "examples/s", "tokens/s", "each round", "peak memory, GB"),
        [
            (
                name,
                f"{common.median(side, 'examples_per_second'):.2f}",
                f"{common.median(side, 'tokens_per_second'):.0f}",
                ", ".join(f"{r['examples_per_second']:.2f}" for r in side),
                f"{common.median(side, 'peak_memory_gb'):.2f}",
            )
            for name, side in found.items()
        ],
    )


def question_answer(path: Path, folder: str) -> str:
    """A file of question/answer records (GSM8K) as prompt/completion; others as they are."""
    records = [json.loads(line) for line in path.read_text().split("\n") if line.strip()]
    if not {"question", "answer"} <= set(records[0]):
        return str(path)
    target = Path(folder, path.name)
    lines = [{"prompt": r["question"], "completion": r["answer"]} for r in records]
    target.write_text("\n".join(map(json.dumps, lines)))
    return str(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    gsm8k = Path(__file__).parents[2] / "shared" / "data" / "gsm8k" / "train.jsonl"
    parser.add_argument(
        "--data",
        default=str(gsm8k) if gsm8k.exists() else "docstrings",
        help="a jsonl file, or `docstrings` (the default where GSM8K is not beside the checkout)",
    )
    ours.options(parser, lr=2e-4, batch_size=16, unit="examples")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--grid-steps", type=int, default=4)
    parser.add_argument("--only", help="try only TRL settings whose name contains this")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="keep every figure here")
    args = parser.parse_args()
    print(common.machine(args.threads))
    with tempfile.TemporaryDirectory() as folder:
        args.data_name = args.data if args.data == "docstrings" else Path(args.data).parent.name
        if args.data != "docstrings":
            args.data = question_answer(Path(args.data), folder)
        data = Path(folder, "tokens.json")
        data.write_text(json.dumps(examples(args)))
        common.save(args.json, measure(args, str(data)))


if __name__ == "__main__" and not common.worker(work):
    main()
