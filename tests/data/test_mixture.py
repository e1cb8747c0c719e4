"""Several sources as one: a pure function of (seed, epoch, step); shares hold at every step."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.datamodule import ExampleModule, StepLoader
from myosotis.data.mixture import Mixture, Order
from myosotis.data.sources import files
from myosotis.trees.tree import Tree
from myosotis.utils.errors import ConfigError, DataError


def names(counts: dict[str, int]) -> list[str]:
    return [name for name, count in counts.items() for _ in range(count)]


def test_counts_by_hand() -> None:
    """Shares of 3/4 and 1/4 of 60 and 40: the first is used up after 80 (60 and 20), the last after
    160 (120 and 40). By size to the power of 1/2, 90 and 10 become 3/4 and 1/4: 40 of them use
    the ten up."""
    sizes = {"a": 60, "b": 40}
    assert Mixture({"a": 3, "b": 1}).counts(sizes) == {"a": 60, "b": 20}
    assert Mixture({"a": 3, "b": 1}, stop="last").counts(sizes) == {"a": 120, "b": 40}
    assert Mixture().counts(sizes) == sizes == Mixture(stop="last").counts(sizes)
    assert Mixture(temperature=2).counts({"a": 90, "b": 10}) == {"a": 30, "b": 10}


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 40), min_size=1),
    st.lists(st.floats(0.01, 10), min_size=4, max_size=4),
    st.sampled_from(["first", "last"]),
    st.integers(0, 5),
)
def test_an_epoch_holds_each_source_by_its_share(
    sizes: dict[str, int], weights: list[float], stop: Any, epoch: int
) -> None:
    mixture = Mixture(dict(zip(sizes, weights, strict=False)), stop=stop)
    sources = names(sizes)
    order = Order(sources, 3, mixture)
    seen = order.of(epoch)
    assert len(seen) == len(order) == sum(order.counts.values())
    assert Counter(sources[i] for i in seen) == Counter(order.counts)
    uses = Counter(seen)
    for name in sizes:
        own = [uses[i] for i, source in enumerate(sources) if source == name]
        assert max(own) - min(own) <= 1, "nothing a second time before all were once"
        if stop == "first":
            assert max(own) <= 1
    assert order.of(epoch) == Order(sources, 3, mixture).of(epoch)


def test_every_step_holds_the_mixture() -> None:
    """Of 3:1 in steps of 8, each has six and two, to within one."""
    order = Order(names({"a": 300, "b": 100}), 0, Mixture({"a": 3, "b": 1})).of(2)
    for start in range(0, 400, 8):
        step = order[start : start + 8]
        assert abs(sum(i < 300 for i in step) - 6) <= 1


def test_epochs_and_seeds_differ() -> None:
    sources, mixture = names({"a": 30, "b": 30}), Mixture({"a": 1, "b": 1})
    first, second = Order(sources, 0, mixture).of(0), Order(sources, 0, mixture).of(1)
    assert first != second and first != Order(sources, 1, mixture).of(0)
    paired = [i + 30 for i in first if i < 30]
    assert paired != [i for i in first if i >= 30], "sources of one size are shuffled apart"


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, count: int, **more: Any) -> Path:
        lines = [{"prompt": f"{name} {i}", "completion": f"{i}", **more} for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return tmp_path / f"{name}.jsonl"

    return write


def module(tokenizer: PreTrainedTokenizerFast, **words: Any) -> ExampleModule:
    made = ExampleModule(
        files(**words), ChatRenderer(tokenizer), batch_size=4, max_length=99, seed=5
    )
    made.setup()
    return made


def steps(made: ExampleModule, **where: Any) -> list[list[list[int]]]:
    loader = StepLoader(made.train_trees, made.batch_size, made.seed, order=made.order(), **where)
    return [[tree.ids.tolist() for tree in batch] for batch in loader]


@pytest.mark.parametrize("weights", [(1, 0), (0, 1)])
def test_weights_of_one_and_nought_are_one_source_bit_for_bit(
    weights: tuple[int, int], file: Callable[..., Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    paths = [file("a", 40), file("b", 50)]
    listed = [{"path": str(p), "weight": w} for p, w in zip(paths, weights, strict=True)]
    alone = module(tokenizer, path=paths[weights.index(1)])
    mixed = module(tokenizer, sources=listed)
    assert mixed.dataset.manifest["hash"] == alone.dataset.manifest["hash"]
    assert mixed.steps_per_epoch == alone.steps_per_epoch
    for done in (0, 3, 9, 14):
        assert steps(mixed, position=lambda n=done: n) == steps(alone, position=lambda n=done: n)
    assert [e.where for e in mixed.test_examples] == [e.where for e in alone.test_examples]
    assert "of weight 0, and not read" in mixed.warnings()[0]


@given(st.integers(1, 9), st.integers(0, 60), st.integers(1, 4))
def test_it_goes_on_at_any_step_on_any_number_of_ranks(
    batch_size: int, done: int, ranks: int
) -> None:
    trees = [Tree.fork([1, 2], [[3]])] * 24
    order = Order(names({"a": 16, "b": 8}), 1, Mixture({"a": 1, "b": 1}, stop="last"))

    def loader(**where: Any) -> StepLoader:
        return StepLoader(trees, batch_size, 1, order=order, **where)

    def numbers(step: list[Tree]) -> list[int]:
        return [tree.example for tree in step]

    whole = loader()
    epoch, first = divmod(done, len(whole))
    rest = [numbers(step) for step in loader(position=lambda: done)]
    assert rest == [numbers(whole.step(epoch, i)) for i in range(first, len(whole))]
    shares = [loader(rank=rank, world_size=ranks).step(epoch, first) for rank in range(ranks)]
    assert sorted(itertools.chain(*map(numbers, shares))) == sorted(
        numbers(whole.step(epoch, first))
    )


def test_sources_are_told_apart_and_held_out_together(
    file: Callable[..., Path], tokenizer: PreTrainedTokenizerFast
) -> None:
    """Of 200 and 100 a tenth is held out in halves; what is measured first holds both."""
    a, b = file("a", 200), file("b", 100)
    made = module(
        tokenizer, sources=[{"path": str(a)}, {"path": str(b), "name": "second", "items": 20}]
    )
    assert {e.source for e in made.dataset.train} == {"a.jsonl", "second"}
    assert sum(e.source == "second" for e in made.dataset.train) == 20
    assert [len(made.dataset.validation), len(made.dataset.test)] == [15, 15]
    assert len({e.source for e in made.dataset.test[:5]}) == 2
    train = {e.messages[0].content for e in made.dataset.train}
    assert not train & {e.messages[0].content for e in made.dataset.test}
    assert [f["name"] for f in made.dataset.manifest["files"]] == ["a.jsonl", "b.jsonl"]


def test_a_source_may_have_fields_of_its_own(file: Callable[..., Path], tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("ask,say\n" + "".join(f"q{i},a{i}\n" for i in range(20)))
    fields = {"prompt": "ask", "completion": "say"}
    data = files(sources=[{"path": str(file("a", 20))}, {"path": str(other), "fields": fields}])
    assert {e.source for e in data.train} == {"a.jsonl", "other.csv"}
    assert [f["unused"] for f in data.manifest["files"]] == [{}, {}]


@pytest.mark.parametrize(
    ("sources", "told"),
    [
        (["a.jsonl"], r"data.sources\[0\] is 'a.jsonl'"),
        ([{"pth": "a"}], r"data.sources\[0\] has no key 'pth'"),
        ([{"weight": 1}], "needs a path or a hub"),
        ([{"path": "a", "weight": -1}], r"weight=-1"),
        ([{"path": "a", "weight": True}], r"weight=True"),
        ([{"path": "a", "items": 0}], r"items=0"),
        ([{"path": "a"}, {"path": "x/a"}], "two of data.sources are called 'a'"),
        ([{"path": "a", "weight": 1}, {"path": "b"}], "the source 'b' has no weight"),
        ([{"path": "a", "weight": 0}], "every one of data.sources has weight 0"),
        ([{"hub": {"split": "x"}}], "as in hub|hub="),
    ],
)
def test_what_is_no_list_of_sources(sources: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        files(sources=sources)


def test_settings_that_mean_nothing(file: Callable[..., Path]) -> None:
    path = str(file("a", 20))
    weighed = [{"path": path, "weight": 1}]
    cases: list[tuple[dict[str, Any], str]] = [
        ({"path": path, "mixture": {"stop": "last"}}, "data.mixture.stop is set"),
        ({"path": path, "sources": weighed}, "both data.sources and data.path"),
        ({"sources": weighed, "mixture": {"stop": "never"}}, "data.mixture.stop=never"),
        ({"sources": weighed, "mixture": {"temperature": 2}}, "sources have weights"),
        ({"sources": [{"path": path}], "mixture": {"temperature": 0}}, "temperature=0"),
    ]
    for words, told in cases:
        with pytest.raises(ConfigError, match=told):
            files(**words)


def test_a_source_of_which_nothing_fits_is_named(
    file: Callable[..., Path], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    long = tmp_path / "long.jsonl"
    lines = [{"prompt": f"{i} " * 200, "completion": "x"} for i in range(20)]
    long.write_text("\n".join(map(json.dumps, lines)))
    made = module(tokenizer, sources=[{"path": str(file("a", 20))}, {"path": str(long)}])
    with pytest.raises(DataError, match=r"the source 'long.jsonl' has no training example left"):
        made.order()
