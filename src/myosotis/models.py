"""Base models: out of the embedded wheel, a local folder or the hub, each as one folder on disk.

Everything that turns a `ModelSource` into a config, a tokenizer or a model belongs here, with the
checks that give a person one clear error before (or while) weights load. Wheels and the cache are
`assets.py`'s; making safetensors out of GGUF is `conversion.py`'s; what is done to a model afterwards
belongs to `updates/` and `trees/`.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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

from myosotis.assets import cache_dir
from myosotis.conversion import WHEEL_MODELS, converted
from myosotis.errors import AssetError, ConfigError
from myosotis.sealed import remembered_hashes

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
    "chat_template.json",
    "*.jinja",
)
# What makes a tokenizer, rather than describes one.
_TOKENIZER_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
)
_WEIGHT_FILES = ("model*.safetensors", "model.safetensors.index.json")
_CONTENT = ("config.json", "*.py", *_TOKENIZER_FILES, *_WEIGHT_FILES)
_DROPOUTS = (
    torch.nn.Dropout,
    torch.nn.Dropout1d,
    torch.nn.Dropout2d,
    torch.nn.Dropout3d,
    torch.nn.AlphaDropout,
    torch.nn.FeatureAlphaDropout,
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class ModelSource:
    """Where a model comes from; the `model` group of the config."""

    kind: Literal["wheel", "local", "hub"]
    id: str  # wheel: a key of `WHEEL_MODELS`; hub: owner/name; local: a name for records
    path: str | None = None  # local: the folder
    revision: str | None = None  # hub: branch, tag or commit
    trust_remote_code: bool = False  # run Python code that comes with the model


@dataclass
class BaseModel:
    """A model as it was loaded, before anything is attached to it."""

    model: PreTrainedModel  # in eval mode
    tokenizer: PreTrainedTokenizerBase
    id: str
    note: str  # what a reader of results must know about the weights, in plain words; may be ""
    content_hash: str  # sha256 over config, tokenizer and weights files
    context_length: int  # tokens


# ------------------------------------------------------------------------------- what is offered


def load(source: ModelSource, dtype: torch.dtype = torch.float32) -> BaseModel:
    """The model in `dtype` and eval mode, with its tokenizer.

    Raises AssetError when it is not at hand, lacks a part, is damaged or is no causal language
    model. Dropouts are left as they are; see `zero_dropouts`.
    """
    place = folder(source)
    tokenizer = _tokenizer(place, source)
    config = _config(place, source)
    with _explained(place, source), _quiet():
        model, loaded = AutoModelForCausalLM.from_pretrained(
            place,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=source.trust_remote_code,
            output_loading_info=True,
        )
    _check_loaded(model, loaded, tokenizer, place)
    # PEFT writes this into an adapter as its base: a name others can resolve, not our cache.
    name = WHEEL_MODELS[source.id].upstream if source.kind == "wheel" else _name(source)
    model.name_or_path = model.config._name_or_path = tokenizer.name_or_path = name
    return BaseModel(
        model=model.eval(),
        tokenizer=tokenizer,
        id=source.id or _name(source),
        note=WHEEL_MODELS[source.id].note if source.kind == "wheel" else "",
        content_hash=content_hash(place),
        context_length=context_length(config, tokenizer),
    )


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """The tokenizer alone; from the hub, only its files are fetched. Raises AssetError."""
    return _tokenizer(_folder(source, ("config.json", "*.py", *_TOKENIZER_FILES)), source)


def load_config(source: ModelSource) -> PretrainedConfig:
    """The config alone; from the hub, only its file is fetched. Raises AssetError."""
    return _config(_folder(source, ("config.json", "*.py")), source)


def meta_model(source: ModelSource) -> PreTrainedModel:
    """The model's architecture on the meta device: shapes and parameter counts, no weights."""
    config = load_config(source)
    with _explained(Path(_name(source)), source), torch.device("meta"):
        return AutoModelForCausalLM.from_config(
            config, trust_remote_code=source.trust_remote_code
        ).eval()


def folder(source: ModelSource) -> Path:
    """Local folder with config, tokenizer and safetensors: converted, given or downloaded.

    Raises AssetError when a part is missing, weights are pickles only, or a weights file is cut.
    """
    place = _folder(source, (*_CONTENT, "generation_config.json"))
    _require_config(place)
    _require_tokenizer(place)
    _require_weights(place)
    return place


