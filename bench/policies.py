"""Both sides of a comparison on policies: ours and TRL's, on the same sampled answers.

Two prompts with four answers each, their rewards, and two log-probs of every token: when it was
sampled, and the reference's. Both sides get these, and the same LoRA matrices, moved from where
they begin; each then makes its own advantages, its loss and its gradient. TRL's trainer runs its
own code for that: only what it would sample, reward and score beforehand is put in its place. Read
by `check_trl.py`, which is its own worker.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import common
import ours
import preferences

LOSSES = ("grpo", "dr_grpo", "rloo")
SCALE = {"grpo": "group", "dr_grpo": "none"}
CLIP, KL, LONGEST, NOISE = 0.2, 0.1, 16, 0.2
LENGTHS = ((12, (3, 16, 7, 9)), (5, (8, 2, 11, 16)))  # of a prompt, and of its answers
REWARDS = ((1.0, 0.0, 0.25, 0.5), (0.2, -1.3, 0.9, 0.2))


def work(job: common.Job) -> common.Result:
    """Worker: what was sampled, or one side of it."""
    import torch

    from myosotis.models.dropouts import zero_dropouts
    from myosotis.models.load import ModelSource, load_base_model

    base = load_base_model(ModelSource(**job["model"]), getattr(torch, job["dtype"]))
    zero_dropouts(base.model)
    if job["side"] == "sampled":
        Path(job["data"]).write_text(json.dumps(_sampled(base, job)))
        return {}
    data = json.loads(Path(job["data"]).read_text())
    loss, gradient = {"ours": _ours, "trl": _trl}[job["side"]](base, data, job)
    torch.save(gradient, job["gradients"])
    return {"loss": loss}


def _move(named: list[tuple[str, Any]]) -> None:
    """Away from where LoRA begins, where half of its gradient is 0."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted((preferences._plain(name), p) for name, p in named):
            parameter.normal_(0, 0.02, generator=generator)


def _scorer(base: Any, job: common.Job) -> tuple[Any, Any]:
    """Our side's update, moved, and what scores with it."""
    from myosotis.trees.packing_check import probe
    from myosotis.trees.scorer import Scorer

    backend = probe(base.model)
    update = ours.attached(base, job)
    _move(update.parameters())
    return update, Scorer(update.model, backend, row_tokens=job["row_tokens"])


def _sampled(base: Any, job: common.Job) -> list[dict[str, Any]]:
    """A policy near the one that learns has sampled them, the reference is as near; two answers to
    a prompt begin alike."""
    import numpy as np

    from myosotis.trees.tree import Tree

    _, scorer = _scorer(base, job)
    draw = np.random.default_rng(job["seed"])
    most = min(10_000, base.model.config.vocab_size)
    found = []
    for (length, answers), rewards in zip(LENGTHS, REWARDS, strict=True):
        prompt = draw.integers(3, most, length).tolist()
        ids = [draw.integers(3, most, n).tolist() for n in answers]
        ids[1][0] = ids[0][0]
        (logp,) = scorer.evaluate_tokens([Tree.fork(prompt, ids)])
        near = [
            [(logp[p, length : length + n] + draw.normal(0, NOISE, n)).tolist()
             for p, n in enumerate(answers)]
            for _ in range(2)
        ]  # fmt: skip
        found.append({"prompt": prompt, "answers": ids, "rewards": rewards,
                      "old": near[0], "reference": near[1]})  # fmt: skip
    return found


Found = tuple[float, dict[str, Any]]


