"""TRL's plain supervised tuning on a narrow task, beside ours with and without a control.

What is lost at equal steps on the same tokens in the same order, by the same `evaluate --base`.

    python bench/controls_peer.py --controls replay:ratio=0.1 kl \\
        -- experiment=small optimizer.lr=5e-3

What stands behind `--` is as of `myosotis train`, and every side has it: data, base, rank, rate,
schedule and steps. TRL's `SFTTrainer` trains PEFT's LoRA of the same rank and scale (or all the
weights) with AdamW; its adapter is merged and saved as a whole model. Our sides are `myosotis
train` without a control and with each of `--controls`; their update is measured as it is. Every
model is then asked the benchmarks by `myosotis evaluate MODEL --base BASE` (a fixed set: the same
items for all), and the held-out examples of the task by our evaluator. A difference between TRL's
side and ours without a control is chance and arithmetic; one to a control is what the control does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import common

TRL, PLAIN = "TRL, plain SFT", "none"


def work(job: common.Job) -> common.Result:
    """Worker: train with TRL and save the merged model; or measure the task of a saved model."""
    return {"trl": _trl, "task": _task}[job["do"]](job)


def _trl(job: common.Job) -> common.Result:
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from trl import SFTConfig, SFTTrainer

    from myosotis.commands.parts import data_of, precision_of
    from myosotis.commands.parts import total_steps as steps_of
    from myosotis.config import compose, instantiate, learning_rate
    from myosotis.data.datamodule import StepLoader
    from myosotis.models.dropouts import zero_dropouts
    from myosotis.models.load import load_base_model

    cfg = compose(job["overrides"])
    data = data_of(cfg)
    steps = steps_of(cfg, data.steps_per_epoch)
    loader = StepLoader(data.train_trees, data.batch_size, data.seed, order=data.order())
    trees = [tree for number in range(steps) for tree in loader.step(*divmod(number, len(loader)))]
    paths = [path for tree in trees for path in tree.paths()]
    base = load_base_model(instantiate.model_source(cfg), precision_of(cfg).weights)
    zero_dropouts(base.model)
    torch.manual_seed(cfg.seed)
    model: Any = base.model
    update = cfg["update"]
    if update.name == "lora":
        targets = "all-linear" if update.target_modules == "all-linear" else None
        lora = LoraConfig(
            task_type="CAUSAL_LM", r=update.r, lora_alpha=update.lora_alpha, target_modules=targets
        )
        model = get_peft_model(model, lora)
    elif update.name != "full":
        raise SystemExit(f"update={update.name}: TRL's side is lora or full")
    config = SFTConfig(
        output_dir=job["out"],
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        seed=cfg.seed,
        max_steps=steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=data.batch_size,
        learning_rate=learning_rate(cfg).value,
        lr_scheduler_type=cfg.schedule.name,
        warmup_steps=round(cfg.schedule.warmup * steps)
        if cfg.schedule.warmup < 1
        else int(cfg.schedule.warmup),
        weight_decay=cfg.optimizer.get("weight_decay", 0.0),
        max_grad_norm=cfg.trainer.gradient_clip_val or 0.0,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        completion_only_loss=True,
        max_length=None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rows = [
        {"input_ids": list(p.ids), "completion_mask": [int(w) for w in p.weights]} for p in paths
    ]
    trainer = SFTTrainer(
        model=model,
        args=config,
        processing_class=base.tokenizer,
        train_dataset=Dataset.from_list(rows),
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tuned: Any = trainer.model
    whole = tuned.merge_and_unload() if update.name == "lora" else tuned
    whole.save_pretrained(job["out"])
    base.tokenizer.save_pretrained(job["out"])
    return {"seconds": 0.0, "losses": losses, "steps": steps}


def _task(job: common.Job) -> common.Result:
    """The task's held-out examples, base against a model, paired."""
    from myosotis.commands.components import tuned_scorer
    from myosotis.commands.find_model import find_model
    from myosotis.commands.parts import data_of, evaluator_of, precision_of, scorer_of
    from myosotis.config import compose, instantiate
    from myosotis.evaluation.results import task_quality
    from myosotis.models.model_ref import ModelRef
    from myosotis.retention.benchmarks.task import Suite

    cfg = compose(job["overrides"])
    asked = evaluator_of(cfg, data_of(cfg), Suite((), 0, ""))
    source = instantiate.model_source(cfg)
    found = []
    for model in (ModelRef(source.name, source), find_model(job["model"])):
        loaded, update = model.load(precision_of(cfg).weights)
        scorer = scorer_of(loaded, cfg)
        scorer = scorer if update is None else tuned_scorer(scorer, update)
        found.append(asked.quality(scorer, model.name, texts=False)["loglik"])
    quality = task_quality(*found)
    return {"seconds": 0.0, "delta": quality.delta, "lo": quality.lo, "hi": quality.hi}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--controls", nargs="*", default=["replay:ratio=0.1"])
    parser.add_argument("--out", type=Path, default=Path("runs/controls_peer"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="keep every figure here")
    parser.add_argument("overrides", nargs="*", help="as of myosotis train", metavar="KEY=VALUE")
    args = parser.parse_args()
    print(common.machine(args.threads))
    out = args.out.resolve()
    shared = [
        *args.overrides, "tracking=none", "retention.settle=false", "retention.every=null",
        "task.shots=0", "task.generate=0", f"trainer.num_threads={args.threads}",
    ]  # fmt: skip
    trl = {"do": "trl", "overrides": shared, "out": str(out / "trl")}
    logged = common.run_worker(__file__, trl, args.threads)
    sides = {TRL: out / "trl"}
    for one in (PLAIN, *args.controls):
        sides[one] = out / _name(one)
        _call(["train", *shared, *_chosen(one), f"out={sides[one]}"])
    rows, figures = [], {}
    for name, model in sides.items():
        said = out / f"evaluate-{model.name}"
        whole = ["--base", _base(shared)] if name == TRL else []
        retention = [
            word for word in shared if word.startswith(("retention", "trainer", "tracking"))
        ]
        _call(["evaluate", str(model), *whole, *retention, f"out={said}"])
        record = json.loads((said / "record.json").read_text())
        job = {"do": "task", "overrides": shared, "model": str(model)}
        task = common.run_worker(__file__, job, args.threads)
        figures[name] = {"task": task, "retention": record["retention"]}
        lost = {row["task"]: _change(row) for row in record["retention"]}
        rows.append([name, _change(task), *lost.values()])
        columns = ["side", "task, nats per token", *lost]
    common.save(args.json, {"overrides": shared, "trl": logged, "sides": figures})
    common.show(f"{logged['steps']} steps: {' '.join(args.overrides)}", columns, rows)


def _base(overrides: list[str]) -> str:
    """What `evaluate --base` calls the base of these overrides."""
    given = dict(word.split("=", 1) for word in overrides)
    return given.get("model.path") or given.get("model.id") or given.get("model", "smollm2-135m")


def _name(side: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in side)


def _chosen(side: str) -> list[str]:
    """The overrides of `replay:ratio=0.1`."""
    name, _, settings = side.partition(":")
    return [f"control={name}", *(f"control.{name}.{s}" for s in settings.split(",") if s)]


def _change(row: dict[str, Any]) -> str:
    if row["lo"] is None or row["hi"] is None:
        return f"{row['delta']:+.4f}"
    return f"{row['delta']:+.4f} ({row['lo']:+.4f} to {row['hi']:+.4f})"


def _call(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "myosotis.cli", *words], check=False)
    if done.returncode:
        raise SystemExit(f"myosotis {' '.join(words)} ended with {done.returncode}")


if __name__ == "__main__" and not common.worker(work):
    main()
