"""Controls in a training: the sum, the shares, nothing at 0, and what a layer's turn is."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from myosotis.controls import Given, Term
from myosotis.controls.kl import KL, KLTerm
from myosotis.controls.l2sp import half_squared_distance
from myosotis.controls.penalty import Penalty
from myosotis.controls.replay import ReplayTerm
from myosotis.controls.together import Controls
from myosotis.controls.unfreeze import Unfreeze
from tests.controls.small import attached, gradient, moved, scorer_of, step, trees
from tests.controls.test_rehearsal import as_it_comes, foreseen
from tests.training.test_module import fit, module, weights


def negative_log_likelihood(update: Any, given: Any) -> torch.Tensor:
    scores = [scorer_of(update).score(b).logp_B.sum() for b in scorer_of(update).batches(given)]
    return -sum(scores)  # type: ignore[return-value]


def test_a_token_of_replay_weighs_as_much_as_one_of_the_task() -> None:
    """16 tokens a step, a share of ½: two texts of 4. With the task's gradient, that of the sum
    of all (task and replay) over the 16 tokens of the task; half on each of two ranks."""
    update, task, texts = moved(attached()), trees(4), trees(2, seed=9)
    term = ReplayTerm(scorer_of(update), foreseen(texts, [16.0], 0.5, [0]))
    value = term.accumulate(step(update, task))
    found = gradient(update)
    wanted = negative_log_likelihood(update, texts) / 16
    wanted.backward()
    whole = gradient(update)
    assert value == pytest.approx(wanted.item(), rel=1e-9)
    assert (found - whole).norm() <= 1e-9 * whole.norm()
    parts = [term.accumulate(step(update, task, rank=r, ranks=2)) for r in range(2)]
    assert sum(parts) == pytest.approx(value)
    assert (gradient(update) - whole).norm() <= 1e-9 * whole.norm()


def test_a_step_in_which_nothing_is_learned_has_no_term() -> None:
    """A round without a pair: no tree, no token; and no division by their number."""
    update = moved(attached())
    given = Given(update, scorer_of(update), None, 128, 0, 8, None, None, None)  # type: ignore[arg-type]
    task = KL(coef=1.0, texts="task", share=1.0).prepare(given)
    texts = trees(2, seed=9)
    always = KLTerm(
        given, lambda at: texts, coef=1.0, tokens=lambda at: 0.1 * at.read, reverse=False
    )
    replay = ReplayTerm(scorer_of(update), foreseen(texts, [16.0], 0.5, [0]))
    for term in (task, always, replay, ReplayTerm(scorer_of(update), as_it_comes(texts, 0.5, [0]))):
        assert term.accumulate(step(update, [])) == 0.0
    assert not gradient(update).any()


def test_each_term_is_measured_in_its_turn_as_a_share_of_the_whole() -> None:
    """Of two penalties of one kind, ½·1·‖Δ‖² and ½·3·‖Δ‖², a quarter and three quarters."""
    update = moved(attached())
    terms = {
        c: Penalty(k, update.changes(), half_squared_distance) for c, k in (("a", 1), ("b", 3))
    }
    controls = Controls(terms)
    for number, wanted in ((0, {}), (1, {"b": 0.75}), (2, {"a": 0.25})):
        controls.accumulate(step(update, trees(2), number), update.parameters())
        norm = gradient(update).norm().item()
        shares = {k[8:9]: v for k, v in controls.metrics(norm).items() if k.endswith("_share")}
        assert shares == pytest.approx(wanted)
    values = controls.metrics(1.0)
    assert values["control/b"] == pytest.approx(3 * values["control/a"])


def test_what_waits_to_be_unfrozen_has_no_part_in_a_share() -> None:
    """A penalty ½‖Δ‖² with nothing beside it is the whole gradient of what trains: 1. Layer 0 and
    the embeddings, which wait, have a gradient until it is taken away."""
    update = moved(attached("full"))
    given = Given(update, None, None, 0, 0, 8, None, None, None)  # type: ignore[arg-type]
    penalty = Penalty(1.0, update.changes(), half_squared_distance)
    controls = Controls({"l2sp": penalty, "unfreeze": Unfreeze(3).prepare(given)})
    at = step(update, trees(2), 1)
    penalty.accumulate(at)
    everything = gradient(update).norm()
    controls.accumulate(at, update.parameters())
    controls.hold(1, update.parameters())
    whole = gradient(update).norm()
    assert controls.metrics(whole.item())["control/l2sp_share"] == pytest.approx(1.0)
    assert everything > 1.1 * whole


@pytest.mark.parametrize(
    ("steps", "measured"),
    [
        (2, {1: "b"}),
        (5, {1: "b", 2: "a", 3: "b", 4: "a"}),
        (60, {1: "a", 3: "b", 8: "a", 10: "b", 12: "a"}),  # one in three
        (1000, {6: "a", 12: "b"}),  # one in ten: behind the first by .618 of ten, then by .236
    ],
)
def test_shares_are_measured_often_in_a_short_run_and_never_at_its_first_step(
    steps: int, measured: dict[int, str]
) -> None:
    """Place ⌊every · (k · .618…mod 1)⌋ of the k-th stretch: of three 1, 0, 2, 1, 0."""
    controls = Controls({"a": Term(), "b": Term()}, steps)
    found = {step: controls.order(step)[1] for step in range(min(steps, 15))}
    assert {step: name for step, name in found.items() if name} == measured


def test_out_of_memory_in_a_term_halves_the_rows_and_changes_nothing() -> None:
    """The step begins anew, the controls with it."""
    ends = []
    for crowded in (False, True):
        model = sgd()
        texts = foreseen(trees(3, seed=5), [16.0] * 8, 0.5, [0])
        term = ReplayTerm(model.scorer, texts)
        model.controls = Controls({"replay": term})
        accumulate = term.accumulate

        def full(at: Any, accumulate: Any = accumulate, model: Any = model) -> float:
            if model.scorer.rows_at_once > 1:
                accumulate(at)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return accumulate(at)

        if crowded:
            term.accumulate = full  # type: ignore[method-assign]
        fit(model)
        ends.append(weights(model))
    assert model.scorer.rows_at_once == 1
    assert (ends[1] - ends[0]).norm() <= 1e-5 * ends[0].norm()


def sgd(**options: Any) -> Any:
    return module(optimizer=functools.partial(torch.optim.SGD, lr=1e-2), **options)


def test_no_terms_is_what_no_controls_are_bit_for_bit() -> None:
    """A control with a coefficient of 0 is left out (commands/protecting.py): no other path."""
    plain, none = module(), module(controls=Controls({}))
    fit(plain, 3)
    fit(none, 3)
    assert torch.equal(weights(plain), weights(none))


def test_a_penalty_in_a_training_holds_the_weights_back() -> None:
    ends = {}
    for coef in (0.0, 30.0):
        model = sgd()
        changes = model.update.changes()
        model.controls = Controls({"l2sp": Penalty(coef, changes, half_squared_distance)})
        trainer = fit(model)
        logged = {name.removeprefix("train/control/") for name in trainer.callback_metrics}
        assert {"l2sp", "l2sp_share"} <= logged
        ends[coef] = sum(c.squared_norm().item() for c in changes)
    assert ends[30.0] < 0.7 * ends[0.0]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_layers_begin_from_the_top_and_the_embeddings_last(method: str) -> None:
    """Two layers, every 3 steps: layer 1 and the last norm from step 0, layer 0 from step 3, the
    embeddings from step 6. What waits does not move, weight decay or not."""
    model = module(method, weight_decay=0.1)
    given = Given(model.update, None, None, 0, 0, 8, None, None, None)  # type: ignore[arg-type]
    model.controls = Controls({"unfreeze": Unfreeze(3).prepare(given)})
    begin = {n: p.detach().clone() for n, p in model.update.parameters()}
    fit(model, 3)
    still = {n for n, p in model.update.parameters() if torch.equal(p, begin[n])}
    waiting = {n for n in begin if "layers.0." in n or "embed" in n}
    assert still - {n for n in still if "lora_A" in n} >= waiting - {
        n for n in waiting if "lora_A" in n
    }
    assert not {n for n in still if "layers.1." in n and "lora_A" not in n}
    term = model.controls.terms["unfreeze"]
    assert [term.begins(f"model.layers.{i}.x") for i in (1, 0)] == [0, 3]
    assert term.begins("model.embed_tokens.weight") == 6 and term.begins("model.norm.weight") == 0


def test_a_share_of_the_steps_is_counted_from_all_of_them() -> None:
    update = attached("full")
    given = Given(update, None, None, 0, 0, 40, None, None, None)  # type: ignore[arg-type]
    term = Unfreeze(0.25).prepare(given)
    assert term.begins("model.layers.0.x") == 10  # type: ignore[attr-defined]
    assert not Unfreeze(0).active
