"""Harder pairs: the base says which wrong answer is hardest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.datamodule import ExampleModule
from myosotis.data.example import Dataset
from myosotis.data.label_template import RewardRenderer
from myosotis.data.sft import Example, Message
from myosotis.data.tokenize import encode
from myosotis.objectives.hard_negatives import hardened
from myosotis.objectives.reference_logprobs import referenced
from myosotis.trees.tree import Tree
from tests.retention.small import byte_tokenizer, tiny_scorer

TEMPLATE = ChatRenderer(byte_tokenizer(), "none")
ABOUT = {"model": "tiny", "dtype": "float64", "what": "train"}


def pair(number: int, *rivals: str) -> Example:
    messages = Message("user", f"add {number}"), Message("assistant", f"it is {number + 1}")
    return Example(messages, f"line {number}", rejected=rivals[0], rivals=rivals)


GIVEN = [
    pair(1, "no", "it is one less", "zzz zzz zzz zzz"),
    pair(2, "a", "bb", "ccc"),
    pair(3, "x" * 300, "y"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path))


def test_the_likeliest_wrong_answer_is_the_one_to_reject() -> None:
    """By the mean over an answer's tokens, each asked alone; the references are the base's own."""
    scorer = tiny_scorer()
    encoded = encode(GIVEN[:2], TEMPLATE, max_length=128)
    found = hardened(encoded, TEMPLATE, scorer, **ABOUT)
    for example, tree, given in zip(found.examples, found.trees, GIVEN, strict=False):
        alone = [Tree.of([TEMPLATE.render(given.answered(text))]) for text in given.rivals]
        means = [float(s.logp[0] / s.weight[0]) for s in scorer.evaluate(alone)]
        assert example.rejected == given.rivals[int(np.argmax(means))]
        assert example.rivals == () and example.completion == given.completion
        plain = Tree.of([TEMPLATE.render(e) for e in (example, example.answered(example.rejected))])
        assert tree.ids.tolist() == plain.ids.tolist()
        (wanted,) = referenced([plain], scorer, **ABOUT)
        np.testing.assert_allclose(tree.reference, wanted.reference, rtol=1e-9)
    assert {e.rejected for e in found.examples} != {e.rejected for e in GIVEN[:2]}


def test_rivals_that_do_not_fit_are_no_candidates() -> None:
    encoded = encode([replace(GIVEN[2], rejected="y")], TEMPLATE, max_length=64)
    (example,) = hardened(encoded, TEMPLATE, tiny_scorer(), **ABOUT).examples
    assert example.rejected == "y"
    none = encode([pair(4, "z" * 200)], TEMPLATE, max_length=64, overlong="truncate")
    same = hardened(none, TEMPLATE, tiny_scorer(), **ABOUT)
    assert same.examples == none.examples and same.trees == none.trees


def test_for_a_reward_model_the_trees_ask_for_numbers() -> None:
    template = RewardRenderer(byte_tokenizer(), "none")
    found = hardened(encode(GIVEN[:2], template, max_length=128), template, tiny_scorer(), **ABOUT)
    text = hardened(encode(GIVEN[:2], TEMPLATE, max_length=128), TEMPLATE, tiny_scorer(), **ABOUT)
    assert [e.rejected for e in found.examples] == [e.rejected for e in text.examples]
    assert all(tree.reference is None and tree.sizes.tolist() == [1, 1] for tree in found.trees)


def test_the_data_set_holds_what_was_chosen() -> None:
    dataset = Dataset("mine", list(GIVEN), [GIVEN[0]], [GIVEN[1]]).sealed()
    before = dataset.manifest["hash"]
    module = ExampleModule(dataset, TEMPLATE, batch_size=2, max_length=64)
    module.setup()
    scorer = tiny_scorer()
    module = module.with_examples(
        {
            part: hardened(encoded, TEMPLATE, scorer, **{**ABOUT, "what": part})
            for part, encoded in module.encoded.items()
        }
    )
    assert [len(part) for part in module.dataset.parts().values()] == [3, 1, 1]
    assert module.dataset.train[:2] == module.encoded["train"].examples
    assert module.dataset.train[2] == GIVEN[2]  # too long: dropped, and still there
    assert module.dataset.manifest["hash"] != before
    assert module.dataset.manifest["rows"] == {"train": 3, "validation": 1, "test": 1}
