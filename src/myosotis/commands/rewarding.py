"""The rewards of a run at work: rules as they are, reward runs loaded; and a reward run's scale.

A reward model is a model of its own beside the one that trains: its base, its update, its template
and its value head, as its run left them.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from myosotis.commands.find_model import config_of, of_run, template_options
from myosotis.commands.parts import context_of, device_of, precision_of, scorer_of
from myosotis.config import instantiate
from myosotis.data.datamodule import ExampleModule
from myosotis.data.label_template import RewardRenderer
from myosotis.models.generate import before, continuations, decoded, end_ids
from myosotis.objectives import samples
from myosotis.records.find import find_run, has_update
from myosotis.records.run_folder import RunFolder
from myosotis.rewards.code import PassesTests
from myosotis.rewards.model import RewardModel, RewardRun, Scale, raw_rewards
from myosotis.rewards.together import Rewards
from myosotis.trees.scorer import Scorer
from myosotis.updates.base import Update
from myosotis.utils import sandbox
from myosotis.utils.console import progress
from myosotis.utils.errors import ConfigError, DataError

STANDARD = 64
"""Held-out prompts, at most, of which a reward model's scale is made."""


def rewards_of(cfg: DictConfig) -> Rewards | None:
    """The rewards of a configuration, loaded; None where it has none."""
    chosen = instantiate.rewards(cfg)
    return Rewards.of(chosen, lambda run: reward_model(cfg, run)) if chosen else None


def require_rewards(cfg: DictConfig) -> None:
    """Raise what loading the reward runs would raise, before any weights load."""
    for reward in instantiate.rewards(cfg).values():
        if isinstance(reward, RewardRun):
            _found(str(reward.run))
        elif isinstance(reward, PassesTests):
            sandbox.require()


def reward_model(cfg: DictConfig, run: str) -> RewardModel:
    """The reward model of a run, computing as `cfg` says.

    Raises `ConfigError` where the run trained something else, `AssetError` where it is unfinished.
    """
    folder, scale = _found(run)
    trained, source = config_of(folder)
    base, update = of_run(folder).load(precision_of(cfg).weights, device_of(cfg))
    assert update is not None
    own = scorer_of(base, cfg)
    scorer = Scorer(
        update.model,
        own.backend,
        row_tokens=trained.data.row_tokens,
        rows_at_once=own.rows_at_once,
        products=own.products,
    )
    renderer = RewardRenderer(base.tokenizer, trained.data.template, template_options(trained))
    return RewardModel(scorer, renderer, scale, context_of(source))


def _found(run: str) -> tuple[RunFolder, Scale]:
    folder = find_run(run, able=has_update)
    cfg, _ = config_of(folder)
    if not instantiate.objective(cfg).needs_value_head:
        raise ConfigError(
            f"{run} was trained with objective={cfg.objective.name}, which makes no reward model.",
            "`myosotis train method=reward` makes one.",
        )
    return folder, Scale.load(folder.path)


def require_prompts(cfg: DictConfig, data: ExampleModule) -> None:
    """Raise `DataError` where an objective samples and a prompt leaves no room for an answer."""
    objective = instantiate.objective(cfg)
    if not samples(objective):
        return
    if not data.kind.is_text:
        raise DataError(
            f"objective={cfg.objective.name} answers prompts, and {data.dataset.name} has none",
            'data with prompts and answers, as in {"prompt": …, "completion": …}',
        )
    room = context_of(instantiate.model_source(cfg)) - objective.max_new_tokens
    for example in data.encoded["train"].examples:
        length = len(data.template.prompt(example.prompt, example.tools))
        if length > room:
            raise DataError(
                f"{example.where}: the prompt has {length} tokens, and with objective."
                f"max_new_tokens={objective.max_new_tokens} only {room} are left for one",
                "a smaller objective.max_new_tokens, or data.max_length, which drops long examples",
            )


def write_scale(
    cfg: DictConfig, data: ExampleModule, scorer: Scorer, update: Update, folder: Path
) -> Scale:
    """Write `reward.json`: the scale of a reward model that was trained, from answers of the model
    it was trained from to held-out prompts."""
    examples = data.test_examples[:STANDARD]
    tokenizer = data.template.tokenizer
    ends = end_ids(update.model, tokenizer)
    with (
        update.disabled(),
        scorer.arithmetic(),
        progress("answers to standardise rewards", total=len(examples)) as advance,
    ):
        found = continuations(
            update.model,
            tokenizer,
            [data.template.prompt(example.prompt, example.tools) for example in examples],
            max_new_tokens=cfg.task.max_new_tokens,
            temperature=1.0,
            seed=cfg.seed,
            stop=ends,
            advance=advance,
        )
    texts = [decoded(tokenizer, before(ids, ends)) for ids in found]
    assert isinstance(data.template, RewardRenderer)
    scale = Scale.of(raw_rewards(scorer, data.template, examples, texts, data.max_length))
    scale.save(folder)
    return scale
