"""Policies: samples a second against TRL's `GRPOTrainer`, and what a shared prompt saves.

    python bench/grpo_speed.py --dtype bfloat16 --threads 1

The first part trains the same model with GRPO on the same prompts, a group of answers each, both
sides writing with transformers' `generate` (no vLLM). A sample is an answer that was written,
rewarded, scored by policy and reference, and learned from. The first step is a warm-up; sides are
alternated. Answers are sampled at temperature 1, so they differ; how long they are stands beside.

With `--clock cpu` seconds are those of the processor: of one thread on a busy machine they say more
than those on the wall.

The second part scores one group on a long prompt and takes its gradient: as a tree, the prompt read
once, and as separate rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import common
import ours

WORDS = [
    "a river",
    "the moon",
    "an old clock",
    "bread",
    "a garden",
    "the wind",
    "a teacher",
    "snow",
]
LONG = "The sun rose over the hills, and the village woke slowly to another quiet day. "


def clock(job: common.Job) -> float:
    """Seconds, on the wall or of the processor."""
    return time.process_time() if job["clock"] == "cpu" else time.perf_counter()


def prompts(job: common.Job) -> list[str]:
    """As many prompts as the steps ask for."""
    count = job["batch_size"] * job["steps"]
    return [
        f"Write a short sentence about {WORDS[i % len(WORDS)]}, number {i}." for i in range(count)
    ]


def reward(text: str) -> float:
    """Something that costs nothing and differs from answer to answer."""
    return (sum(map(ord, text)) % 11) / 10


def work(job: common.Job) -> common.Result:
    """Worker: one side once."""
    import torch

    from myosotis.models.load import ModelSource, load_base_model

    base = load_base_model(ModelSource(**job["model"]), getattr(torch, job["dtype"]))
    return {"ours": _ours, "trl": _trl, "tree": _group, "rows": _group}[job["side"]](base, job)


def _per_second(job: common.Job, seconds: float, length: float) -> common.Result:
    samples = job["batch_size"] * job["group_size"] * (job["steps"] - 1)
    return {"seconds": seconds, "samples_per_second": samples / seconds, "length": length}


def _ours(base: Any, job: common.Job) -> common.Result:
    from myosotis.data.chat_template import ChatRenderer
    from myosotis.data.sft import Example, Message
    from myosotis.objectives.policy import GRPO
    from myosotis.rewards import Rule
    from myosotis.rewards.together import Rewards
    from myosotis.training.rollout import Rollouts
    from myosotis.trees.packing_check import probe
    from myosotis.trees.scorer import Scorer
    from myosotis.trees.tree import Tree

    @dataclass(frozen=True)
    class Given(Rule):
        def of(self, example: Example, text: str) -> float:
            return reward(text)

    backend = probe(base.model)
    update = ours.attached(base, job)
    scorer = Scorer(update.model, backend, row_tokens=job["row_tokens"])
    objective = GRPO(group_size=job["group_size"], max_new_tokens=job["max_new_tokens"])
    template = ChatRenderer(base.tokenizer, "chat")
    examples = [
        Example((Message("user", text), Message("assistant", "x")), "") for text in prompts(job)
    ]
    trees = [
        replace(Tree.of([template.render(example)]), example=i)
        for i, example in enumerate(examples)
    ]
    rewards = Rewards.of({"given": Given()}, lambda run: NotImplemented)
    rollouts = Rollouts(update, objective, rewards, template, examples, seed=job["seed"])
    size = job["batch_size"]
    steps = [trees[i : i + size] for i in range(0, len(trees), size)]
    ends: list[float] = []

    def watch(step: int, update: Any) -> None:  # before each optimiser step: the same interval
        ends.append(clock(job))

    with tempfile.TemporaryDirectory() as folder:
        logged, _ = ours.train(
            update, objective, scorer, steps, job, folder, watch, rollouts=rollouts
        )
    lengths = [one["train/length"] for one in logged[1:]]
    return _per_second(job, ends[-1] - ends[0], sum(lengths) / len(lengths))


def _trl(base: Any, job: common.Job) -> common.Result:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **words: Any) -> None:
            ends.append(clock(job))

    def given(completions: list[Any], **words: Any) -> list[float]:
        return [reward(one[0]["content"]) for one in completions]

    answers = job["batch_size"] * job["group_size"]
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            use_cpu=True,
            bf16=False,
            seed=job["seed"],
            max_steps=job["steps"],
            per_device_train_batch_size=job["device_batch"],
            gradient_accumulation_steps=answers // job["device_batch"],
            num_generations=job["group_size"],
            max_completion_length=job["max_new_tokens"],
            beta=0.04,
            temperature=1.0,
            learning_rate=job["lr"],
            lr_scheduler_type="constant",
            max_grad_norm=1.0,
            gradient_checkpointing=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        rows = [{"prompt": [{"role": "user", "content": text}]} for text in prompts(job)]
        trainer = GRPOTrainer(
            model=ours.wrapped(base.model, job),
            reward_funcs=given,
            args=config,
            processing_class=base.tokenizer,
            train_dataset=Dataset.from_list(rows),
            callbacks=[Clock()],
        )
        trainer.train()
    told = [entry for entry in trainer.state.log_history if "completions/mean_length" in entry]
    lengths = [entry["completions/mean_length"] for entry in told[1:]]
    return _per_second(job, ends[-1] - ends[0], sum(lengths) / len(lengths))


def _group(base: Any, job: common.Job) -> common.Result:
    """Scoring (policy and reference) and the gradient of one group, once as a warm-up and then
    `rounds` times."""
    import numpy as np
    import torch

    from myosotis.objectives import Group
    from myosotis.objectives.policy import GRPO
    from myosotis.objectives.total import total
    from myosotis.trees.attention import PackingMode
    from myosotis.trees.packing_check import probe
    from myosotis.trees.scorer import Scorer
    from myosotis.trees.tree import Tree

    backend = probe(base.model)
    if job["side"] == "rows":
        backend = PackingMode("padded", "separate rows", fast_head=backend.fast_head)
    update = ours.attached(base, job)
    size, new = job["group_size"], job["max_new_tokens"]
    scorer = Scorer(
        update.model, backend, row_tokens=job["prompt_tokens"] + size * new + 8, rows_at_once=size
    )
    prompt = base.tokenizer.encode(LONG * job["prompt_tokens"])[: job["prompt_tokens"]]
    generator = np.random.default_rng(0)
    tree = Tree.fork(prompt, generator.integers(100, 1000, (size, new)).tolist())
    objective = GRPO(group_size=size, max_new_tokens=new)

    def once() -> None:
        (old,) = scorer.evaluate_tokens([tree])
        with update.disabled():
            (reference,) = scorer.evaluate_tokens([tree])
        group = Group(tree, generator.random(size), old, reference, 0.04)
        learned = objective.of_round([group])
        total(
            scorer, objective, learned, scorer.batches(learned), normalizer=size, kl_estimate=0.0,
            each=lambda batch, loss: loss.backward(),
        )  # fmt: skip
        for _, parameter in update.parameters():
            parameter.grad = None

    update.model.train()
    once()
    torch.manual_seed(0)
    began = clock(job)
    for _ in range(job["rounds"]):
        once()
    seconds = clock(job) - began
    return {"seconds": seconds, "groups_per_second": job["rounds"] / seconds}


def table(title: str, found: dict[str, list[common.Result]], key: str) -> float:
    """Print the medians; returns the ratio of the first side to the second."""
    mine, theirs = (common.median(side, key) for side in found.values())
    common.show(
        f"{title}: {mine / theirs:.2f} times",
        ("", key.replace("_per_", "/"), "each round", "answer, tokens", "peak memory, GB"),
        [
            (
                name,
                f"{common.median(side, key):.3f}",
                ", ".join(f"{one[key]:.3f}" for one in side),
                f"{common.median(side, 'length'):.1f}" if "length" in side[0] else "",
                f"{common.median(side, 'peak_memory_gb'):.2f}",
            )
            for name, side in found.items()
        ],
    )
    return mine / theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ours.options(parser, lr=5e-5, batch_size=2, unit="prompts")
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3, help="the first is a warm-up")
    parser.add_argument("--device-batch", type=int, default=8, help="answers a batch of TRL's")
    parser.add_argument("--prompt-tokens", type=int, default=512, help="of the second part")
    parser.add_argument("--rounds", type=int, default=2, help="of the second part")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--part", choices=("samples", "group"), help="only one of the two")
    parser.add_argument("--json", type=Path, help="keep every figure here")
    args = parser.parse_args()
    print(common.machine(args.threads))
    job = {
        **{name: value for name, value in vars(args).items() if name not in ("json", "part")},
        "model": {"kind": args.model, "id": args.id, "path": args.path},
    }
    kept: dict[str, Any] = {}
    if args.part != "group":
        sides = {"myosotis": {**job, "side": "ours"}, "TRL": {**job, "side": "trl"}}
        kept["samples"] = common.alternate(__file__, sides, args.threads, args.repeats)
        table(f"GRPO, groups of {args.group_size}, {args.dtype}", kept["samples"],
              "samples_per_second")  # fmt: skip
    if args.part != "samples":
        sides = {"a tree": {**job, "side": "tree"}, "separate rows": {**job, "side": "rows"}}
        kept["group"] = common.alternate(__file__, sides, args.threads, args.repeats)
        table(
            f"Scoring and gradient of {args.group_size} answers of {args.max_new_tokens} tokens to "
            f"a prompt of {args.prompt_tokens}", kept["group"], "groups_per_second",
        )  # fmt: skip
    common.save(args.json, kept)


if __name__ == "__main__" and not common.worker(work):
    main()
