"""Which parameters move, and how far: every Δθ as an `Update`.

`base.py` holds the protocol, each other file one family of updates. A family is imported when it
is first asked for: PEFT alone takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from myosotis.updates.base import Capabilities, Update
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import AssetError, ConfigError, MyosotisError
from myosotis.utils.read_file import read_json_object

__all__ = ["NAMES", "Capabilities", "Update", "build", "from_folder"]

_HOMES = {
    "full": ("myosotis.updates.full", "FullUpdate"),
    "lora": ("myosotis.updates.lora", "LoraUpdate"),
    "qlora": ("myosotis.updates.lora", "LoraUpdate"),
    "probe": ("myosotis.updates.linear_probe", "ProbeUpdate"),
    "adapter": ("myosotis.updates.bottleneck", "AdapterUpdate"),
}
_PROMPTS = ("PREFIX_TUNING", "PROMPT_TUNING")
NAMES = tuple(_HOMES)


def build(settings: Mapping[str, Any]) -> Update:
    """The update that `settings["name"]` names, set up by the other settings; touches no model.

    With a `peft_type` it is that method of PEFT, and the name is only what it is called; with
    `value_head` (a ratio of learning rates) a head for rewards is trained beside it. Raises
    `ConfigError` for an unknown name, an unknown setting or a value out of range.
    """
    if (lr_ratio := settings.get("value_head")) is not None:
        from myosotis.updates.value_head import ValuedUpdate

        inner = {k: v for k, v in settings.items() if k != "value_head"}
        return ValuedUpdate(build(inner), float(lr_ratio))
    name = settings.get("name")
    if kind := settings.get("peft_type"):
        prompt = str(kind).upper() in _PROMPTS
        module, cls = ("prompt_tuning", "PromptUpdate") if prompt else ("peft", "PeftUpdate")
        return getattr(import_module(f"myosotis.updates.{module}"), cls)(settings)
    if name not in _HOMES:
        hint = f"{did_you_mean(str(name), NAMES)} Others take a peft_type."
        raise ConfigError(f"update.name={name}: no such update", hint)
    module, cls = _HOMES[name]
    return getattr(import_module(module), cls)(settings)


def from_folder(folder: Path | str) -> Update:
    """The update saved in `folder`, with its settings; `attach` and `load(folder)` it next.

    Reads what `Update.save` wrote, and LoRA adapters that plain PEFT wrote. Raises `AssetError`
    when the folder holds neither, or a file of it is damaged.
    """
    folder = Path(folder)
    about, adapter = folder / "update.json", folder / "adapter_config.json"
    if not about.is_file() and not adapter.is_file():
        raise AssetError(
            f"{folder} holds no saved update", "it needs update.json or adapter_config.json"
        )
    from myosotis.updates.tensors import require_tensors

    weights = sorted(folder.glob("*.safetensors"))
    for file in weights:
        require_tensors(file)
    if not weights:
        raise AssetError(f"{folder} has no weights", "it needs a file *.safetensors")
    try:
        return build(read_json_object(about)["settings"] if about.is_file() else _peft(folder))
    except ConfigError as error:
        raise AssetError(f"{folder}: {error.message}", error.hint) from None
    except MyosotisError:
        raise
    except Exception as error:  # what a class of PEFT's makes of settings that are none
        said = f"{type(error).__name__}: {error}"
        raise AssetError(f"{folder}: its settings cannot be used ({said[:200]})") from None


def _peft(folder: Path) -> dict[str, Any]:
    from myosotis.updates.peft import settings_of

    return settings_of(folder)
