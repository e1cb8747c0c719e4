"""Hydra's and OmegaConf's errors in plain words, with what would be right.

Their messages name the key; what they cannot say is which key was meant.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from contextlib import suppress

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from myosotis.config.compose import compose, options
from myosotis.utils.did_you_mean import did_you_mean, near
from myosotis.utils.errors import ConfigError, MyosotisError

# Names other tools give to our keys, and keys that have no place here.
ELSEWHERE = {
    "accumulate_grad_batches": "An optimiser step is defined by its examples: set data.batch_size. "
    "To save memory, lower trainer.rows_at_once.",
    "gradient_accumulation_steps": "An optimiser step is defined by its examples: set "
    "data.batch_size. To save memory, lower trainer.rows_at_once.",
    "learning_rate": "Did you mean optimizer.lr?",
    "rank": "Did you mean update.r?",
    "lora_r": "Did you mean update.r?",
    "alpha": "Did you mean update.lora_alpha?",
    "num_train_epochs": "Did you mean trainer.max_epochs?",
    "epochs": "Did you mean trainer.max_epochs?",
    "steps": "Did you mean trainer.max_steps?",
    "max_grad_norm": "Did you mean trainer.gradient_clip_val?",
    "per_device_train_batch_size": "Did you mean data.batch_size?",
    "warmup_steps": "Did you mean schedule.warmup?",
    "warmup_ratio": "Did you mean schedule.warmup?",
    "tasks": "Did you mean retention.suite?",
    "limit": "Did you mean retention.items?",
}


# Plugins of Hydra's, and the extra of ours that brings each.
EXTRAS = {
    "hydra/sweeper/optuna": "optuna",
    "hydra/launcher/joblib": "joblib",
    "hydra/launcher/submitit_local": "submitit",
    "hydra/launcher/submitit_slurm": "submitit",
}


def explained(error: Exception, args: Sequence[str]) -> MyosotisError | None:
    """The error as one of ours, or None when it is not about the configuration.

    `args` is the command line it came from, without the command's name.
    """
    if isinstance(error, OverrideParseException):
        return _not_an_override(error)
    if isinstance(error, MissingConfigException):
        return _no_such_option(error, args)
    if isinstance(error, ConfigCompositionException):
        return _does_not_compose(error, args)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return ConfigError(_first_line(error))
    if type(error).__module__.startswith("yaml."):
        return ConfigError(f"A config file is not valid YAML: {error}")
    if isinstance(error, ValueError) and str(error).startswith(("Only one of", "The --resolve")):
        return ConfigError(str(error))
    if isinstance(error, ValueError | OverflowError | RecursionError):
        # What Hydra, its grammar and OmegaConf raise of a value that they cannot take.
        said = _first_line(error)[:200]
        return ConfigError(f"The settings cannot be read: {said or 'nested too deeply'}.")
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _not_an_override(error: OverrideParseException) -> ConfigError:
    word = error.override or str(error)
    if "=" not in word:
        return ConfigError(
            f"Cannot read {word!r} as an override.",
            f"Overrides are key=value, without spaces around the sign: {word}=VALUE.",
        )
    return ConfigError(
        f"Cannot read the override {word!r}: {_first_line(error)}.",
        "Quote values with brackets, commas, spaces or = twice, once for the shell and once for "
        f"Hydra: {_quoted(word)}",
    )


def _quoted(word: str) -> str:
    """An override whose value is text, as one types it in a shell."""
    key, _, value = word.partition("=")
    inner = value.strip("'\"").replace("\\", "\\\\").replace('"', '\\"')
    return shlex.quote(f'{key}="{inner}"')


def _no_such_option(error: MissingConfigException, args: Sequence[str]) -> ConfigError:
    """`data=jsonll`: the group exists, the option does not."""
    wanted = error.missing_cfg_file or ""
    group, _, name = wanted.rpartition("/")
    if not group:
        return ConfigError(
            f"There is no config named {wanted!r}.",
            "-cn names a YAML file in the folder that -cd gives; without -cn it is train.",
        )
    if extra := EXTRAS.get(wanted):
        return ConfigError(
            f"{group}={name} is not installed.", f"pip install 'myosotis[{extra}]' brings it."
        )
    known = sorted(error.options or [])
    if not known:
        with suppress(Exception):
            known = options(group, config_dir(args))
    return ConfigError(f"There is no {group} {name!r}.", _meant(name, known))


def _meant(name: str, known: Sequence[str]) -> str:
    listed = f"Known: {', '.join(known)}." if known else ""
    matches = near(name, known)
    return f"{did_you_mean(name, matches)}\n{listed}".strip() if matches else listed


def _does_not_compose(error: ConfigCompositionException, args: Sequence[str]) -> ConfigError:
    message, cause = str(error).strip(), error.__cause__
    if found := re.match(r"Could not override '([^']+)'", message):
        return _no_such_key(found[1], args)
    if found := re.match(r"Could not delete from config. '([^']+)'", message):
        return _no_such_key(found[1].removesuffix("'"), args)
    if isinstance(cause, ValidationError):
        return _wrong_type(message, cause)
    if found := re.match(r"Multiple values for ([\w/]+)\.", message):
        return ConfigError(
            f"{found[1]} is given twice.", f"Write {found[1]}=NAME, once, without +."
        )
    if message.startswith("Ambiguous value"):
        word = message.split("\n")[0].partition("argument ")[2].strip("'")
        key, _, value = word.partition("=")
        return ConfigError(
            f"{word!r} could be a list or a sweep.",
            f"One run with a list: '{key}=[{value}]'. A run for each value: add -m.",
        )
    hint = "" if cause is None else _first_line(cause)
    return ConfigError(message.split("\n")[0], hint)


def _wrong_type(message: str, cause: ValidationError) -> ConfigError:
    given = message.removeprefix("Error merging override ")
    key = getattr(cause, "full_key", None) or given.partition("=")[0]
    what = _first_line(cause).rstrip(".")
    if "ListConfig" in what:
        value = given.partition("=")[2]
        return ConfigError(f"{key} takes a list, not {value!r}.", f"Write '{key}=[{value}]'.")
    if found := re.search(r"Value '(.*)' of type '\w+' could not be converted to (\w+)", what):
        wanted = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
        return ConfigError(f"{key} takes {wanted.get(found[2], found[2])}, not {found[1]!r}.")
    if found := re.search(r"Value '(.*)' is not a valid bool", what):
        return ConfigError(f"{key} takes true or false, not {found[1]!r}.")
    if found := re.search(r"Value '(.*)' of type .* with type hint '(.*)'", what):
        return ConfigError(f"{key} cannot be {found[1]}: {_kinds(found[2])}.")
    return ConfigError(f"{key}: {what}.", f"Given: {given}" if given != message else "")


def _kinds(hint: str) -> str:
    names = {"int": "a whole number", "float": "a number", "str": "a word"}
    kinds = re.findall(r"\w+", hint.partition("[")[2] or hint)
    return "it takes " + " or ".join(names.get(k, str(k)) for k in kinds if k != "NoneType")


def _no_such_key(key: str, args: Sequence[str]) -> ConfigError:
    """`update.rr=4` or `metod=lora`: nothing of that name in the config as chosen."""
    cfg = _composable(key, args)
    where, _, last = key.replace("/", ".").rpartition(".")
    if key in ONE_EACH:
        return ConfigError(f"{key} has no entries yet that could be replaced.", ONE_EACH[key])
    if cfg is None or last in ELSEWHERE:
        return ConfigError(f"There is no key {key!r}.", ELSEWHERE.get(last, ""))
    if not where:
        groups = ["method", "experiment"]
        known = [*map(str, cfg), *groups]
        leaves = _leaves_named(cfg, last)
        return ConfigError(f"There is no key {key!r}.", _or_elsewhere(last, known, leaves, ""))
    node = OmegaConf.select(cfg, where, default=None)
    if not isinstance(node, DictConfig):
        parent = where.split(".")[0]
        if parent not in cfg:
            return ConfigError(f"There is no key {key!r}.", did_you_mean(parent, map(str, cfg)))
        return ConfigError(f"There is no key {key!r}.", _or_elsewhere(last, [], [], where))
    chosen = node.get("name") if "name" in node else None
    title = f"{where} ({chosen})" if chosen and chosen != where else where
    if owners := _options_with(where, last):
        hint = f"{key} is a key of {where}={f' and {where}='.join(owners)}."
    else:
        hint = _or_elsewhere(last, list(map(str, node)), _leaves_named(cfg, last), where)
    return ConfigError(f"{title} has no key {last!r}.", hint)


ONE_EACH = {
    "callbacks": "Add one with '+callbacks.NAME={_target_: package.Class}'.",
}


def _options_with(group: str, key: str) -> list[str]:
    """The options of a group that have this key, where the chosen one has not."""
    found = []
    with suppress(Exception):
        for option in options(group):
            with suppress(Exception):
                if key in compose([f"{group}={option}"])[group]:
                    found.append(option)
    return found


def _or_elsewhere(name: str, here: list[str], elsewhere: list[str], where: str) -> str:
    """The keys here that are near, else the same name elsewhere, else all the keys here."""
    prefix = f"{where}." if where else ""
    if matches := near(name, here):
        return did_you_mean(name, matches).replace(matches[0], f"{prefix}{matches[0]}", 1)
    if elsewhere:
        return did_you_mean(elsewhere[0], elsewhere)
    return f"Known: {', '.join(sorted(here))}." if here else ""


def _leaves_named(cfg: DictConfig, name: str) -> list[str]:
    """Dotted keys anywhere in the config whose last part is near `name`."""
    leaves: dict[str, str] = {}

    def walk(node: DictConfig, prefix: str) -> None:
        for key in node:
            path = f"{prefix}{key}"
            leaves.setdefault(str(key), path)
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_none():
                walk(child, f"{path}.")

    walk(cfg, "")
    return [leaves[match] for match in near(name, leaves, 2)]


def _composable(key: str, args: Sequence[str]) -> DictConfig | None:
    """The config of the same command line without the offending override, to look for names in."""
    overrides = [a for a in args if "=" in a and not a.startswith("-")]
    kept = [o for o in overrides if o.lstrip("+~").partition("=")[0] != key]
    groups_only = [o for o in kept if "." not in o.partition("=")[0]]
    attempts: list[Callable[[], DictConfig]] = [
        lambda: compose(kept, config_dir=config_dir(args)),
        lambda: compose(groups_only, config_dir=config_dir(args)),
        lambda: compose(),
    ]
    for attempt in attempts:
        with suppress(Exception):
            return attempt()
    return None


def config_dir(args: Sequence[str]) -> str | None:
    """The value of -cd / --config-dir, if given."""
    for i, arg in enumerate(args):
        for flag in ("--config-dir", "-cd"):
            if arg == flag and i + 1 < len(args):
                return args[i + 1]
            if arg.startswith(f"{flag}="):
                return arg.partition("=")[2]
    return None
