"""`myosotis recover`: what a finished run got wrong that its base got right, asked again.

The run is opened as it was trained. What comes back with solved examples, or after a few steps of
relearning on other items, was only mislaid; both become part of the run's record and scorecard. The
relearned weights are thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, open_dict

from myosotis.commands.components import TunedComponents, attach, load_components, merge_initial
from myosotis.commands.finished import finished_config, refuse_others
from myosotis.commands.parts import benchmarks, context_of, most_items
from myosotis.commands.publish import keep, publish
from myosotis.config import instantiate, learning_rate
from myosotis.evaluation.recovery import (
    BATCH,
    Key,
    Lost,
    can_be_asked,
    lost_items,
    recovery,
    relearn,
    with_examples,
)
from myosotis.records.find import find_run, has_update
from myosotis.records.items import benchmark_items
from myosotis.records.schema import Recovery, RunRecord
from myosotis.report import mislaid
from myosotis.retention.benchmarks.requests import Encoder
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Suite
from myosotis.utils.console import console, progress, results
from myosotis.utils.errors import ConfigError, DataError
from myosotis.utils.escape import terminal

EXAMPLES, RELEARNING = "examples", "relearning"


def recover(
    run: str, given: DictConfig, overrides: Sequence[str] = (), *, shots: int = 5, steps: int = 10
) -> dict[str, Any]:
    """Ask the lost answers of `run` again, in both ways; returns what came back.

    `overrides` name values of `given` that replace the run's own. Raises `ConfigError` where its
    benchmarks are rendered as chats, `DataError` where its items are not beside its record.
    """
    place = find_run(run, able=has_update)
    record = place.load()
    cfg = finished_config(place, record, given, overrides, command="recover")
    if cfg.retention.chat_template:
        raise ConfigError("Solved examples go before questions in plain text, not in a chat's.")
    answers = {name: items.answers for name, items in benchmark_items(record).items()}
    if not answers:
        raise DataError(f"{place.items} is not there: nothing says which items were lost.")
    if cfg.trainer.num_threads:
        torch.set_num_threads(cfg.trainer.num_threads)
    with open_dict(cfg):
        cfg.retention.kl_items = 0
    parts = load_components(cfg, lambda _: None)
    refuse_others(record, parts)
    parts = attach(merge_initial(parts), cfg)
    parts.update.load(place.update)
    suite = _suite(cfg, parts, max(len(items) for items in answers.values()) + steps * BATCH)
    asked = lost_items(suite, answers)
    if not asked.lost:
        console.print("No answer went from right to wrong: there is nothing to ask again.")
        return {"run_id": record.run_id, "recovery": []}
    back = _ask(parts, suite, asked, shots, steps, learning_rate(cfg).value, cfg)

    def change(now: RunRecord) -> None:
        now.recovery = [told for told, _ in back]
        for flip in now.flips:
            flip.again = [told.way for told, items in back if (flip.task, flip.item) in items]

    record = keep(place, change)
    for sentence in mislaid.sentences(record):
        results.print(sentence, highlight=False, markup=False)
    results.print(f"scorecard: {terminal(place.scorecard)}", highlight=False, soft_wrap=True)
    publish(place, record, cfg)
    return {
        "run_id": record.run_id,
        "recovery": record.recovery,
        "said": mislaid.sentences(record),
        "scorecard": str(place.scorecard),
    }


def _suite(cfg: DictConfig, parts: TunedComponents, items: int) -> Suite:
    """The benchmarks that can be asked again, with more items than the run asked, where there are
    any: a longer draw has the same first ones."""
    source = instantiate.model_source(cfg)
    if cfg.retention["items"] is not None:
        items = most_items(cfg) or items
    built = benchmarks(cfg, source, source, parts.data.template.tokenizer, items)
    names = [task.name for task in parts.screening.screened(built) if can_be_asked(task)]
    return built.only(names)


def _ask(
    parts: TunedComponents,
    suite: Suite,
    asked: Lost,
    shots: int,
    steps: int,
    lr: float,
    cfg: DictConfig,
) -> list[tuple[Recovery, set[Key]]]:
    """Both ways: first with the weights as they are, then after relearning."""
    wanted = asked.lost | asked.never
    questions = suite.where(lambda item: (item.task, item.id) in wanted)
    encoder = Encoder(parts.data.template.tokenizer, context_of(instantiate.model_source(cfg)))
    found = []
    if shots:
        solved = with_examples(questions, asked.others, shots, encoder)
        now = _measured(parts, solved, "tuned, with examples")
        with parts.update.disabled():
            base = _measured(parts, solved, "base, with examples")
        found.append(recovery(EXAMPLES, shots, asked, now, base))
    if steps and any(asked.others.values()):
        before = {name: tensor.clone() for name, tensor in parts.update.state_dict().items()}
        with progress("relearning", total=steps) as advance:
            relearn(parts.scorer, parts.update, asked.others, steps=steps, lr=lr, advance=advance)
        now = _measured(parts, questions, "relearned")
        parts.update.load_state_dict(before)
        found.append(recovery(RELEARNING, steps, asked, now))
    return found


def _measured(parts: TunedComponents, suite: Suite, what: str) -> Measurement:
    return parts.evaluator.asked(suite, parts.scorer, what)