def _ours(base: Any, data: list[dict[str, Any]], job: common.Job) -> Found:
    import numpy as np

    from myosotis.objectives import Group
    from myosotis.objectives.policy import GRPO, RLOO, DrGRPO
    from myosotis.objectives.total import total
    from myosotis.trees.tree import Tree

    def by_depth(tree: Any, prompt: list[int], values: list[list[float]]) -> Any:
        found = np.zeros((len(tree.leaves), tree.longest))
        for p, row in enumerate(values):
            found[p, len(prompt) : len(prompt) + len(row)] = row
        return found

    update, scorer = _scorer(base, job)
    groups = []
    for one in data:
        tree = Tree.fork(one["prompt"], one["answers"])
        old, reference = (by_depth(tree, one["prompt"], one[k]) for k in ("old", "reference"))
        groups.append(Group(tree, np.array(one["rewards"]), old, reference, KL))
    kind = {"grpo": GRPO, "dr_grpo": DrGRPO, "rloo": RLOO}[job["loss"]]
    objective = kind(group_size=len(REWARDS[0]), max_new_tokens=LONGEST, kl_coef=KL, clip=CLIP)
    trees = objective.of_round(groups)
    update.model.train()
    loss, _ = total(
        scorer, objective, trees, scorer.batches(trees),
        normalizer=sum(map(objective.normalizer, trees)), kl_estimate=0.0,
        each=lambda batch, part: part.backward(),
    )  # fmt: skip
    return float(loss), {preferences._plain(n): p.grad for n, p in update.parameters()}


def _trl(base: Any, data: list[dict[str, Any]], job: common.Job) -> Found:
    import tempfile

    import torch
    from datasets import Dataset
    from torch.nn.utils.rnn import pad_sequence

    kind, config, own = _peer(job["loss"])
    answers = [ids for one in data for ids in one["answers"]]
    prompts = [one["prompt"] for one in data for _ in one["answers"]]
    rewards = torch.tensor([value for one in data for value in one["rewards"]])
    given = [
        pad_sequence([torch.tensor(row) for one in data for row in one[name]], batch_first=True)
        for name in ("old", "reference")
    ]

    class Given(kind):  # type: ignore[misc,valid-type]
        """What was sampled, rewarded and scored beforehand is given; the rest is TRL's."""

        def _generate(self, asked: Any) -> Any:
            if job["loss"] == "rloo":
                return prompts, answers, [""] * len(answers)
            return prompts, answers, None, [""] * len(answers), None, {}, None, None

        def _calculate_rewards(self, inputs: Any, *_: Any) -> Any:
            return rewards[:, None]

        def _get_per_token_logps_and_entropies(self, *args: Any, **words: Any) -> Any:
            if torch.is_grad_enabled():
                return super()._get_per_token_logps_and_entropies(*args, **words)
            return given.pop(0), None, None

    with tempfile.TemporaryDirectory() as folder:
        trainer = Given(
            model=ours.wrapped(base.model, job),
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=config(
                output_dir=folder, use_cpu=True, bf16=False, report_to="none",
                beta=KL, epsilon=CLIP, per_device_train_batch_size=len(answers),
                num_generations=len(REWARDS[0]),
                max_completion_length=LONGEST, num_iterations=2, gradient_checkpointing=False,
                temperature=1.0, **own,
            ),
            processing_class=base.tokenizer,
            train_dataset=Dataset.from_list([{"prompt": "x"}] * len(answers)),
        )  # fmt: skip
    model = trainer.model
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    _move(trained)
    model.train()
    inputs = trainer._generate_and_score_completions([{"prompt": "x"}] * len(answers))
    assert not given, "TRL asked for other log-probs than these two"
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer.compute_loss(model, inputs)
    loss.backward()
    return loss.item(), {preferences._plain(n): p.grad for n, p in trained}


def _peer(loss: str) -> tuple[Any, Any, dict[str, Any]]:
    """TRL's trainer of a loss, its class of settings, and the settings of its own."""
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    if loss == "rloo":
        return RLOOTrainer, RLOOConfig, {"normalize_advantages": False}
    # The KL of the papers, whose expectation is over the sampling policy; TRL's default multiplies
    # it by the ratio of probabilities.
    own = {"loss_type": loss, "use_bias_correction_kl": False}
    return GRPOTrainer, GRPOConfig, {**own, "scale_rewards": SCALE[loss]}
