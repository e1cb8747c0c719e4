"""The invariants of the one road: packed equals padded, and nothing leaks
(docs/architecture.md)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from myosotis.trees import block_attention
from myosotis.trees.attention import PackingMode
from myosotis.trees.lm_head import Head
from myosotis.trees.packing_check import probe
from myosotis.trees.scorer import Scorer, body
from myosotis.trees.tree import Path, Tree
from tests.tiny import CONFIGS, PACKS, VOCAB, tiny

DENSE = PackingMode("dense", "test")
PADDED = PackingMode("padded", "test", fast_head=False)


def shapes() -> dict[str, list[Tree]]:
    """Every shape of tree the product makes."""
    generator = torch.Generator().manual_seed(1)

    def draw(n: int) -> list[int]:
        return torch.randint(1, VOCAB, (n,), generator=generator).tolist()

    stem = draw(5)
    shots = [stem + draw(3), stem + draw(4)]
    turns = draw(30)
    return {
        "instruction": [Tree.fork(draw(9), [draw(7)])],
        "preference": [Tree.fork(draw(6), [draw(8), draw(3)])],
        "choices": [Tree.fork(draw(11), [draw(n) for n in (4, 1, 6, 2)])],
        "few-shot": [
            Tree.of(
                Path(ids, [0.0] * 8 + [1.0] * (len(ids) - 8))
                for shot in shots
                for ids in (shot + draw(4), shot + draw(2))
            )
        ],
        "several turns": [Tree.of([Path(turns, ([0.0] * 5 + [1.0] * 5) * 3)])],
        "rolling": [Tree.of([Path(turns, [0.0] + [1.0] * 29)])],
        "one is the start of the other": [Tree.fork(stem, [turns[:4], turns[:9]])],
        "many": [Tree.fork(draw(3 + n), [draw(2 + n % 5)]) for n in range(12)],
    }


def behind_one_prompt() -> list[Tree]:
    """All shapes of tree behind the same ten tokens: a row reads those once."""
    return [
        Tree.of(Path([*range(1, 11), *p.ids], [*[0.0] * 10, *p.weights]) for p in tree.paths())
        for group in shapes().values()
        for tree in group
    ]


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize("row_tokens", [16, 64, 512])
def test_packed_equals_padded_for_every_shape(name: str, row_tokens: int) -> None:
    model = tiny(name, torch.float64)
    trees = [tree for group in shapes().values() for tree in group]
    reference = Scorer(model, PADDED, rows_at_once=4).evaluate(trees)
    packed = Scorer(model, DENSE, row_tokens=row_tokens, rows_at_once=2).evaluate(trees)
    for a, b in zip(packed, reference, strict=True):
        assert abs(a.logp - b.logp).max() <= 1e-9  # float64
        assert (a.weight == b.weight).all()
        assert (a.greedy == b.greedy).all()


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize("call", [0, 50, block_attention.CALL])
def test_attention_by_blocks_is_attention(
    name: str, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores and gradients, cut wherever it can be cut, where it pays, and not at all."""
    monkeypatch.setattr(block_attention, "CALL", call)
    model = tiny(name, torch.float64)
    trees = behind_one_prompt()
    padded, packed = Scorer(model, PADDED), Scorer(model, DENSE, row_tokens=90, rows_at_once=2)
    for a, b in zip(packed.evaluate(trees), padded.evaluate(trees), strict=True):
        assert abs(a.logp - b.logp).max() <= 1e-9
    reference = gradient(padded, trees)
    assert (gradient(packed, trees) - reference).norm() / reference.norm() <= 1e-6


def test_scores_are_the_models_own_log_probs() -> None:
    """Against a plain forward pass and `log_softmax`, without any of our machinery."""
    model = tiny("llama", torch.float64)
    prompt, answer = [5, 6, 7, 8], [9, 10, 11]
    with torch.no_grad():
        logp = model(torch.tensor([prompt + answer])).logits.log_softmax(-1)[0]
    expected = sum(logp[3 + k, token].item() for k, token in enumerate(answer))
    (score,) = Scorer(model, DENSE).evaluate([Tree.fork(prompt, [answer])])
    assert score.logp[0] == pytest.approx(expected, abs=1e-10)
    assert score.weight[0] == 3


def test_greedy_marks_the_continuation_the_model_would_write() -> None:
    model = tiny("llama")
    prompt = torch.tensor([[5, 6, 7, 8]])
    ids = model.generate(prompt, max_new_tokens=3, do_sample=False)[0].tolist()
    other = [*ids[4:6], (ids[6] + 1) % VOCAB]
    (score,) = Scorer(model, DENSE).evaluate([Tree.fork(ids[:4], [ids[4:], other])])
    assert score.greedy.tolist() == [True, False]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_probe_packs_where_that_is_exact_and_only_there(name: str) -> None:
    backend = probe(tiny(name))
    assert backend.name == ("dense" if name in PACKS else "padded"), backend.reason
    assert backend.fast_head


def test_the_probe_finds_a_mask_that_ignores_the_window() -> None:
    """A model whose mask we would build without its window is wrong only beyond the window."""
    model = tiny("mistral")
    model.config.layer_types = ["full_attention"] * 2  # a lie: the mask comes out unwindowed
    backend = probe(model)
    assert backend.name == "padded"
    assert "differ" in backend.reason


