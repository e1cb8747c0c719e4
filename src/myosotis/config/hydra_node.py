"""Hydra's own node, checked like every other before Hydra does what it says.

From `hydra` in a config Hydra makes callbacks, launchers, sweepers and logging handlers, sets the
environment, and imports packages to look for configs in. So a config folder could run any code.
What belongs here: which of that a config may ask for. The check stands where Hydra has composed a
config and done nothing with it yet, also for `plan`, for each trial, and for `--cfg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from importlib import metadata
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from myosotis.config.targets import resolve, trusted_by_the_user
from myosotis.utils import trust
from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import line, redacted
from myosotis.utils.own_files import refuse_links
from myosotis.utils.read_file import read_yaml

PLUGINS = (
    "hydra._internal.core_plugins.",
    "hydra_plugins.hydra_joblib_launcher.",
    "hydra_plugins.hydra_optuna_sweeper.",
    "hydra_plugins.hydra_submitit_launcher.",
)
TARGETS = {
    "sweeper": (*PLUGINS, "optuna.samplers."),
    "launcher": PLUGINS,
    "callbacks": ("hydra.experimental.callbacks.", "myosotis.cli.multirun.Opening"),
}
"""What Hydra makes objects of, and what each may name; callbacks also a package of the user's."""

# Counts of threads and choices of devices. Anything else (PATH, LD_PRELOAD, what grants trust …)
# is for the shell to set.
SETTABLE = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG",
    "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ENABLE_MPS_FALLBACK", "TOKENIZERS_PARALLELISM",
    "HF_HUB_OFFLINE", "NCCL_DEBUG", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_SOCKET_IFNAME",
)  # fmt: skip
HANDLERS = (
    *("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter"),
    *("logging.handlers.RotatingFileHandler", "logging.handlers.TimedRotatingFileHandler"),
    "colorlog.ColoredFormatter",
)
STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
OWN_FOLDER = ("${hydra.runtime.output_dir}/", "${hydra.sweep.dir}/")
SHELL = ("setup", "python", "srun_args", "additional_parameters", "stderr_to_stdout")
PACKAGES = ("hydra", "hydra_plugins", "myosotis")
DEEPEST = 32


@contextmanager
def guarded(words: Sequence[str] = ()) -> Iterator[None]:
    """While Hydra composes: every config it makes is checked; `words` are what was typed."""
    load = ConfigLoaderImpl.load_configuration
    open_source = ConfigSource.__init__  # of the base: Hydra loads the plugins' modules anew

    @wraps(load)
    def load_and_check(*args: Any, **kwargs: Any) -> DictConfig:
        cfg = load(*args, **kwargs)
        check(cfg, words)
        return cfg

    @wraps(open_source)
    def open_known(self: Any, provider: str, path: str) -> None:
        if self.scheme() == "pkg":
            _package(path.removeprefix("pkg://"))
        open_source(self, provider, path)
        if self.scheme() == "file":
            self.load_config = partial(_load, self, self.load_config)

    ConfigLoaderImpl.load_configuration = load_and_check
    ConfigSource.__init__ = open_known
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load
        ConfigSource.__init__ = open_source


def _load(source: Any, load: Callable[[str], Any], config_path: str) -> Any:
    """What Hydra reads of a file that it can read: a pipe is waited on, aliases may never end."""
    path = Path(source.path) / source._normalize_file_name(config_path)
    if not path.exists():
        return load(config_path)  # Hydra says what there is instead
    try:
        read_yaml(path)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"The config file {path} is not valid YAML: {said}.") from None
    return load(config_path)


def check(cfg: DictConfig, words: Sequence[str] = ()) -> None:
    """Raise `ConfigError` for what the `hydra` node of a composed config may not ask for."""
    hydra = cfg.hydra
    for part in TARGETS:
        _targets(part, _child(hydra, part), f"hydra.{part}")
    for key in _keys(_child(hydra.job, "env_set")):
        if key not in SETTABLE:
            raise ConfigError(
                f"hydra.job.env_set.{key}: a configuration cannot set this variable.",
                f"Set it in your shell, before the command. It can set {', '.join(SETTABLE[:5])} …",
            )
    for name in ("hydra_logging", "job_logging"):
        _logging(_child(hydra, name), f"hydra.{name}")
    for key in _swept(hydra):
        if key.startswith(("hydra.", "hydra/")) or key == "hydra":
            raise ConfigError(
                f"hydra.sweeper.params.{key}: Hydra's own settings are the same for all trials."
            )
    _storage(hydra)
    _said(cfg, words)
    _folders(hydra)


def _storage(hydra: DictConfig) -> None:
    """Optuna 2, which Hydra's sweeper needs, cannot write a database with SQLAlchemy 2.1."""
    if not (storage := _child(hydra.sweeper, "storage")):
        return
    shown = line(redacted(str(storage)))
    optuna, sqlalchemy = _version("optuna"), _version("sqlalchemy")
    if () < optuna < (3,) and sqlalchemy >= (2, 1):
        raise ConfigError(
            f"hydra.sweeper.storage={shown}: the installed optuna cannot write a "
            "database with the installed SQLAlchemy.",
            "Leave it out: the same command proposes the same trials again, and does not repeat "
            "those that are finished. Or: pip install 'sqlalchemy<2.1'",
        )


