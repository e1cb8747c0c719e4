"""Which parameters move, and how far: every Δθ as an `Update`.

`base.py` holds the protocol, each other file one family of updates. A family is imported when it
is first asked for: PEFT alone takes seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from myosotis.errors import AssetError, ConfigError
from myosotis.updates.base import Capabilities, Update

__all__ = ["NAMES", "Capabilities", "Update", "build", "from_folder"]

_HOMES = {
    "full": ("myosotis.updates.full", "FullUpdate"),
    "lora": ("myosotis.updates.peft", "LoraUpdate"),
}
NAMES = tuple(_HOMES)


def build(settings: Mapping[str, Any]) -> Update:
    """The update that `settings["name"]` names, set up by the other settings; touches no model.

    Raises `ConfigError` for an unknown name, an unknown setting or a value out of range.
    """
    rest = dict(settings)
    name = rest.pop("name", None)
    if name not in _HOMES:
        near = get_close_matches(str(name), NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(NAMES)}"
        raise ConfigError(f"update.name={name}: no such update", hint)
    module, cls = _HOMES[name]
    return getattr(import_module(module), cls)(rest)


def from_folder(folder: Path | str) -> Update:
    """The update saved in `folder`, with its settings; `attach` and `load(folder)` it next.

    Reads what `Update.save` wrote, and LoRA adapters that plain PEFT wrote. Raises `AssetError`
    when the folder holds neither.
    """
    folder = Path(folder)
    if (folder / "update.json").is_file():
        return build(json.loads((folder / "update.json").read_text())["settings"])
    if (folder / "adapter_config.json").is_file():
        from myosotis.updates.peft import settings_of

        return build(settings_of(folder))
    raise AssetError(
        f"{folder} holds no saved update", "it needs update.json or adapter_config.json"
    )
