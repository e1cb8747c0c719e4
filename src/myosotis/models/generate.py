"""Text from a model: prompts of token ids in, the text that follows out.

Batches with left padding and a key-value cache, through `transformers`. A generation in the middle
of training leaves nothing behind: modes, configurations and random numbers are as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from myosotis.trees.attention import text_config
from myosotis.trees.scorer import device_of, evaluating
from myosotis.utils.console import console
from myosotis.utils.errors import ConfigError, DataError, out_of_memory


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 8,
    stop: Sequence[int] | None = None,
    until: Sequence[str] = (),
    advance: Callable[[int], object] | None = None,
) -> list[str]:
    """Continue each prompt; the texts come in the order of the prompts, without control tokens.

    `temperature` 0 takes the most likely token each time. Above 0 it samples, from the `top_k` most
    likely tokens (0: all) and the smallest set with probability `top_p`; the same call with the
    same `seed` gives the same texts, another `batch_size` may not. A text ends before the first of
    the `stop` ids (default: `end_ids`), before one of the texts `until`, or after `max_new_tokens`.

    A prompt that leaves no room in the context loses its beginning, and a message says so.
    `advance(n)` is called as `n` more prompts are done. Raises `ConfigError` for settings out of
    range.
    """
    ends = sorted(set(stop)) if stop is not None else end_ids(model, tokenizer)
    found = continuations(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        batch_size=batch_size,
        stop=ends,
        until=until,
        advance=advance,
    )
    return [_cut(decoded(tokenizer, before(ids, ends)), until) for ids in found]


def continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    copies: int = 1,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    batch_size: int = 8,
    stop: Sequence[int] = (),
    until: Sequence[str] = (),
    advance: Callable[[int], object] | None = None,
) -> list[list[int]]:
    """As `generate`, the token ids: up to the first of `stop`, which is the last of them where
    there was one. Of each prompt `copies` in a row; a prompt is read once for all of them.

    `batch_size` is in continuations; where memory runs out it is halved, down to one prompt.
    """
    _check(temperature, top_k, top_p, max_new_tokens)
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    _require_known(model, tokenizer, prompts)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        eos_token_id=list(stop) or None,
        pad_token_id=_pad_id(model, tokenizer, stop),
        use_cache=True,
        disable_compile=True,
        stop_strings=list(until) or None,
        # `top_k` is always given: left alone it would become 50.
        **({"do_sample": True, "temperature": temperature} if temperature else {}),
        **({"top_k": top_k, "top_p": top_p} if temperature else {}),
    )
    fitted = _fit(prompts, text_config(model), max_new_tokens)
    # Longest first: like lengths waste the least padding, and memory runs out at once or never.
    order = sorted(range(len(fitted)), key=lambda i: -len(fitted[i]))
    found: list[list[int]] = [[] for _ in range(copies * len(fitted))]
    at_once = max(1, batch_size // copies)
    with evaluating(model), _random_numbers(seed), _own_defaults(model):
        while order:
            batch = order[:at_once]
            try:
                told = _continue(model, tokenizer, [fitted[i] for i in batch], copies, config)
            except RuntimeError as error:
                if not out_of_memory(error) or len(batch) == 1:
                    raise
                at_once = len(batch) // 2
                torch.cuda.empty_cache()
                continue
            order = order[at_once:]
            for k, ids in enumerate(told):
                i, copy = batch[k // copies], k % copies
                found[i * copies + copy] = through(ids, stop)
            if advance is not None:
                advance(len(batch))
    return found


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that end a text: the tokenizer's and those of the model's generation config."""
    ends: set[int | None] = {tokenizer.eos_token_id}  # type: ignore[arg-type]
    own = model.generation_config.eos_token_id if model.generation_config else None
    ends |= set(own) if isinstance(own, list | tuple) else {own}
    return sorted(i for i in ends if i is not None)


def _check(temperature: float, top_k: int, top_p: float, max_new_tokens: int) -> None:
    if not temperature >= 0:
        raise ConfigError(f"temperature={temperature} is out of range.", "It must be at least 0.")
    if top_k < 0:
        raise ConfigError(f"top_k={top_k} is out of range.", "It must be at least 0 (all tokens).")
    if not 0 < top_p <= 1:
        raise ConfigError(f"top_p={top_p} is out of range.", "It must be above 0 and at most 1.")
    if max_new_tokens < 1:
        raise ConfigError(
            f"max_new_tokens={max_new_tokens} is out of range.", "It must be at least 1."
        )


