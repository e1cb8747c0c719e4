"""Task quality: scores an example at a time, and the few-shot baseline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from myosotis.data import few_shot
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example, Message
from myosotis.evaluation import task_metrics, text_scores
from myosotis.evaluation.evaluator import WATCHED, Evaluator
from myosotis.evaluation.ranked_labels import labels_of, ranked
from myosotis.evaluation.task_metrics import Attempts
from myosotis.objectives.sft import SFT
from myosotis.retention.benchmarks.task import Suite
from myosotis.rewards.rules import ExactMatch
from myosotis.rewards.together import Rewards
from myosotis.trees.packing_check import probe
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Path, Tree
from myosotis.utils.errors import ConfigError, DataError
from tests.tiny import VOCAB, tiny

CHAT = (
    "{% for m in messages %}{{ '<s>' + m['role'][0] + ':' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>a:' }}{% endif %}"
)


def ask(question: str, answer: str, system: str | None = None) -> Example:
    turns = (Message("user", question), Message("assistant", answer))
    return Example((Message("system", system), *turns) if system else turns, question)


EXAMPLES = [
    ask("one", "1"),
    ask("twenty two", "twenty-two is it", system="count"),
    ask("what?", "nothing"),
]
SHOTS = [ask("ten", "10", system="shout"), ask("six", "6")]


def make_template(chat: bool = True) -> ChatRenderer:
    """One character a token."""
    names = ["<pad>", "<s>", "</s>", *(chr(32 + i) for i in range(VOCAB - 3))]
    core = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = CHAT if chat else None
    return ChatRenderer(tokenizer, "chat" if chat else "none")


@pytest.fixture(scope="module", params=[True, False], ids=["chat", "none"])
def template(request: pytest.FixtureRequest) -> ChatRenderer:
    return make_template(request.param)


def scorer_of(name: str = "llama") -> Scorer:
    model = tiny(name)
    return Scorer(model, probe(model), row_tokens=64)


def logp(model: torch.nn.Module, path: Path) -> tuple[float, float]:
    """Sum of log-probs of the scored tokens and their number, one path in one plain forward."""
    ids = torch.tensor([list(path.ids)])
    with torch.no_grad():
        table = model(input_ids=ids).logits[0].log_softmax(-1)
    found = [table[i - 1, path.ids[i]].item() for i, w in enumerate(path.weights) if w]
    return sum(found), len(found)


def test_loglik_by_hand() -> None:
    """Each example's mean over its own scored tokens; the mean of those, not of all tokens."""
    template, scorer = make_template(), scorer_of()
    paths = [template.render(example) for example in EXAMPLES]
    found = task_metrics.loglik(scorer, [Tree.of([path]) for path in paths])
    sums = [logp(scorer.model, path) for path in paths]
    expected = [total / n for total, n in sums]
    assert found.scores.dtype == np.float64
    np.testing.assert_allclose(found.scores, expected, atol=1e-5)
    assert found.mean == pytest.approx(sum(expected) / 3, abs=1e-5)
    pooled = sum(total for total, _ in sums) / sum(n for _, n in sums)
    assert abs(found.mean - pooled) > 1e-3
    assert (found.metric, found.higher_is_better, found.unit) == ("loglik", True, "nats per token")
    # Several examples in one tree count as several examples.
    np.testing.assert_allclose(
        task_metrics.loglik(scorer, [Tree.of(paths)]).scores, expected, atol=1e-5
    )


def test_rouge_l_by_hand() -> None:
    """Longest common subsequence of words: 2 of 3 and 2 of 4 words give F1 = 2·2/(3+4) = 4/7."""
    texts = ["the cat sat", "the same words", "", "nothing shared", "B a"]
    references = ["the dog now sat", "the same words", "words", "at all", "a b"]
    expected = [4 / 7, 1.0, 0.0, 0.0, 0.5]
    np.testing.assert_allclose(text_scores.rouge("rougeL")(texts, references), expected)


def test_chrf_by_hand() -> None:
    """chrF2 of "ab" for "abc": 1-grams P 1, R 2/3; 2-grams P 1, R 1/2; the text has no 3-grams.

    sacreBLEU averages over the orders that both have: P 1, R 7/12, and
    F2 = 5PR / (4P + R) = (35/12) / (55/12) = 7/11.
    """
    found = text_scores.chrf(["ab", "same", "xyz"], ["abc", "same", "abc"])
    np.testing.assert_allclose(found, [100 * 7 / 11, 100.0, 0.0], atol=1e-6)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.randoms())
def test_text_metrics_stay_in_range_and_pair_up(texts: list[str], random: object) -> None:
    references = list(texts)
    random.shuffle(references)  # type: ignore[attr-defined]
    for name, top in (("rougeL", 1.0), ("chrf", 100.0)):
        found = task_metrics.compare(name, texts, references)
        assert found.scores.shape == (len(texts),)
        assert ((found.scores >= 0) & (found.scores <= top + 1e-9)).all()


