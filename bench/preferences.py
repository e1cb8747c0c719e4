"""Both sides of a comparison on preferences: ours and TRL's, on the same tokens in the same order.

Every side trains the same model from the same start (LoRA matrices too) on the same token ids,
with AdamW, a constant learning rate and the gradient clipped at 1. A step is `--batch-size` pairs.
Read by `dpo_speed.py` and `check_trl.py`, each of which is its own worker.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import common
import ours

BETA, GAMMA = 0.1, 0.05
PARTS = ("prompt", "chosen", "rejected")
BOTH = {"train/loss": "loss", "train/grad_norm": "grad_norm"}  # ours -> TRL's name
PAIRS = {
    **BOTH,
    "train/reward_margin": "rewards/margins",
    "train/reward_accuracy": "rewards/accuracies",
    "train/chosen_logp": "logps/chosen",
    "train/rejected_logp": "logps/rejected",
}
LOGGED = {
    **dict.fromkeys(("sigmoid", "ipo", "hinge"), PAIRS),
    **dict.fromkeys(("simpo", "orpo"), BOTH),
    "kto": {**BOTH, "train/drift": "kl"},
}
LOSSES = tuple(LOGGED)


def options(parser: argparse.ArgumentParser) -> None:
    """What both scripts ask: the pairs, the training, the model."""
    default = Path(__file__).parents[2] / "shared" / "data" / "rasbt_preference" / "train.jsonl"
    parser.add_argument("--data", default=str(default), help="a jsonl file of pairs")
    ours.options(parser, lr=5e-5, batch_size=8, unit="pairs")


def job_of(args: argparse.Namespace, data: str, **more: Any) -> common.Job:
    """The job both sides have in common; `data` is a file of what `pairs` found."""
    return {
        "model": {"kind": args.model, "id": args.id, "path": args.path},
        "data": data,
        "update": args.update,
        "lr": args.lr,
        "batch_size": args.batch_size,
        "dtype": args.dtype,
        "seed": args.seed,
        "row_tokens": args.row_tokens,
        **more,
    }


def pairs(args: argparse.Namespace, count: int) -> list[dict[str, list[int]]]:
    """Token ids of prompt, chosen and rejected answer of `count` pairs, in training order."""
    import numpy as np

    from myosotis.data.chat_template import ChatRenderer
    from myosotis.data.preference import read_pairs
    from myosotis.data.tokenize import sides
    from myosotis.models.load import ModelSource, load_tokenizer

    template = ChatRenderer(load_tokenizer(ModelSource(args.model, args.id, args.path)))
    found = read_pairs(args.data).examples
    chosen = np.random.default_rng(args.seed).permutation(len(found))[:count]
    if len(chosen) < count:
        raise SystemExit(f"{args.data} has {len(chosen)} pairs; {count} are needed")
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

    from myosotis.models.dropouts import zero_dropouts
    from myosotis.models.load import ModelSource, load_base_model

    data = json.loads(Path(job["data"]).read_text())[: job["pairs"]]
    base = load_base_model(ModelSource(**job["model"]), getattr(torch, job["dtype"]))
    zero_dropouts(base.model)
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
    from myosotis.objectives.reference_logprobs import referenced
    from myosotis.trees.packing_check import probe
    from myosotis.trees.scorer import Scorer
    from myosotis.trees.tree import Path as Sequence
    from myosotis.trees.tree import Tree

    objective = _objective(job)

    def path(row: dict[str, Any], answer: str) -> Sequence:
        ids = row["prompt"] + row[answer]
        return Sequence(ids, [0] * len(row["prompt"]) + [1] * len(row[answer]))

    if objective.data_kind == "pairs":
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
    from myosotis.objectives.preference import DPO, IPO, ORPO, Hinge, SimPO

    kinds: dict[str, Any] = {
        "sigmoid": partial(DPO, beta=BETA),
        "ipo": partial(IPO, beta=BETA),
        "hinge": partial(Hinge, beta=BETA),
        "kto": partial(KTO, beta=BETA),
        "simpo": partial(SimPO, beta=BETA, gamma=GAMMA),
        "orpo": partial(ORPO, weight=BETA),
    }
    return kinds[job["loss"]]()


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

    device = min(job["device_batch"], job["batch_size"])
    trainer_class, config_class, own = _peer(job)
    config = config_class(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        seed=job["seed"],
        max_steps=job["steps"],
        per_device_train_batch_size=device,
        gradient_accumulation_steps=job["batch_size"] // device,
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
        **own,
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

    rows = [_row(row, job) for row in (graded(data) if job["loss"] == "kto" else data)]
    model = ours.wrapped(base.model, job)
    began = time.perf_counter()
    trainer = trainer_class(
        model=model,
        args=config,
        processing_class=base.tokenizer,
        train_dataset=Dataset.from_list(rows),
        callbacks=[Keep()],
    )
    trainer.train()
    seconds = time.perf_counter() - began
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    names = LOGGED[job["loss"]]
    logged = [{mine: float(entry[theirs]) for mine, theirs in names.items()} for entry in entries]
    return logged, seconds, gradients


def _row(row: dict[str, Any], job: common.Job) -> dict[str, Any]:
    """A row as the trainer's collator wants it, already in tokens."""
    if job["loss"] == "kto":
        names = ("prompt", "completion", "KL_completion")
        return {"label": row["label"], **{f"{name}_ids": row[name] for name in names}}
    if job["loss"] not in ("simpo", "orpo"):
        return {f"{name}_ids": row[name] for name in PARTS}
    found = {}
    for name in ("chosen", "rejected"):
        ids = row["prompt"] + row[name]
        found[f"{name}_input_ids"] = ids
        found[f"{name}_attention_mask"] = [1] * len(ids)
        found[f"{name}_labels"] = [-100] * len(row["prompt"]) + row[name]
    return found


def _peer(job: common.Job) -> tuple[Any, Any, dict[str, Any]]:
    """TRL's trainer of a loss, given tokens; its class of settings; and the settings of its own."""
    if job["loss"] == "simpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        class SimPOTrainer(CPOTrainer):  # type: ignore[misc]
            def tokenize_row(self, feature: Any, model: Any = None) -> Any:
                return feature

        return SimPOTrainer, CPOConfig, {"loss_type": "simpo", "simpo_gamma": GAMMA, "cpo_alpha": 0}
    if job["loss"] == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        class OfAnswers(ORPOTrainer):  # type: ignore[misc]
            def tokenize_row(self, feature: Any, model: Any = None) -> Any:
                return feature

            def concatenated_forward(self, model: Any, batch: Any) -> Any:
                # The likelihood there is of prompt and answer, and a token's mean over the batch;
                # the paper's equation 2 is of the answer, and a mean over each.
                chosen, rejected, *logits, _ = super().concatenated_forward(model, batch)
                return chosen, rejected, *logits, -chosen.mean()

        return OfAnswers, ORPOConfig, {}

    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    kto = job["loss"] == "kto"

    class Tokenised(KTOTrainer if kto else DPOTrainer):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    own = {"loss_type": job["loss"], "precompute_ref_log_probs": job["precomputed"]}
    return Tokenised, KTOConfig if kto else DPOConfig, own


def gaps(mine: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, float]:
    """By name, how far two runs are apart at the worst of all steps."""
    return {
        name: max(abs(a[name] - b[name]) for a, b in zip(mine, theirs, strict=True))
        for name in theirs[0]
    }