def _version(package: str) -> tuple[int, ...]:
    """The installed version's first two numbers; empty where there is none."""
    try:
        numbers = metadata.version(package).split(".")[:2]
    except metadata.PackageNotFoundError:
        return ()
    return tuple(int(n) for n in numbers if n.isdigit())


def _swept(hydra: DictConfig) -> list[str]:
    """The keys that a sweeper gives values to."""
    parts = [_child(hydra.sweeper, name) for name in ("params", "search_space")]
    return [key.lstrip("+~") for part in parts for key in _keys(part)]


def refuse_rerun(args: Sequence[str]) -> None:
    """`--experimental-rerun` would unpickle a file, and so run what is in it."""
    if any(arg.startswith("--experimental") for arg in args):
        raise ConfigError(
            "--experimental-rerun reads a pickle, which may run any code.",
            "Every run's record says the command that repeats it.",
        )


def _child(node: Any, key: Any) -> Any:
    """A child, resolved; None where it is missing or what it refers to is not known yet."""
    try:
        return node[key]
    except (OmegaConfBaseException, TypeError, KeyError, IndexError):
        return None


def _keys(node: Any) -> list[str]:
    return [str(key) for key in node] if isinstance(node, DictConfig) and node else []


def _targets(part: str, node: Any, where: str, depth: int = 0) -> None:
    """Every `_target_` at or below `node`, with what interpolations put there."""
    if depth > DEEPEST:
        raise ConfigError(f"{where} refers to itself.")
    if isinstance(node, ListConfig):
        for number in range(len(node)):
            _targets(part, _child(node, number), f"{where}[{number}]", depth + 1)
    if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
        return
    for key in node:
        path, value = f"{where}.{key}", _child(node, key)
        if key == "_target_":
            _target(part, str(value), path, depth)
        _targets(part, value, path, depth + 1)


def _target(part: str, name: str, where: str, depth: int) -> None:
    known = TARGETS.get(part, ())
    if name in known or name.startswith(tuple(each for each in known if each.endswith("."))):
        return
    if part == "callbacks" and depth == 1 and name.partition(".")[0] in trusted_by_the_user():
        from hydra.experimental.callback import Callback

        resolve(name, Callback, where)
        return
    listed = ", ".join(f"{each}*" if each.endswith(".") else each for each in known)
    raise ConfigError(f"{where}={name} is not what Hydra may make here.", f"Known: {listed}.")


def _logging(node: Any, where: str) -> None:
    """`logging.config` makes what `()` and `class` name, and writes where `filename` says."""
    if not isinstance(node, DictConfig | ListConfig):
        return
    keys = range(len(node)) if isinstance(node, ListConfig) else list(node)
    for key in keys:
        path, value = f"{where}.{key}", _child(node, key)
        if key in ("()", "."):
            raise ConfigError(f"{path} has no place here: logging would call it.")
        if key == "class" and value not in HANDLERS:
            raise ConfigError(f"{path}={value} is unknown.", f"Known: {', '.join(HANDLERS)}.")
        if (
            isinstance(value, str)
            and value.startswith(("ext://", "cfg://"))
            and value not in STREAMS
        ):
            raise ConfigError(f"{path}={value} is unknown.", f"Known: {', '.join(STREAMS)}.")
        if key in ("filename", "baseFilename"):
            raw = str(OmegaConf.to_container(node, resolve=False)[key])  # type: ignore[call-overload]
            if not raw.startswith(OWN_FOLDER) or ".." in raw:
                wish = f"{path}={raw} is written, outside the run's folder"
                trust.require("The configuration", [wish], "it")
        _logging(value, path)


def _package(name: str) -> None:
    """Looking for configs in a package imports it."""
    top = name.replace("/", ".").partition(".")[0]
    if top and top not in PACKAGES and top not in trusted_by_the_user():
        raise ConfigError(
            f"pkg://{name}: the package {top!r} is not trusted to run here.",
            f"If it is yours: MYOSOTIS_TRUSTED={top} myosotis …",
        )


def _said(cfg: DictConfig, words: Sequence[str]) -> None:
    """What a config file may hold and yet has to be typed: code of a model's, lines for a shell."""
    typed = {word.partition("=")[0].lstrip("+") for word in words}
    wishes = []
    asked = _child(_child(cfg, "model"), "trust_remote_code") is True
    asked = asked or "model.trust_remote_code" in _swept(cfg.hydra)
    if asked and "model.trust_remote_code" not in typed:
        wishes.append("model.trust_remote_code=true runs the model's own Python code")
    for key in SHELL:
        name = f"hydra.launcher.{key}"
        value = _child(cfg.hydra.launcher, key)
        if value and not isinstance(value, bool) and name not in typed:
            wishes.append(f"{name} runs commands where jobs start")
    if _child(cfg.hydra.sweeper, "custom_search_space"):
        wishes.append("hydra.sweeper.custom_search_space calls a function")
    trust.require("A config file", wishes, "it, or type the key as an override")


def _folders(hydra: DictConfig) -> None:
    """Hydra writes its files into the run's folder first of all."""
    for part in ("run", "sweep"):
        if part == "sweep" and str(hydra.get("mode")) != "RunMode.MULTIRUN":
            continue
        folder = _child(hydra[part], "dir")
        if isinstance(folder, str) and Path(folder).is_dir():
            refuse_links(Path(folder))