def content_hash(place: Path) -> str:
    """sha256 over the names and contents of a model folder's config, tokenizer and weights.

    Unchanged files (size and modification time) are not read again. What does not change a score
    (generation defaults, notes, optimiser states) is left out.
    """
    names = sorted(
        file.name
        for file in place.iterdir()
        if file.is_file() and any(fnmatch.fnmatch(file.name, pattern) for pattern in _CONTENT)
    )
    where = hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:24]
    hashes = remembered_hashes(place, names, cache_dir() / "hashes" / f"{where}.json")
    lines = "".join(f"{name} {hashes[name]}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def context_length(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Longest path in tokens: the config's, else the tokenizer's, else 2048 as lm-eval takes."""
    text = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"):
        if isinstance(length := getattr(text, name, None), int) and length > 0:
            return length
    length = tokenizer.model_max_length
    return int(length) if length < 10**9 else 2048  # tokenizers without a limit say 10**30


def zero_dropouts(model: PreTrainedModel) -> dict[str, float]:
    """Sets every dropout probability of `model` to 0, in its modules and its config.

    The trainer calls this on the base model before it attaches an update (whose own dropout, such
    as `lora_dropout`, is then untouched). Some models carry dropout from their pretraining (GPT-2:
    0.1); left on, packed and padded rows would draw different masks and no gradient would be
    reproducible. Returns what was not 0 before, by name, so that the run can say what it changed.
    """
    changed: dict[str, float] = {}
    for name, module in model.named_modules():
        if isinstance(module, _DROPOUTS) and module.p > 0:
            changed[name] = module.p
            module.p = 0.0
        changed |= _zero_attributes(module, f"{name}." if name else "")
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        changed |= _zero_attributes(config, "config.")
    return changed


# ------------------------------------------------------------------------------------- folders


def _folder(source: ModelSource, patterns: tuple[str, ...]) -> Path:
    if source.kind == "wheel":
        return converted(source.id)
    if source.kind == "hub":
        return _snapshot(source, patterns)
    if not source.path:
        raise ConfigError("model=local needs a folder.", "Add model.path=/where/the/model/is")
    place = Path(source.path).expanduser()
    if not place.is_dir():
        kind = "is a file, not a folder" if place.exists() else "does not exist"
        raise AssetError(
            f"model.path={source.path} {kind}.",
            "It must be a folder with config.json, a tokenizer and *.safetensors.",
        )
    return place.absolute()


def _snapshot(source: ModelSource, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import constants, errors, snapshot_download

    if not source.id:
        raise ConfigError("model=hub needs a model id.", "Add model.id=owner/name")
    wanted = f"{source.id}@{source.revision}" if source.revision else source.id
    try:
        return Path(
            snapshot_download(
                source.id,
                revision=source.revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"],  # other formats of the same weights lie in subfolders
            )
        )
    except errors.GatedRepoError as error:
        raise AssetError(
            f"{wanted} is gated on the hub.",
            f"Accept its terms at https://huggingface.co/{source.id} and log in (`hf auth login`).",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise AssetError(f"{source.id} has no revision {source.revision!r} on the hub.") from error
    except errors.LocalEntryNotFoundError as error:  # before its parents: it is several of them
        offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub is unreachable"
        raise AssetError(
            f"{wanted} is not in the hub cache {constants.HF_HUB_CACHE}, and {offline}.",
            "Fetch it once with a network connection, copy a cache there (HF_HOME names another "
            "place), or use a folder: model=local model.path=...",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise AssetError(
            f"The hub has no model {source.id!r} that you may see.",
            "Check the spelling (owner/name); for a private one log in with `hf auth login`.",
        ) from error
    except (errors.HFValidationError, errors.HfHubHTTPError, OSError) as error:
        raise AssetError(f"{wanted} could not be fetched from the hub: {error}") from error


def _require_config(place: Path) -> None:
    if (place / "config.json").is_file():
        return
    if (place / "adapter_config.json").is_file():
        raise AssetError(
            f"{place} is a PEFT adapter, not a model.",
            "Name the base it was trained on as the model.",
        )
    raise AssetError(f"{place} has no config.json: it is no transformers model folder.")


def _require_tokenizer(place: Path) -> None:
    if not any((place / name).is_file() for name in _TOKENIZER_VOCABULARIES):
        raise AssetError(
            f"{place} has no tokenizer (none of {', '.join(_TOKENIZER_VOCABULARIES)}).",
            "Save it beside the weights: AutoTokenizer.from_pretrained(BASE).save_pretrained("
            f"{str(place)!r})",
        )


def _require_weights(place: Path) -> None:
    from safetensors import SafetensorError, safe_open

    files = sorted(place.glob("model*.safetensors"))
    index = place / "model.safetensors.index.json"
    if index.is_file():
        named = {place / name for name in json.loads(index.read_text())["weight_map"].values()}
        if missing := sorted(file.name for file in named if not file.is_file()):
            raise AssetError(f"{place} lacks {', '.join(missing)}, named in {index.name}.")
    if not files:
        raise _no_safetensors(place)
    for file in files:
        try:
            with safe_open(file, framework="pt"):  # reads the header and compares the length
                pass
        except SafetensorError as error:
            raise AssetError(
                f"{file} is damaged ({error}).", "Copy or download it again."
            ) from error


def _no_safetensors(place: Path) -> AssetError:
    pickles = sorted({file.name for pattern in _PICKLES for file in place.glob(pattern)})
    if pickles:
        return AssetError(
            f"{place} holds its weights as pickles only ({', '.join(pickles[:3])}). Loading one "
            "runs whatever code it contains, so only safetensors are read.",
            "Convert it where you trust it: AutoModelForCausalLM.from_pretrained(DIR)"
            ".save_pretrained(DIR)",
        )
    return AssetError(f"{place} has no weights (no model*.safetensors).")


# ------------------------------------------------------------------------- parts of a model folder


def _config(place: Path, source: ModelSource) -> PretrainedConfig:
    _require_config(place)
    with _explained(place, source):
        return AutoConfig.from_pretrained(
            place, local_files_only=True, trust_remote_code=source.trust_remote_code
        )


def _tokenizer(place: Path, source: ModelSource) -> PreTrainedTokenizerBase:
    _require_tokenizer(place)
    with _explained(place, source):
        return AutoTokenizer.from_pretrained(
            place, local_files_only=True, trust_remote_code=source.trust_remote_code
        )


def _check_loaded(
    model: PreTrainedModel, loaded: dict[str, Any], tokenizer: Any, place: Path
) -> None:
    """Refuses what transformers only warns of: weights it had to invent, ids without a row."""
    absent = sorted(loaded["missing_keys"]) + sorted(str(k[0]) for k in loaded["mismatched_keys"])
    if absent:
        raise AssetError(
            f"{place} lacks {len(absent)} weights of a {type(model).__name__} "
            f"({', '.join(absent[:3])}{', ...' if len(absent) > 3 else ''}); they would be random.",
            "It may be an encoder, a classifier or an incomplete copy. A causal language model is "
            "needed.",
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise AssetError(
            f"The tokenizer in {place} has {len(tokenizer)} tokens, the model's embedding {rows}.",
            "They belong to different models, or tokens were added without "
            "`resize_token_embeddings`.",
        )


def _name(source: ModelSource) -> str:
    return source.id if source.kind != "local" else str(source.path)


def _zero_attributes(holder: Any, prefix: str) -> dict[str, float]:
    changed: dict[str, float] = {}
    for name, value in list(vars(holder).items()):
        dropout = any(part in name for part in ("dropout", "pdrop", "layerdrop", "drop_prob"))
        if dropout and isinstance(value, float) and value > 0:
            changed[prefix + name] = value
            setattr(holder, name, 0.0)
    return changed


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Loading without transformers' own bar, which would break ours."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


@contextlib.contextmanager
def _explained(place: Path, source: ModelSource) -> Iterator[None]:
    """Turns what transformers raises on an unusable folder into one AssetError."""
    try:
        yield
    except AssetError:
        raise
    except (ValueError, OSError, KeyError, ImportError, RuntimeError, TypeError) as error:
        text = " ".join(str(error).split())
        if "trust_remote_code" in text and not source.trust_remote_code:
            raise AssetError(
                f"{place} brings its own Python code.",
                "Read it; if you trust it, add model.trust_remote_code=true",
            ) from error
        if "Unrecognized configuration class" in text:
            raise AssetError(f"{place} is not a causal language model.") from error
        raise AssetError(
            f"{place} cannot be loaded by transformers {transformers.__version__}: {text[:300]}"
        ) from error