def test_measure_generates_once_and_leaves_the_model_alone() -> None:
    template, scorer = make_template(), scorer_of()
    scorer.model.train()
    calls: list[int] = []
    found = task_metrics.measure(
        ["loglik", "rougeL", "chrf"], scorer, template, EXAMPLES, advance=calls.append
    )
    assert list(found) == ["loglik", "rougeL", "chrf"]
    assert sum(calls) == 2 * len(EXAMPLES)
    assert found["rougeL"].texts == found["chrf"].texts
    assert found["rougeL"].references == ["1", "twenty-two is it", "nothing"]
    assert all(len(q.scores) == len(EXAMPLES) for q in found.values())
    assert found["loglik"].texts == []
    assert scorer.model.training
    before = scorer.forwards
    task_metrics.measure(["chrf"], scorer, template, EXAMPLES)
    assert scorer.forwards == before, "log-likelihoods scored that nobody asked for"


def test_a_perfect_answer_is_perfect() -> None:
    """The base's own greedy answers as references: every metric of text is at its top."""
    template, scorer = make_template(), scorer_of()
    texts = task_metrics.answers(scorer, template, EXAMPLES, max_new_tokens=6)
    own = [ask(e.messages[-2].content, t) for e, t in zip(EXAMPLES, texts, strict=True)]
    own = [
        Example((*e.messages[:-1], Message("assistant", t)), e.where)
        for e, t in zip(EXAMPLES, texts, strict=True)
    ]
    found = task_metrics.measure(["chrf"], scorer, template, own, max_new_tokens=6)["chrf"]
    assert found.texts == texts
    np.testing.assert_allclose(found.scores[[bool(t.strip()) for t in texts]], 100.0)


def test_longest_answer() -> None:
    template = make_template()
    assert task_metrics.longest_answer(template, EXAMPLES) == len("twenty-two is it") + 1
    assert (
        task_metrics.longest_answer(template, [ask("x", "y" * 999)]) == task_metrics.LONGEST_ANSWER
    )


def test_unknown_metrics_are_named() -> None:
    with pytest.raises(ConfigError, match="Did you mean rougeL"):
        task_metrics.metric("rougel")
    with pytest.raises(ConfigError, match="Known: accuracy, best_of_k, bleu, chrf"):
        task_metrics.metric("zzz")
    with pytest.raises(ConfigError, match="does not compare texts"):
        task_metrics.compare("loglik", [], [])


# The base prompted with k examples.


def test_few_shot_prompt_of_a_chat() -> None:
    """The shots are turns before the question, read only; one system message, the example's."""
    template = make_template()
    path = template.render(few_shot.few_shot_prompt(EXAMPLES[1], SHOTS, template))
    text = "".join(template.tokenizer.convert_ids_to_tokens(path.ids))
    assert text == (
        "<s>s:count</s><s>u:ten</s><s>a:10</s><s>u:six</s><s>a:6</s>"
        "<s>u:twenty two</s><s>a:twenty-two is it</s>"
    )
    assert scored(template, path) == "twenty-two is it</s>"


def test_few_shot_prompt_of_plain_text() -> None:
    template = make_template(chat=False)
    example = few_shot.few_shot_prompt(EXAMPLES[0], [ask("six", "6"), ask("ten", "10")], template)
    assert example.messages[0].content == "six6\n\nten10\n\none"
    path = template.render(example)
    assert scored(template, path) == "1</s>"


def scored(template: ChatRenderer, path: Path) -> str:
    ids = [i for i, w in zip(path.ids, path.weights, strict=True) if w]
    return "".join(template.tokenizer.convert_ids_to_tokens(ids))


def test_no_shots_is_the_example_itself(template: ChatRenderer) -> None:
    example = Example(EXAMPLES[0].messages, "x", completion_only=False)
    alone = few_shot.few_shot_prompt(example, [], template)
    assert alone.messages == example.messages
    assert scored(template, template.render(alone)) == "1</s>"


def test_few_shot_trees_share_the_shots_and_score_the_same_tokens() -> None:
    template, scorer = make_template(), scorer_of()
    examples = [EXAMPLES[0], EXAMPLES[2], ask("and now", "this")] * 3
    trees, used = few_shot.few_shot_trees(template, examples, SHOTS, max_length=128, together=4)
    assert used == [2] * 9
    assert [len(tree.leaves) for tree in trees] == [4, 4, 1]
    paths = [template.render(few_shot.few_shot_prompt(e, SHOTS, template)) for e in examples]
    assert len(trees[0]) < sum(len(path.ids) for path in paths[:4])
    expected = [total / n for total, n in (logp(scorer.model, path) for path in paths)]
    np.testing.assert_allclose(task_metrics.loglik(scorer, trees).scores, expected, atol=1e-5)


def test_the_loss_while_training_is_that_of_the_first_examples() -> None:
    """The mean over all scored tokens of the first 64, by a plain forward of each alone; further
    ones do not count, and without a validation part there is none."""
    template, scorer = make_template(), scorer_of()
    rng = np.random.default_rng(0)
    paths = [
        Path(rng.integers(3, VOCAB, 6).tolist(), [0, 0, 0, *(1 for _ in range(3))])
        for _ in range(WATCHED + 8)
    ]
    asked = Evaluator(Suite((), 0, ""), template, [], [], validation=[Tree.of([p]) for p in paths])
    sums = [logp(scorer.model, path)[0] for path in paths]
    found = asked.held_out(scorer, SFT())
    assert found["loss"] == pytest.approx(-sum(sums[:WATCHED]) / (3 * WATCHED), rel=1e-5)
    asked.validation = []
    assert asked.held_out(scorer, SFT()) == {}