def _require_known(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]]
) -> None:
    rows = int(text_config(model).vocab_size)
    if (largest := max((max(prompt) for prompt in prompts), default=0)) >= rows:
        raise DataError(
            f"a prompt has the token {tokenizer.convert_ids_to_tokens(largest)!r} (id {largest}), "
            f"but the model's embedding has {rows} rows.",
            "Take it out of the prompt.",
        )


def _pad_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int]) -> int:
    """Padding is masked, so any id would do that the model has a row for."""
    known = (tokenizer.pad_token_id, *ends)
    rows = int(text_config(model).vocab_size)
    return next((int(i) for i in known if i is not None and i < rows), 0)  # type: ignore[arg-type, operator]


def _fit(
    prompts: Sequence[Sequence[int]], config: object, max_new_tokens: int
) -> list[Sequence[int]]:
    context: int | None = getattr(config, "max_position_embeddings", None)
    if context is None:
        return list(prompts)
    room = context - max_new_tokens
    if room < 1:
        raise ConfigError(
            f"max_new_tokens={max_new_tokens} leaves no room for a prompt.",
            f"The model reads {context} tokens in all, prompt and answer.",
        )
    if cut := sum(len(prompt) > room for prompt in prompts):
        console.print(
            f"{cut} of {len(prompts)} prompts are longer than {room} tokens (the context of "
            f"{context} less {max_new_tokens} new ones): they lose their beginnings",
            style="yellow",
        )
    return [prompt[-room:] for prompt in prompts]


def _continue(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    copies: int,
    config: GenerationConfig,
) -> list[list[int]]:
    width, device = max(map(len, prompts)), device_of(model)
    ids = torch.full((len(prompts), width), int(config.pad_token_id))  # type: ignore[arg-type]
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    known: dict[str, Any] = {}
    if copies > 1:
        if (read := _read_once(model, ids, mask)) is not None:
            read.batch_repeat_interleave(copies)
            known = {"past_key_values": read}
        ids, mask = (one.repeat_interleave(copies, 0) for one in (ids, mask))
    out = model.generate(  # type: ignore[operator]
        input_ids=ids,
        attention_mask=mask,
        generation_config=config,
        tokenizer=tokenizer,  # reads `stop_strings`
        **known,
    )
    assert isinstance(out, Tensor)
    return out[:, width:].tolist()


def _read_once(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> DynamicCache | None:
    """The keys and values of all tokens but the last of each prompt; None where there is only one
    token, or the model keeps anything else (a window, a recurrent state, virtual tokens)."""
    config = text_config(model)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    peft: dict[str, Any] = getattr(model, "peft_config", None) or {}
    if (
        ids.shape[1] < 2
        or kinds != {"full_attention"}
        or getattr(config, "sliding_window", None)
        or getattr(model, "_is_stateful", False)
        or any(getattr(one, "is_prompt_learning", False) for one in peft.values())
    ):
        return None
    cache = DynamicCache(config=config)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    model(
        input_ids=ids[:, :-1],
        attention_mask=mask[:, :-1],
        position_ids=places[:, :-1],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return cache


def before(ids: list[int], ends: Sequence[int]) -> list[int]:
    """What comes before the first of `ends`."""
    return ids[: next((i for i, token in enumerate(ids) if token in ends), len(ids))]


def through(ids: list[int], ends: Sequence[int]) -> list[int]:
    """The same with that one."""
    return ids[: len(before(ids, ends)) + 1]


def _cut(text: str, until: Sequence[str]) -> str:
    for term in filter(None, until):
        text = text.split(term, 1)[0]
    return text


def decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    """The text of ids, without control tokens."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


@contextmanager
def _random_numbers(seed: int) -> Iterator[None]:
    # `manual_seed` seeds every CUDA device, so every one has to be put back.
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def _own_defaults(model: PreTrainedModel) -> Iterator[None]:
    """Keep the model's own generation config (a temperature, a penalty) from filling gaps."""
    before = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before