def test_the_probe_refuses_a_head_it_does_not_know() -> None:
    model = tiny("llama")
    model.lm_head.register_forward_hook(lambda *_: None)
    original = model.forward
    model.forward = lambda *a, **k: _doubled(original(*a, **k))
    backend = probe(model)
    assert not backend.fast_head
    assert backend.name == "dense"


def _doubled(output: object) -> object:
    output.logits = output.logits * 2  # type: ignore[attr-defined]
    return output


def test_the_probe_leaves_no_trace() -> None:
    model = tiny("mistral").train()
    model.model.layers[0].eval()
    model.config.sliding_window = 100
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rng = torch.get_rng_state()
    probe(model)
    assert model.training and not model.model.layers[0].training
    assert model.config.sliding_window == 100
    assert torch.equal(rng, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def gradient(scorer: Scorer, trees: list[Tree]) -> torch.Tensor:
    """Of the loss of one step: minus the sum of log-probs over the number of scored tokens."""
    scorer.model.zero_grad()
    total = sum(tree.scored for tree in trees)
    for batch in scorer.batches(trees):
        (-scorer.score(batch).logp_B.sum() / total).backward()
    return torch.cat([p.grad.flatten() for p in scorer.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_gradient_of_a_step_does_not_depend_on_packing(name: str) -> None:
    model = tiny(name, torch.float64)
    trees = [tree for group in shapes().values() for tree in group]
    reference = gradient(Scorer(model, PADDED, rows_at_once=1), trees)
    ways = [(PADDED, 512, 5)]
    if name in PACKS:
        ways += [(DENSE, 512, 1), (DENSE, 64, 3), (DENSE, 16, 2)]
    for backend, row_tokens, rows_at_once in ways:
        scorer = Scorer(model, backend, row_tokens=row_tokens, rows_at_once=rows_at_once)
        found = gradient(scorer, trees)
        assert (found - reference).norm() / reference.norm() <= 1e-6  # norms are fp32 inside


def test_the_head_runs_at_scored_positions_only() -> None:
    model = tiny("llama")
    seen: list[int] = []
    model.lm_head.register_forward_hook(lambda _m, args, _o: seen.append(args[0].shape[0]))
    Scorer(model, DENSE).evaluate([Tree.fork(list(range(1, 41)), [[5, 6, 7], [8, 9]])])
    assert sum(seen) == 4  # 3 + 2 tokens; the first of both is predicted from the same position


def test_vocabulary_mean_for_label_smoothing() -> None:
    model = tiny("llama", torch.float64)
    with torch.no_grad():
        logp = model(torch.tensor([[5, 6, 7]])).logits.log_softmax(-1)[0]
    scorer = Scorer(model, DENSE)
    (batch,) = scorer.batches([Tree.fork([5], [[6, 7]])])
    branches = scorer.score(batch, uniform=True)
    assert branches.uniform_B is not None
    assert branches.uniform_B.item() == pytest.approx(logp[:2].mean(-1).sum().item(), abs=1e-10)


def test_fast_head_knows_soft_capping() -> None:
    model = tiny("gemma3")
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        expected = model(ids).logits
        found = Head(model)(body(model)(ids).last_hidden_state)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("padded", "wanted"),
    [
        # Rows of 4, 2, 2, 6 and 1 tokens, 8 together. Padded: two rows of 4; a third would make 12.
        (True, [[4, 2], [2], [6], [1]]),
        (False, [[4, 2, 2], [6, 1]]),
    ],
)
def test_a_pass_holds_a_budget_of_tokens(padded: bool, wanted: list[list[int]]) -> None:
    """Padding counted: short rows go together, and a long one beside a short one costs two."""
    from myosotis.trees.scorer import _at_once

    groups: Any = [[[range(n)]] for n in (4, 2, 2, 6, 1)]
    found = [[len(row[0]) for row in rows] for rows in _at_once(groups, 8, padded=padded)]
    assert found == wanted
    (alone,) = _at_once([[[range(20)]]], 8, padded=padded)  # type: ignore[arg-type]
    assert len(alone) == 1


def test_training_and_evaluation_count_their_rows_apart() -> None:
    """An evaluation that runs out of memory begins anew with half as much, and changes no score."""
    model = tiny("llama")
    trees = shapes()["many"]
    scorer = Scorer(model, DENSE, row_tokens=40, rows_at_once=4)
    wanted = scorer.evaluate(trees)
    scorer.rows_at_once = 1
    score, sizes = scorer.score, list[int]()

    def crowded(batch: Any, **options: Any) -> Any:
        sizes.append(batch.ids_RL.shape[0])
        if batch.ids_RL.numel() > 80:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return score(batch, **options)

    scorer.score = crowded  # type: ignore[method-assign]
    found = scorer.evaluate(trees)
    assert sizes[0] > 2 and scorer.evaluated_at_once == 2 and scorer.rows_at_once == 1
    for one, other in zip(found, wanted, strict=True):
        assert abs(one.logp - other.logp).max() <= 1e-5
    scorer.evaluated_at_once = 4
    for by_token, other in zip(scorer.evaluate_tokens(trees), wanted, strict=True):
        assert abs(by_token.sum(-1) - other.logp).max() <= 1e-5
    assert scorer.evaluated_at_once == 2 and scorer.rows_at_once == 1
