"""The controls of a run, made from its configuration once the update is attached; and the general
text at hand that they may read, of which nothing is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from myosotis.commands.components import TunedComponents
from myosotis.commands.parts import locator_of
from myosotis.config import instantiate
from myosotis.controls import Given, Spent, read, supervised
from myosotis.controls.together import Controls
from myosotis.data.datamodule import ExampleModule, StepLoader
from myosotis.objectives import samples
from myosotis.records.schema import ControlInfo, CurvePoint
from myosotis.retention.benchmarks import prose, wikipedia
from myosotis.retention.benchmarks.build import draw_order
from myosotis.retention.benchmarks.prose import Passage
from myosotis.trees.tree import Tree
from myosotis.utils.errors import DataError

KL_AT_LEAST = 16
"""Passages that measuring KL may draw and no control reads, also where less is measured: what a run
learns must not depend on what it measures."""


def controls_of(cfg: DictConfig, parts: TunedComponents) -> Controls:
    """The controls of a run at work. The same on every rank; the model is where training begins."""
    chosen = {name: one for name, one in instantiate.controls(cfg).items() if one.active}
    if not chosen:
        return Controls()
    sampled = samples(parts.objective)  # how long its answers are nobody knows yet
    given = Given(
        update=parts.update,
        scorer=parts.scorer,
        renderer=parts.data.template,
        context_length=parts.base.context_length,
        seed=cfg.seed,
        steps=parts.total_steps,
        supervised=None if sampled else by_step(parts.data, parts.total_steps, supervised),
        read=None if sampled else by_step(parts.data, parts.total_steps, read),
        general=lambda name: general_text(cfg, name),
        model=parts.base.content_hash,
        dtype=parts.precision.name,
    )
    terms = {name: control.prepare(given) for name, control in chosen.items()}
    return Controls(terms, parts.total_steps)


def told(
    cfg: DictConfig, rehearsed: Mapping[str, Spent], curve: Sequence[CurvePoint]
) -> list[ControlInfo]:
    """The controls that were at work, and what they did, from the curves of the run."""
    found = []
    for name, control in instantiate.controls(cfg).items():
        if not control.active:
            continue
        texts = rehearsed.get(name, Spent())
        found.append(
            ControlInfo(
                name,
                dict(vars(control)),
                _mean(curve, f"train/control/{name}"),
                _mean(curve, f"train/control/{name}_share"),
                *((texts.texts, texts.tokens, round(texts.supervised)) if texts.texts else ()),
            )
        )
    return found


def _mean(curve: Sequence[CurvePoint], name: str) -> float | None:
    values = [p.value for p in curve if p.name == name and p.value is not None]
    return sum(values) / len(values) if values else None


def by_step(
    data: ExampleModule, total_steps: int, size: Callable[[Tree], float]
) -> NDArray[np.float64]:
    """What the trees of each step have of `size`, over all ranks."""
    trees = data.train_trees
    sizes = np.array([size(tree) for tree in trees])
    loader = StepLoader(trees, data.batch_size, data.seed, order=data.order())
    found = list[NDArray[np.float64]]()
    for epoch in range(-(-total_steps // len(loader))):
        order = loader.order(epoch)
        starts = np.arange(0, len(order), data.batch_size)
        found.append(np.add.reduceat(sizes[order], starts))
    return np.concatenate(found)[:total_steps]


def general_text(cfg: DictConfig, name: str) -> list[str]:
    """The passages of `prose` or `wikipedia` that no measurement of this configuration reads.

    Left out are those that the benchmark of that name draws first, and those of KL, whether they
    are measured or not; and those that share a paragraph with one of them. Raises `DataError` where
    none is left.
    """
    passages, key = _passages(cfg, name), cfg.retention
    reserved = set(draw_order(name, len(passages), key.seed)[: prose.ENOUGH])
    if name == "prose":
        for count in {KL_AT_LEAST, max(KL_AT_LEAST, key.kl_items)}:
            reserved |= set(prose.drawn(len(passages), count, key.seed))
    measured = {part for row in reserved for part in _paragraphs(passages[row])}
    left = [one.text for one in passages if measured.isdisjoint(_paragraphs(one))]
    if not left:
        raise DataError(
            f"all {len(passages)} passages of {name} are measured",
            "control.replay.texts=FILE reads texts of yours",
        )
    return left


def _paragraphs(passage: Passage) -> list[str]:
    return passage.text.split("\n\n")


def _passages(cfg: DictConfig, name: str) -> list[Passage]:
    if name == "prose":
        return prose.passages()
    return wikipedia.passages(locator_of(cfg))[0]
