"""Which parameters move, and how far: every Δθ as an `Update`.

`base.py` holds the protocol, each other file one family of updates. A family is imported when it
is first asked for: PEFT alone takes seconds.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from myosotis.updates.base import ABOUT, Capabilities, Update
from myosotis.updates.import_peft import import_peft
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import AssetError, ConfigError, MyosotisError
from myosotis.utils.read_file import read_json_object
from myosotis.utils.weights_file import require_safetensors

__all__ = ["ABOUT", "NAMES", "Capabilities", "Update", "about", "build", "from_folder"]

_HOMES = {
    "full": ("myosotis.updates.full", "FullUpdate"),
    "lora": ("myosotis.updates.lora", "LoraUpdate"),
    "qlora": ("myosotis.updates.lora", "LoraUpdate"),
    "probe": ("myosotis.updates.linear_probe", "ProbeUpdate"),
    "adapter": ("myosotis.updates.bottleneck", "AdapterUpdate"),
}
_PROMPTS = ("PREFIX_TUNING", "PROMPT_TUNING")
NAMES = tuple(_HOMES)

# PEFT imports bitsandbytes, which tells every user of a CPU with AVX512-BF16, whatever they train,
# of a package that it could load a faster kernel with.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


_BESIDE = {
    "value_head": ("myosotis.updates.value_head", "ValuedUpdate"),
    "critic": ("myosotis.updates.critic", "CriticUpdate"),
}
"""What is trained beside another update."""

_WITHOUT_PEFT = ("full", "linear_probe", "bottleneck")


def _home(module: str) -> ModuleType:
    if module.rpartition(".")[2] not in _WITHOUT_PEFT:
        import_peft()
    return import_module(module)


def build(settings: Mapping[str, Any]) -> Update:
    """The update that `settings["name"]` names, set up by the other settings; touches no model.

    With a `peft_type` it is that method of PEFT, and the name is only what it is called; with
    `value_head` (a ratio of learning rates) a head for rewards is trained beside it, with `critic`
    one for the values of tokens. Raises
    `ConfigError` for an unknown name, an unknown setting or a value out of range.
    """
    for key, (module, cls) in _BESIDE.items():
        if (lr_ratio := settings.get(key)) is not None:
            inner = build({k: v for k, v in settings.items() if k != key})
            return getattr(import_module(module), cls)(inner, float(lr_ratio))
    name = settings.get("name")
    if kind := settings.get("peft_type"):
        prompt = str(kind).upper() in _PROMPTS
        module, cls = ("prompt_tuning", "PromptUpdate") if prompt else ("peft", "PeftUpdate")
        return getattr(_home(f"myosotis.updates.{module}"), cls)(settings)
    if name not in _HOMES:
        hint = f"{did_you_mean(str(name), NAMES)} Others take a peft_type."
        raise ConfigError(f"update.name={name}: no such update", hint)
    module, cls = _HOMES[name]
    return getattr(_home(module), cls)(settings)


def from_folder(folder: Path | str) -> Update:
    """The update saved in `folder`, with its settings; `attach` and `load(folder)` it next.

    Reads what `Update.save` wrote, and adapters that plain PEFT wrote. Raises `AssetError` when the
    folder holds neither, or when its files are not whole.
    """
    folder = Path(folder)
    if (folder / ABOUT).is_file():
        with usable(folder):
            update = build(about(folder)["settings"])
            if (folder / "adapter_config.json").exists():  # read again once there is a model
                _peft_config(folder)
        for name in update.files:
            require_safetensors(folder / name, "run the training that made it again")
        return update
    if not (folder / "adapter_config.json").is_file():
        raise AssetError(
            f"{folder} holds no saved update", "it needs update.json or adapter_config.json"
        )
    from myosotis.updates.adapter_file import adapter_file

    with usable(folder):
        return adapter_file(folder)


def _peft_config(folder: Path) -> dict[str, Any]:
    from myosotis.updates.peft import config_in

    return config_in(folder)


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """`AssetError` for settings in `folder` that are none, whatever a class of PEFT's says then."""
    try:
        yield
    except ConfigError as error:
        raise AssetError(f"{folder}: {error.message}", error.hint) from None
    except MyosotisError:
        raise
    except Exception as error:  # noqa: BLE001
        said = f"{type(error).__name__}: {error}"
        raise AssetError(f"{folder}: its settings cannot be used ({said[:200]})") from None


def about(folder: Path) -> dict[str, Any]:
    """What is written beside the tensors of a saved update; empty for an adapter of plain PEFT.

    `settings`, `base_model`, `parameters`; since the base was given, `base_content_hash` and, where
    it was a tuned model itself, `start`. Raises `AssetError` for a file that is damaged.
    """
    file = folder / ABOUT
    if not file.is_file():
        return {}
    try:
        said = read_json_object(file)
        if not isinstance(said["settings"], dict):
            raise TypeError("settings is no object")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{file} is damaged ({error}).", "Fetch or copy it again.") from None
    return said