def test_few_shot_trees_drop_shots_that_do_not_fit() -> None:
    template = make_template()
    long = ask("q" * 40, "answer")  # 3 + 40 + 1 + 3 + 6 + 1 = 54 tokens alone
    trees, used = few_shot.few_shot_trees(template, [EXAMPLES[0], long], SHOTS, max_length=70)
    assert used == [2, 1]  # a shot takes 3 + 3 + 1 + 3 + (1 or 2) + 1 = 12 or 13 tokens
    assert max(tree.longest for tree in trees) <= 70
    trees, used = few_shot.few_shot_trees(template, [long], SHOTS, max_length=50)
    assert used == [0]
    (path,) = trees[0].paths()
    assert len(path.ids) == 50
    assert scored(template, path) == "ans"


def test_choose_shots() -> None:
    examples = [ask(str(i), str(i)) for i in range(50)]
    assert few_shot.choose_shots(examples, 4, seed=1) == few_shot.choose_shots(examples, 4, seed=1)
    assert few_shot.choose_shots(examples, 4, seed=1) != few_shot.choose_shots(examples, 4, seed=2)
    assert len(set(few_shot.choose_shots(examples, 4))) == 4
    assert len(few_shot.choose_shots(examples[:2], 4)) == 2


def test_an_instruction_stands_in_the_place_of_the_system_turn() -> None:
    template = make_template()
    example = Example((Message("system", "be long"), *EXAMPLES[0].messages), "x")
    told = few_shot.instructed(example, "be short", template)
    assert [(m.role, m.content) for m in told.messages[:2]] == [
        ("system", "be short"),
        ("user", EXAMPLES[0].messages[0].content),
    ]


def test_every_question_has_examples_of_its_own() -> None:
    """Neighbours with the same ones share them; the scores are those of each alone."""
    template, scorer = make_template(), scorer_of()
    examples, own = [EXAMPLES[0], EXAMPLES[2], EXAMPLES[0]], [ask("six", "6")]
    shots = [SHOTS, SHOTS, own]
    trees, used = few_shot.trees_of_each(template, examples, shots, max_length=128)
    assert used == [2, 2, 1] and [len(tree.leaves) for tree in trees] == [2, 1]
    paths = [
        template.render(few_shot.few_shot_prompt(e, s, template))
        for e, s in zip(examples, shots, strict=True)
    ]
    expected = [total / n for total, n in (logp(scorer.model, path) for path in paths)]
    np.testing.assert_allclose(task_metrics.loglik(scorer, trees).scores, expected, atol=1e-5)


def test_labels_are_ranked_by_their_whole_probability() -> None:
    """Each label with the end of its turn, against one plain pass each."""
    template, scorer = make_template(), scorer_of()
    labels = labels_of([ask("a", "yes"), ask("b", "no"), ask("c", "perhaps"), ask("d", "no ")])
    assert labels == ["no", "perhaps", "yes"]
    sums = [
        [logp(scorer.model, template.render(e.answered(label)))[0] for label in labels]
        for e in EXAMPLES
    ]
    best = [labels[int(np.argmax(row))] for row in sums]
    truth = [best[0], best[1], next(label for label in labels if label != best[2])]
    asked = [e.answered(label) for e, label in zip(EXAMPLES, truth, strict=True)]
    found = ranked(["ranked_accuracy", "ranked_macro_f1"], scorer, template, asked, labels)
    assert found["ranked_accuracy"].scores.tolist() == [1, 1, 0]
    assert found["ranked_accuracy"].texts == best
    f1 = text_scores.macro_f1(truth, best)
    assert found["ranked_macro_f1"].mean == pytest.approx(f1) and f1 < 1
    with pytest.raises(DataError, match="more than 256"):
        labels_of(ask("q", str(n)) for n in range(300))


def test_pass_at_k_and_best_of_k_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of four answers is right: of two taken, 1 - C(3,2)/C(4,2) = 1/2 hold it. All: 1. The best
    of two is worth as much where an answer is worth 1 or 0."""
    right = [True, False, False, False, True, True, True, True]
    monkeypatch.setattr(
        task_metrics, "answers", lambda *_, **asked: ["yes" if r else "no" for r in right]
    )
    exact = Rewards.of({"exact": ExactMatch()}, lambda run: pytest.fail(run))
    example = Example((Message("user", "?"), Message("assistant", "yes")), "here")
    nothing: Any = None
    asked = Attempts(k=2, samples=4)
    worth = task_metrics.sampled(exact, nothing, nothing, [example] * 2, asked)
    for full in (exact.full, None):
        found = task_metrics.best_or_passed(worth, asked.k, full)
        assert found.scores.tolist() == [0.5, 1.0] and found.higher_is_better
