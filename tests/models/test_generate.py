"""Generation: right with padding and a cache, and without a trace."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from myosotis.models.generate import continuations, end_ids, generate
from myosotis.utils.console import console
from myosotis.utils.errors import ConfigError
from tests.tiny import CONFIGS, VOCAB, tiny

PROMPTS = [[5, 9, 13], [7], [20, 21, 22, 23, 24, 25, 26, 27, 28, 29], [5, 9]]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One character a token: pad, bos, eos, then the printable ones from the space on."""
    names = ["<pad>", "<s>", "</s>", *(chr(32 + i) for i in range(VOCAB - 3))]
    core = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def by_hand(model: torch.nn.Module, prompt: list[int], steps: int) -> list[int]:
    """Greedy decoding without padding, batch or cache."""
    ids = list(prompt)
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == 2:
            return ids[len(prompt) : -1]
    return ids[len(prompt) :]


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_greedy_is_what_one_prompt_at_a_time_gives(
    name: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = tiny(name)
    expected = [
        tokenizer.decode(by_hand(model, prompt, 8), skip_special_tokens=True) for prompt in PROMPTS
    ]
    for batch_size in (1, 3, 4):
        done: list[int] = []
        found = generate(
            model, tokenizer, PROMPTS, max_new_tokens=8, batch_size=batch_size, advance=done.append
        )
        assert found == expected
        assert sum(done) == len(PROMPTS)


def test_memory_that_runs_out_halves_the_prompts_at_once(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("llama")
    expected = generate(model, tokenizer, PROMPTS, max_new_tokens=4)
    told, sizes = model.generate, list[int]()

    def crowded(ids: torch.Tensor | None = None, **words: Any) -> Any:
        rows = len(words["input_ids"] if ids is None else ids)
        sizes.append(rows)
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return told(**words) if ids is None else told(ids, **words)

    monkeypatch.setattr(model, "generate", crowded)
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=4) == expected
    assert sizes == [4, 2, 2]


def test_nothing_is_left_behind(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny("llama")
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    model.model.layers[1].eval()  # one part in another mode than the rest
    model.config.use_cache = False
    model.generation_config.temperature = 0.3
    model.generation_config.do_sample = True
    tokenizer.padding_side = "right"

    def state() -> object:
        return (
            [(n, m.training, getattr(m, "gradient_checkpointing", None))
             for n, m in model.named_modules()],
            model.config.to_dict(),
            model.generation_config.to_dict(),
            sorted(vars(model)),
            tokenizer.padding_side,
            torch.is_grad_enabled(),
            torch.get_rng_state().tolist(),
            [p.grad for p in model.parameters()],
        )  # fmt: skip

    before, weights = copy.deepcopy(state()), copy.deepcopy(model.state_dict())
    generate(model, tokenizer, PROMPTS, max_new_tokens=4)
    generate(model, tokenizer, PROMPTS, max_new_tokens=4, temperature=1.0, seed=7)
    assert state() == before
    assert all(torch.equal(weights[n], t) for n, t in model.state_dict().items())

    def fail(*_: object) -> None:
        raise KeyError

    hook = model.lm_head.register_forward_hook(fail)
    with pytest.raises(KeyError):
        generate(model, tokenizer, PROMPTS, max_new_tokens=4)
    hook.remove()
    assert state() == before


def test_training_goes_on_the_same(tokenizer: PreTrainedTokenizerFast) -> None:
    """docs/architecture.md, invariant 5, for generation: dropout draws the same numbers after
    it."""

    def losses(look: bool) -> list[float]:
        model = tiny("gpt2")
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.2
        model.train()
        torch.manual_seed(3)
        ids, found = torch.tensor([PROMPTS[2]]), []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(loss.item())
            if look:
                generate(model, tokenizer, PROMPTS, max_new_tokens=4, temperature=1.0)
        return found

    assert losses(look=True) == losses(look=False)


def test_sampling(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny("llama")

    def sample(**settings: float) -> list[str]:
        return generate(model, tokenizer, PROMPTS, max_new_tokens=8, **settings)  # type: ignore[arg-type]

    greedy = sample()
    assert sample(temperature=3.0, seed=1) == sample(temperature=3.0, seed=1)
    assert sample(temperature=3.0, seed=1) != sample(temperature=3.0, seed=2)
    assert sample(temperature=3.0, top_k=1) == greedy
    assert sample(temperature=3.0, top_p=1e-6) == greedy
    assert sample(temperature=1e-4, seed=5) == greedy


def test_the_models_own_defaults_do_not_leak_in(tokenizer: PreTrainedTokenizerFast) -> None:
    """A model folder may ask for sampling and penalties; greedy means greedy."""
    plain = generate(tiny("llama"), tokenizer, PROMPTS, max_new_tokens=8)
    model = tiny("llama")
    own = model.generation_config
    own.do_sample, own.temperature, own.top_k = True, 5.0, 3
    own.repetition_penalty, own.no_repeat_ngram_size = 9.0, 1
    assert generate(model, tokenizer, PROMPTS, max_new_tokens=8) == plain


def test_stop_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny("llama")
    ids = by_hand(model, PROMPTS[0], 8)
    stop = ids[4]
    (text,) = generate(model, tokenizer, PROMPTS[:1], max_new_tokens=8, stop=[stop])
    assert text == tokenizer.decode(ids[: ids.index(stop)])
    assert end_ids(model, tokenizer) == [2]
    model.generation_config.eos_token_id = [2, stop]
    assert end_ids(model, tokenizer) == sorted({2, stop})
    assert generate(model, tokenizer, PROMPTS[:1], max_new_tokens=8) == [text]


def test_long_prompts_lose_their_beginning_and_it_is_said(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = tiny("llama")  # a context of 128 tokens
    long = [3 + i % 90 for i in range(200)]
    with console.capture() as capture:
        found = generate(model, tokenizer, [long, [7]], max_new_tokens=8)
    said = " ".join(capture.get().split())
    assert "1 of 2 prompts are longer than 120 tokens" in said
    assert found[0] == tokenizer.decode(by_hand(model, long[-120:], 8))
    with console.capture() as capture:
        generate(model, tokenizer, [long[:120]], max_new_tokens=8)
    assert capture.get() == ""
    with pytest.raises(ConfigError, match="leaves no room"):
        generate(model, tokenizer, [[7]], max_new_tokens=128)


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.5}, {"top_k": -1}, {"max_new_tokens": 0}],
)
def test_settings_out_of_range(wrong: dict, tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        generate(tiny("llama"), tokenizer, PROMPTS, **{"max_new_tokens": 4, **wrong})


def test_no_prompts_and_empty_prompts(tokenizer: PreTrainedTokenizerFast) -> None:
    assert generate(tiny("llama"), tokenizer, [], max_new_tokens=4) == []
    with pytest.raises(ValueError, match="at least one token"):
        generate(tiny("llama"), tokenizer, [[]], max_new_tokens=4)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_copies_are_what_the_prompt_repeated_gives(
    name: str, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt that is read once for all of its copies: the same answers as read for each, and
    where nothing is drawn, the same as each other."""
    model = tiny(name)
    words = {"max_new_tokens": 6, "stop": [2], "batch_size": 12}
    alike = continuations(model, tokenizer, PROMPTS, copies=3, **words)
    assert alike == [
        ids for ids in continuations(model, tokenizer, PROMPTS, **words) for _ in range(3)
    ]
    once = continuations(model, tokenizer, PROMPTS, copies=3, temperature=1.0, seed=1, **words)
    assert len({tuple(ids) for ids in once}) > len(PROMPTS)
    monkeypatch.setattr("myosotis.models.generate._read_once", lambda *_: None)
    each = continuations(model, tokenizer, PROMPTS, copies=3, temperature=1.0, seed=1, **words)
    assert once == each


def test_the_end_of_an_answer_is_kept(tokenizer: PreTrainedTokenizerFast) -> None:
    """Ids up to and with the first that ends; `generate` leaves it out of the text."""
    model = tiny("llama")
    ids = continuations(model, tokenizer, PROMPTS, max_new_tokens=8)[0]
    cut = continuations(model, tokenizer, PROMPTS, max_new_tokens=8, stop=[ids[3]])[0]
    assert cut == ids[: ids.index(ids[3]) + 1]
