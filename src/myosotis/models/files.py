"""A model as files: where its folder is, whether it is whole, and what its content hash is.

Local folders and snapshots of the hub end up as one thing, a folder on disk; the checks here give
one clear error before anything is loaded. Needs neither torch nor transformers. What is in the
files, once loaded, is `load.py`'s.
"""

from __future__ import annotations

import fnmatch
import hashlib
from pathlib import Path

from myosotis.models.wheels import cache_dir
from myosotis.utils.cached_folder import remembered_hashes
from myosotis.utils.errors import AssetError, ConfigError
from myosotis.utils.read_file import MOST_DOCUMENT, read_json_object
from myosotis.utils.weights_file import pickles_in, require_whole

# What makes a tokenizer, and what else describes one.
_VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tiktoken.model",
)
CONFIG = ("config.json", "*.py")
TOKENIZER = (
    *CONFIG,
    *_VOCABULARIES,
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "*.jinja",
)
_CONTENT = (*TOKENIZER, "model*.safetensors", "model.safetensors.index.json")
EVERYTHING = (*_CONTENT, "generation_config.json")
# Of a model's config: each size, and more than any model has.
SIZES = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_attention_heads", "n_head"), 10_000),
    **dict.fromkeys(("hidden_size", "n_embd", "intermediate_size"), 10_000_000),
    "vocab_size": 100_000_000,
}


def local_folder(path: str | None) -> Path:
    """`path` as an existing folder. Raises ConfigError or AssetError."""
    if not path:
        raise ConfigError("model=local needs a folder.", "Add model.path=/where/the/model/is")
    place = Path(path).expanduser()
    if not place.is_dir():
        what = "is a file, not a folder" if place.exists() else "does not exist"
        raise AssetError(
            f"model.path={path} {what}.",
            "It must be a folder with config.json, a tokenizer and *.safetensors.",
        )
    return place.absolute()


def hub_snapshot(repo: str | None, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """Folder in the hub's own cache with the files of `repo` that match, fetched if needed.

    With HF_HUB_OFFLINE set only the cache is asked. Raises ConfigError without a repo, AssetError
    when it cannot be had.
    """
    from huggingface_hub import constants, errors, snapshot_download

    if not repo:
        raise ConfigError("model=hub needs a model id.", "Add model.id=owner/name")
    wanted = f"{repo}@{revision}" if revision else repo
    try:
        # Other formats of the same weights lie in subfolders: none of those.
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=["*/*"],
            )
        )
    except errors.GatedRepoError as error:
        raise AssetError(
            f"{wanted} is gated on the hub.",
            f"Accept its terms at https://huggingface.co/{repo} and log in (`hf auth login`).",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise AssetError(f"{repo} has no revision {revision!r} on the hub.") from error
    except errors.LocalEntryNotFoundError as error:
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the hub does not answer"
        raise AssetError(
            f"{wanted} is not in the hub cache {constants.HF_HUB_CACHE}, and {reason}.",
            "Fetch it once with a network connection, copy it there from another cache (HF_HOME "
            "names another place), or use a folder: model=local model.path=...",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise AssetError(
            f"The hub has no model {repo!r} that you may see.",
            "Check the spelling (owner/name); for a private one log in with `hf auth login`.",
        ) from error
    except (errors.HFValidationError, errors.HfHubHTTPError, OSError) as error:
        raise AssetError(f"{wanted} could not be fetched from the hub: {error}") from error


def require_config(place: Path) -> None:
    """AssetError unless `place` is a model folder (and not an adapter, which has no weights)."""
    _require_files(place)
    if (place / "adapter_config.json").is_file():
        raise AssetError(
            f"{place} is a PEFT adapter, not a model.",
            "Name the base it was trained on as the model.",
        )
    config = place / "config.json"
    if not config.is_file():
        raise AssetError(
            f"{place} has no config.json: it is no transformers model folder.",
            "Give the folder that `save_pretrained` wrote.",
        )
    try:
        described = read_json_object(config)
    except (OSError, ValueError) as error:
        raise AssetError(f"{config} cannot be read ({error}).", "Fetch or copy it again.") from None
    for size, largest in SIZES.items():
        value = described.get(size)
        if value is not None and not (type(value) is int and 0 < value <= largest):
            raise AssetError(f"{config}: {size} is {str(value)[:40]}; no model is of that size.")


def _require_files(place: Path) -> None:
    """AssetError for a pipe or a device among the files, and for a document of gigabytes: what
    reads them would wait, or fill the memory."""
    for entry in place.iterdir():
        if entry.exists() and not (entry.is_file() or entry.is_dir()):
            raise AssetError(f"{entry} is no regular file, and has no place in a model's folder.")
        document = entry.suffix in (".json", ".jinja", ".txt")
        if document and entry.is_file() and entry.stat().st_size > MOST_DOCUMENT:
            raise AssetError(f"{entry} has more than {MOST_DOCUMENT:,} bytes.")


def require_tokenizer(place: Path) -> None:
    """AssetError unless `place` holds a tokenizer's vocabulary."""
    if not any((place / name).is_file() for name in _VOCABULARIES):
        raise AssetError(
            f"{place} has no tokenizer (none of {', '.join(_VOCABULARIES)}).",
            "Save it beside the weights: AutoTokenizer.from_pretrained(BASE).save_pretrained("
            f"{str(place)!r})",
        )


def require_weights(place: Path) -> None:
    """AssetError unless the safetensors are there, complete and not cut short."""
    index = place / "model.safetensors.index.json"
    if index.is_file():
        named = _named_in(index)
        if missing := [name for name in named if not (place / name).is_file()]:
            raise AssetError(
                f"{place} lacks {', '.join(missing)}, named in {index.name}.",
                "Copy or download the missing files.",
            )
        files = [place / name for name in named]
    else:
        files = [file for file in (place / "model.safetensors",) if file.is_file()]
    if not files:
        raise _no_safetensors(place)
    for file in files:
        require_whole(file)


def _named_in(index: Path) -> list[str]:
    """The files that an index of weights names. Raises AssetError when it is none, and for a name
    that leads out of its folder."""
    try:
        named = sorted({str(name) for name in read_json_object(index)["weight_map"].values()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise AssetError(
            f"{index} is no index of weights ({error}).", "Fetch or copy it again."
        ) from None
    if outside := [name for name in named if Path(name).name != name]:
        raise AssetError(f"{index} names {outside[0]!r}, which is not beside it.")
    return named


def content_hash(place: Path) -> str:
    """sha256 over the names and contents of a model folder's config, tokenizer and weights.

    Unchanged files (size and modification time) are not read again. What cannot change a score
    (generation defaults, notes, optimiser states) is left out.
    """
    names = sorted(
        file.name
        for file in place.iterdir()
        if file.is_file() and any(fnmatch.fnmatch(file.name, pattern) for pattern in _CONTENT)
    )
    memory = hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:24]
    hashes = remembered_hashes(place, names, cache_dir() / "hashes" / f"{memory}.json")
    lines = "".join(f"{name} {hashes[name]}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def _no_safetensors(place: Path) -> AssetError:
    if pickles := pickles_in(place):
        return AssetError(
            f"{place} holds its weights only as pickles ({', '.join(pickles[:3])}). Loading one "
            "runs whatever code it contains, so only safetensors are read.",
            "Where you trust it, convert it: AutoModelForCausalLM.from_pretrained(DIR)"
            ".save_pretrained(DIR)",
        )
    return AssetError(
        f"{place} has no weights (neither model.safetensors nor its index).",
        "Give the folder that `save_pretrained` wrote.",
    )
