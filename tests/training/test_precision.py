"""One arithmetic: in every precision, training, references and measurements multiply alike."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from myosotis import updates
from myosotis.models.dtype import Precision, resolve
from myosotis.objectives.preference import DPO
from myosotis.objectives.reference_logprobs import live
from myosotis.training.module import FineTuning
from myosotis.training.optim import Schedule
from myosotis.trees.attention import PackingMode
from myosotis.trees.lm_head import Head
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from tests.tiny import VOCAB, tiny
from tests.training.test_module import fit
from tests.updates.test_methods import SMALL

MIXED = ("full", "norm only", "last layer")  # full tuning keeps its weights in fp32
METHODS = [
    (name, precision)
    for name in SMALL
    for precision in ("bf16-true", "bf16-mixed")
    if name not in ("rslora", "mlp lora", "pfeiffer")  # the code of lora and houlsby
    and (precision == "bf16-mixed" or name not in MIXED)
]


def pairs(count: int) -> list[Tree]:
    """Prompts with a chosen and a rejected answer."""
    generator = torch.Generator().manual_seed(3)

    def draw(n: int) -> list[int]:
        return torch.randint(1, VOCAB, (n,), generator=generator).tolist()

    return [Tree.fork(draw(4 + k % 3), [draw(3), draw(4)]) for k in range(count)]


def setting(method: str, precision: Precision) -> tuple[updates.Update, Scorer]:
    torch.manual_seed(0)
    update = updates.build(SMALL[method])
    update.attach(tiny("llama").to(precision.weights))
    name = "dense" if update.capabilities.packs else "padded"
    backend = PackingMode(name, "test", fast_head=update.capabilities.packs)
    return update, Scorer(update.model, backend, row_tokens=32, products=precision.products)


@pytest.mark.parametrize(("method", "name"), METHODS)
def test_dpo_begins_at_ln_2_and_trains(method: str, name: str) -> None:
    """At step 0 policy and reference are one model in one arithmetic: the margin is exactly 0, the
    loss ln 2. The reference is scored as evaluation does it, the policy as training does."""
    precision = resolve(name, update=SMALL[method]["name"], accelerator="cpu")
    update, scorer = setting(method, precision)
    trees = pairs(3)
    with update.disabled():
        referenced = live(trees, scorer)
    module = FineTuning(
        update,
        DPO(beta=0.1),
        scorer,
        optimizer=functools.partial(torch.optim.AdamW, lr=1e-2),
        schedule=Schedule("constant", 0, 8),
    )
    losses: list[float] = []
    step = module.training_step

    def watched(batch: list[Tree], batch_idx: int) -> object:
        metrics = step(referenced, batch_idx)
        losses.append(metrics["train/loss"])
        return metrics

    module.training_step = watched  # type: ignore[method-assign]
    fit(module, steps=2)
    if update.capabilities.identity_at_init:
        # DoRA divides by norms of the weights, and OSF adds up their singular parts, which rounds:
        # on, they are not the base to the last bit.
        rounding = 5e-3 if method in ("dora", "osf") else 1e-6
        assert losses[0] == pytest.approx(math.log(2), abs=rounding)
    assert all(map(math.isfinite, losses)) and losses[1] != losses[0]
    assert all(p.dtype == torch.float32 for _, p in update.parameters()), "what trains is fp32"
    assert max(score.logp.max() for score in scorer.evaluate(trees)) <= 0
    with update.disabled():
        again = live(trees, scorer)
    for one, two in zip(referenced, again, strict=True):
        assert one.reference is not None and two.reference is not None
        assert (one.reference == two.reference).all(), "off, it is the base to the last bit"


def test_training_scores_as_measuring_does() -> None:
    """With and without gradients, for a head that trains and one that does not."""
    for method, name in (("lora", "bf16-true"), ("lora", "bf16-mixed"), ("full", "bf16-mixed")):
        precision = resolve(name, update=method, accelerator="cpu")
        _, scorer = setting(method, precision)
        trees = pairs(2)
        (batch,) = scorer.batches(trees)
        training = scorer.score(batch).logp_B.tolist()  # in the order of rows, not of trees
        measured = [float(x) for score in scorer.evaluate(trees) for x in score.logp]
        assert sorted(training) == sorted(measured), (method, name)


def test_products_are_bf16_where_asked_and_sums_are_not() -> None:
    """fp32 weights under bf16 products: hidden states in bf16, logits and log-probs in fp32, and
    not those of fp32 products."""
    exact = setting("lora", resolve("32-true", update="lora", accelerator="cpu"))[1]
    mixed = setting("lora", resolve("bf16-mixed", update="lora", accelerator="cpu"))[1]
    trees = pairs(2)
    (batch,) = mixed.batches(trees)
    hidden, head = mixed.predictor(batch)
    assert isinstance(head, Head)
    narrow = hidden.to(torch.bfloat16)
    assert head(hidden).dtype == torch.float32
    assert torch.equal(
        head(hidden), narrow.float() @ head.linear.weight.to(torch.bfloat16).float().T
    )
    one, two = exact.score(batch).logp_B, mixed.score(batch).logp_B
    assert two.dtype == torch.float32
    assert 0 < (one - two).abs().max() < 1


def test_the_name_of_a_precision_is_the_key_of_what_is_cached() -> None:
    names = {
        resolve(name, update="lora", accelerator="cpu").name
        for name in ("32-true", "bf16-true", "bf16-mixed")
    }
    assert names == {"float32", "bfloat16", "float32, products in bfloat16"}
