"""`myosotis sweep NAME`: a study of sweeps/, as a Hydra multirun, and its table at the end."""

from __future__ import annotations

from typing import Any

from myosotis.cli import hydra_app
from myosotis.cli.studies import found, packaged

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
    return hydra_app.main(["-cd", str(path.parent), "-cn", path.stem, *args[1:]])
