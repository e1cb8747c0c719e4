"""The configuration of a run that may have come from elsewhere: data, until the user says more.

A run folder's config.yaml is what `resume=`, `generate`, `evaluate`, `dial` and `export` go by.
What in it could run code, read or write elsewhere on this machine, or read its environment needs
the user's word (`--trust`), unless the run is one of the user's own (`utils/signature.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from myosotis.config import run_config
from myosotis.utils import signature, trust
from myosotis.utils.chat_endpoint import KEY_ENV
from myosotis.utils.own_files import refuse_links

HARMLESS = ("myosotis.", "torch.optim.")
"""Classes a configuration of ours names without any extension."""
ABSOLUTE = re.compile(r"([/\\~]|[A-Za-z]:[\\/]|file:)")
REPLACED = ("out", "resume")
"""Keys that the command sets anew."""


def read(path: Path) -> DictConfig:
    """The configuration in the run folder's file `path`.

    Raises `ConfigError` when it cannot be used as it is, and when it was not written by this user,
    wants what needs the user's word, and that was not given.
    """
    refuse_links(path.parent)
    cfg = run_config.load(path)
    files = signature.signed(path)
    if files is None:
        raw = OmegaConf.to_container(cfg, resolve=False)
        trust.require(f"The run {path.parent}", wishes(raw), path)
    else:
        trust.allow(files)
    return cfg


def keep(cfg: DictConfig, path: Path) -> None:
    """Write the configuration to `path`, signed as this user's own, with its task files."""
    names = [str(name) for name in OmegaConf.select(cfg, "retention.suite") or []]
    files = [Path(name).expanduser().absolute() for name in names if is_task_file(name)]
    signature.write_signed(path, OmegaConf.to_yaml(cfg), [str(file) for file in files])


def is_task_file(name: str) -> bool:
    """Whether a name of `retention.suite` is a task definition of lm-eval's format."""
    return name.endswith((".yaml", ".yml"))


def wishes(config: Any) -> list[str]:
    """What in an unresolved configuration needs the user's word, each as `key=value …`."""
    found = []
    for key, value in _leaves(config, ""):
        text = str(value)
        if key.split(".")[0] in REPLACED:
            continue
        if key.endswith("trust_remote_code") and value not in (False, None):
            found.append(f"{key}={text} runs Python code that comes with the model")
        elif re.fullmatch(r"reward\.[^.]+\.run", key) and value is True:
            found.append(f"{key}={text} runs programs that a model writes, locked in")
        elif re.fullmatch(r"reward\.[^.]+\.url", key) and value is not None:
            found.append(f"{key}={text} is where prompts and answers are sent")
        elif re.fullmatch(r"reward\.[^.]+\.key_env", key) and value != KEY_ENV:
            found.append(f"{key}={text} is read from your environment, and sent")
        elif "${" in text:
            found.append(f"{key}={text} is looked up on this machine")
        elif key.endswith("_target_") and not text.startswith(HARMLESS):
            found.append(f"{key}={text} makes an object of that class")
        elif re.match(r"retention\.suite(\.|$)", key) and is_task_file(text):
            found.append(f"{key}={text} is a task file, which may hold code")
        elif key == "tracking.uri" and value is not None:
            found.append(f"{key}={text} is where results are sent")
        elif isinstance(value, str) and (ABSOLUTE.match(text) or ".." in Path(text).parts):
            found.append(f"{key}={text} lies elsewhere on this machine")
    return found


def _leaves(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{where}.{number}")
    else:
        yield where, node
