"""Overrides to a composed config, for the commands that are not `train`.

`train` goes through `hydra.main` itself (cli/hydra_app.py); this gives `plan`, `audit`, `evaluate`
and notebooks the same config from the same words, without a run folder and without logging.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from myosotis.config.schema import register
from myosotis.utils.errors import ConfigError

PRIMARY = "pkg://myosotis.conf"


@contextmanager
def hydra_on(config_dir: str | None = None, words: Sequence[str] = ()) -> Iterator[Any]:
    """Hydra with our search path, and `config_dir` (as `-cd`) before it; yields its `Hydra`.

    `words` are the overrides that a person typed (`hydra_node.py`).
    """
    from hydra import version
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra

    from myosotis.config.hydra_node import guarded

    register()
    version.setbase("1.3")
    path = create_config_search_path(PRIMARY)
    if config_dir is not None:
        folder = Path(config_dir).absolute()
        if not folder.is_dir():
            raise ConfigError(f"The config folder {folder} does not exist.")
        path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="main"))
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with guarded(words):
            yield Hydra.create_main_hydra2(task_name="train", config_search_path=path)
    finally:
        GlobalHydra.instance().hydra = before


def compose(
    overrides: Sequence[str] = (), config_name: str = "train", config_dir: str | None = None
) -> DictConfig:
    """The config these overrides give. Raises Hydra's errors; `cli.explain` translates them."""
    from hydra.types import RunMode

    with hydra_on(config_dir, overrides) as hydra:
        cfg = hydra.compose_config(
            config_name=config_name,
            overrides=quoted(overrides),
            run_mode=RunMode.RUN,
            from_shell=True,
            with_log_configuration=False,
        )
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


_RUN = re.compile(r"^(resume|model\.start)=(\d[\w.+/-]*)$")


def quoted(overrides: Sequence[str]) -> list[str]:
    """The same, with names of runs quoted: to Hydra the id 61654515e1 is a number."""
    return [_RUN.sub(r"\1='\2'", word) for word in overrides]


def options(group: str, config_dir: str | None = None) -> list[str]:
    """The names one can give to `group=`."""
    from hydra.core.object_type import ObjectType

    with hydra_on(config_dir) as hydra:
        return sorted(hydra.config_loader.repository.get_group_options(group, ObjectType.CONFIG))


NOT_CHOSEN = ("hydra", "experiment_data", "experiment_objective")
"""Groups of which nobody chooses: Hydra's own, and what an experiment sets of one data set or
objective."""


def groups(config_dir: str | None = None) -> dict[str, list[str]]:
    """Every group of ours and the names one can choose in it."""
    from hydra.core.object_type import ObjectType

    with hydra_on(config_dir) as hydra:
        # The loader's own `get_group_options` copies the whole repository at every call.
        place = hydra.config_loader.repository
        names = sorted(set(place.get_group_options("", ObjectType.GROUP)) - set(NOT_CHOSEN))
        found = {name: sorted(place.get_group_options(name, ObjectType.CONFIG)) for name in names}
    return {name: choices for name, choices in found.items() if choices}


def model_named(name: str) -> DictConfig:
    """The `model` config of what the command line calls MODEL: a preset, a folder or a hub id."""
    if name in options("model"):
        return compose([f"model={name}"]).model
    if Path(name).is_dir():
        return OmegaConf.create({"kind": "local", "id": Path(name).name, "path": name})
    return OmegaConf.create({"kind": "hub", "id": name})
