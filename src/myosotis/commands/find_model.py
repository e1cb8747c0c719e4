"""The model that a name means: a run, an adapter on its base, a folder, a hub id or a preset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from myosotis import updates
from myosotis.config import instantiate, model_named, strangers
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.template_text import TemplateOptions
from myosotis.models.init_from import InitialUpdate
from myosotis.models.load import BaseModel, ModelSource
from myosotis.models.model_ref import ModelRef
from myosotis.records.find import UnknownRun, find_run, has_update
from myosotis.records.run_folder import RunFolder
from myosotis.updates.base import portable
from myosotis.utils.errors import AssetError, ConfigError
from myosotis.utils.escape import line
from myosotis.utils.read_file import read_json_object


def find_model(name: str, base: str | None = None) -> ModelRef:
    """The model that `name` means: a run, a PEFT adapter folder, or a whole model.

    `base` names the model an adapter belongs on, where the adapter does not say so itself. Raises
    `ConfigError` or `DataError` when it cannot be found.
    """
    folder = Path(name)
    if (folder / "adapter_config.json").is_file() or (folder / updates.ABOUT).is_file():
        return _adapter(folder, base)
    if folder.is_dir() and not (folder / "record.json").is_file():
        return ModelRef(folder.name, source_named(name))
    try:
        run = find_run(name, able=has_update)
    except UnknownRun:
        if name == "last":
            raise
        return ModelRef(name, source_named(name))
    return of_run(run)


def of_run(folder: RunFolder) -> ModelRef:
    """The tuned model of a run. Raises `AssetError` when the run did not come that far."""
    if not folder.update.is_dir():
        status = folder.load().status
        raise AssetError(
            f"The run {folder.path} has no finished update (its status is {status}).",
            f"If it was stopped, `myosotis train resume={folder.path}` finishes it.",
        )
    cfg, source = config_of(folder)
    quantization = cfg["update"].get("quantization")
    start = InitialUpdate.at(folder.start)
    return ModelRef(folder.load().run_name, source, folder.update, quantization, start)


def config_of(folder: RunFolder) -> tuple[DictConfig, ModelSource]:
    """The configuration of a run, and the base model it names."""
    cfg = strangers.read(folder.config)
    return cfg, instantiate.model_source(cfg)


def template_of(cfg: DictConfig, base: BaseModel) -> ChatRenderer:
    """The chat template a run was trained with, which loading its model has put on the tokenizer
    where it is not the base's own."""
    kind = "none" if cfg.data.template == "none" else "chat"
    return ChatRenderer(base.tokenizer, kind, template_options(cfg))


def template_options(cfg: DictConfig) -> TemplateOptions:
    """How the chat template is used; as by default where a run is older than a key."""
    kwargs = cfg.data.get("template_kwargs")
    return TemplateOptions(
        reasoning=cfg.data.get("reasoning") or "keep",
        kwargs=instantiate.plain(kwargs) if kwargs else {},
        score_empty_think=bool(cfg.data.get("score_empty_think")),
        mask=cfg.data.get("mask") or "answers",
    )


def source_named(name: str) -> ModelSource:
    """A preset, a folder or a hub id as a model source."""
    return instantiate.source(model_named(name))


def base_facts(cfg: DictConfig, base: BaseModel) -> dict[str, Any]:
    """What a saved update must say of the weights it stands on: what they are called here, what
    they are, and which tuned model they are where it was not tuned from the pretrained one."""
    source = instantiate.model_source(cfg)
    facts = {"base_content_hash": base.content_hash}
    if source.kind != "local":
        facts["base_model"] = source.name
    if cfg.model.get("start") is not None:
        facts["start"] = Path(str(cfg.model.start)).name
    return facts


def _adapter(folder: Path, base: str | None) -> ModelRef:
    """A saved update on its base: quantised as it was trained, and on what it was tuned on.

    Raises `AssetError` where what it stands on is not at hand.
    """
    updates.from_folder(folder)  # refuses what is not whole before a base is looked for
    said = updates.about(folder)
    start = InitialUpdate.at(folder.parent / "start")
    if "start" in said and start is None:
        raise AssetError(
            f"{folder} stands on a tuned model, {said['start']}, which is not beside it.",
            "Name the run's folder, or write both into one model: "
            "myosotis export RUN --to merged --out DIR",
        )
    quantization = said.get("settings", {}).get("quantization")
    source = _base_of(folder, base, said)
    return ModelRef(folder.name, source, folder, quantization, start if "start" in said else None)


def _base_of(folder: Path, base: str | None, said: Mapping[str, Any]) -> ModelSource:
    if base is not None:
        return source_named(base)
    named, config = said.get("base_model"), folder / "adapter_config.json"
    if not named and config.exists():
        try:
            named = read_json_object(config).get("base_model_name_or_path")
        except (OSError, ValueError) as error:
            raise AssetError(f"{config} cannot be read: {error}.") from None
    if not named or not isinstance(named, str):
        raise ConfigError(f"{folder} does not name its base model.", "Add --base MODEL.")
    if portable(named) is None and not Path(named).is_dir():
        raise AssetError(
            f"{folder} names its base by a path that is not here: {line(named)}",
            "Add --base MODEL: a folder, a hub id or a preset.",
        )
    preset = source_named("smollm2-135m")
    return preset if named == preset.id else source_named(named)
