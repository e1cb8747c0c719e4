"""What a run is called and searched by: its name for people, and the params and tags of MLflow.

All of it is known from the configuration, before anything is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from myosotis.config import learning_rate
from myosotis.config.instantiate import plain
from myosotis.config.recorded import literal, recorded
from myosotis.records.run_folder import RunFolder, SweepFolder, SweepInfo
from myosotis.tracking.mlflow_store import FOLDER, without_credentials

DEFAULT_MODEL = "smollm2-135m"
"""What conf/train.yaml takes; a run's name leaves it out."""

OWN_FILES = ("jsonl", "pairs", "graded")
"""Names that say only how a file is read (conf/data): the file's own name tells runs apart."""

ENDINGS = re.compile(r"(\.(jsonl?|ndjson|csv|tsv|txt|parquet|gz|zst))+$", re.IGNORECASE)

# What one filters and sorts runs by; the whole configuration is an artifact.
SEARCHABLE = (
    *("update", "objective", "optimizer", "schedule", "model.id", "data.name", "data.batch_size"),
    *("data.row_tokens", "trainer.max_steps", "trainer.max_epochs", "trainer.precision"),
    *("retention.suite", "retention.items", "retention.budget", "retention.num_fewshot", "seed"),
)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as it is recorded: with no password, and nothing of the environment."""
    config = recorded(cfg)
    if uri := config["tracking"]["uri"]:
        config["tracking"]["uri"] = without_credentials(uri)
    return config


def model_name(cfg: DictConfig) -> str:
    """The model in a word: the last part of its id, else of its folder."""
    return _last_part(str(cfg.model.id or cfg.model.get("path") or ""))


def data_name(cfg: DictConfig) -> str:
    """The data in a word: its name, or its file's where the name says only how it is read."""
    file = _data_file(cfg)
    return ENDINGS.sub("", file) if file and cfg.data.name in OWN_FILES else str(cfg.data.name)


def _data_file(cfg: DictConfig) -> str:
    return _last_part(str(cfg.data.get("path") or ""))


def _last_part(path: str) -> str:
    """`mine` of /a/mine/, owner/mine, hub:owner/mine and hub:mine."""
    return path.rstrip("/").rpartition("/")[2].removeprefix("hub:")


def run_name(cfg: DictConfig) -> str:
    """What sets this run apart, for people: of equal names the run id tells."""
    update, objective = cfg["update"], cfg.objective
    rank = f"-r{update.r}" if "r" in update else ""
    targets = update.get("target_modules")
    where = f"-{targets}" if targets in ("attention", "mlp") else ""
    beta = f"-beta{objective.beta:g}" if "beta" in objective else ""
    loss = f"-{objective.name}{beta}" if objective.name != "sft" else ""
    rate = f"{learning_rate(cfg).value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    model = "" if (name := model_name(cfg)) == DEFAULT_MODEL else f"-{name}"
    kept = "".join(f"-{name}" for name in [*rewards(cfg), *controls(cfg)])
    words = f"{update.name}{rank}{where}{loss}{kept}-lr{rate}{model}-{data_name(cfg)}-s{cfg.seed}"
    return re.sub(r"\s+", "_", words)


def params(cfg: DictConfig, swept: Sequence[str] = ()) -> dict[str, Any]:
    """The values of the searchable keys and of those that `swept` sets, flat.

    What names a class is left out, and of files and folders everything but their names.
    """
    values: dict[str, Any] = {}
    plainly = literal(cfg)
    for word in swept:
        key, _, given = word.lstrip("+").partition("=")
        value = OmegaConf.select(plainly, key)
        values[key] = given if value is None or isinstance(value, DictConfig) else value
    for key in SEARCHABLE:
        node = OmegaConf.select(plainly, key)
        leaves = plain(node) if isinstance(node, DictConfig) else {"": node}
        values |= {f"{key}.{name}".rstrip("."): leaf for name, leaf in leaves.items()}
    for name, settings in controls(plainly).items():
        values |= {f"control.{name}.{key}": _shown(value) for key, value in settings.items()}
    for name, settings in rewards(plainly).items():
        values |= {f"reward.{name}.{key}": _shown(value) for key, value in settings.items()}
    values["optimizer.lr"] = learning_rate(cfg).value
    values |= {"model.name": model_name(plainly), "data.file": _data_file(plainly)}
    return {k: v for k, v in values.items() if not k.endswith(("._target_", "path"))}


def controls(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """The controls of a configuration and their settings; none in one from before there were."""
    return plain(cfg).get("control") or {}


def rewards(cfg: DictConfig) -> dict[str, dict[str, Any]]:
    """The rewards of a configuration and their settings, likewise."""
    return plain(cfg).get("reward") or {}


def _shown(value: Any) -> Any:
    """A setting of a control or a reward; of a file of texts its name alone."""
    is_path = isinstance(value, str) and ("/" in value or "\\" in value)
    return _last_part(value) if is_path else value


def tags(cfg: DictConfig, config_hash: str, swept: Sequence[str] = ()) -> dict[str, Any]:
    """How a run is filed: by method, model, data, and what sets it apart in its sweep."""
    cfg = literal(cfg)
    update, objective = cfg["update"].name, cfg.objective.name
    labels = {
        "method": update if objective == "sft" else objective,
        "update": update,
        "objective": objective,
        "model": model_name(cfg),
        "data": data_name(cfg),
        "control": "+".join(controls(cfg)) or "none",
        "reward": "+".join(rewards(cfg)) or "none",
        "seed": cfg.seed,
        "config_hash": config_hash,
    }
    return labels | ({"swept": " ".join(swept)} if swept else {})


def place_tags(folder: RunFolder | SweepFolder, sweep: str | None) -> dict[str, str]:
    """Where a run lies, and the name of the sweep that it is part of."""
    where = {FOLDER: str(folder.path.resolve())}
    return where if sweep is None else {**where, "sweep": sweep}


def swept(command: Sequence[str], sweep: SweepInfo | None) -> list[str]:
    """The overrides of a trial's command that its sweep's own command does not have."""
    if sweep is None:
        return []
    shared = set(sweep.command)
    own = ("out=", "resume=", "hydra.", "hydra/", "-")
    return [w for w in command if "=" in w and w not in shared and not w.startswith(own)]


def shown(command: Sequence[str]) -> list[str]:
    """A command as it is recorded: with no password in it."""
    return [without_credentials(word) for word in command]
