"""`myosotis sweep NAME`: a study of sweeps/, as a Hydra multirun, and its table at the end."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from myosotis.cli import train
from myosotis.config.suggest import did_you_mean
from myosotis.errors import ConfigError

HELP = """usage: myosotis sweep NAME [key=value ...] [--json]

A study: sweeps/NAME.yaml of this folder, else one that comes with myosotis ({names}), or a path to
one. The same as `myosotis train -cd FOLDER -cn NAME`; what `myosotis train --help` lists works here
too. After a kill or a failed trial the same command runs exactly the rest.

  myosotis sweep rank_lr experiment=glance      minutes on two CPU cores
  myosotis sweep methods method=lora,ia3 trainer.max_steps=50
"""


def main(args: list[str]) -> Any:
    """Run `myosotis sweep ARGS`; returns {"sweep": …, "runs": […], "scorecard": path}."""
    if not args or args[0] in ("-h", "--help"):
        print(HELP.format(names=", ".join(packaged())), end="")
        return None
    path = found(args[0])
    return train.main(["-cd", str(path.parent), "-cn", path.stem, *args[1:]])


def packaged() -> list[str]:
    """The studies that come with myosotis."""
    return sorted(Path(f.name).stem for f in files("myosotis.sweeps").iterdir() if _is_yaml(f.name))


def found(name: str) -> Path:
    """The file of a study. Raises `ConfigError` with near names when there is none."""
    here = Path("sweeps") / f"{name}.yaml"
    for path in (Path(name), here):
        if _is_yaml(path.name) and path.is_file():
            return path.absolute()
    with as_file(files("myosotis.sweeps")) as folder:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    own = [p.stem for p in Path("sweeps").glob("*.yaml")]
    known = sorted({*own, *packaged()})
    hint = did_you_mean(name, known) or f"There is {', '.join(known)}."
    raise ConfigError(f"There is no sweep {name!r}.", hint)


def _is_yaml(name: str) -> bool:
    return name.endswith(".yaml")
