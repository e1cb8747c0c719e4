"""`myosotis sweep NAME`: a study of sweeps/, as a Hydra multirun, and its table at the end; of a
study of stages, one training after another (`sequence.py`).
"""

from __future__ import annotations

from typing import Any

from myosotis.cli import hydra_app, sequence
from myosotis.cli.studies import found, packaged

HELP = """usage: myosotis sweep NAME [key=value ...] [--json]

Run a study: many runs whose settings a YAML file lists, compared in a table and a scorecard. NAME
is sweeps/NAME.yaml in this folder, the path of such a file, or a study that comes with myosotis:
  {names}

A study that has `stages` instead of a grid runs them one after another, each from the last one's
weights, and measures after each how well the model still does the earlier tasks.

Every setting that `myosotis train --help` lists can be added. After a kill or a failed trial, the
same command runs only what is missing. `myosotis train -cd FOLDER -cn NAME` does the same.

  myosotis sweep rank_lr experiment=glance      takes minutes on two CPU cores
  myosotis sweep methods method=lora,ia3 trainer.max_steps=50
"""


def main(args: list[str]) -> Any:
    """Run `myosotis sweep ARGS`; returns {"sweep": …, "runs": […], "scorecard": path}."""
    if not args or args[0] in ("-h", "--help"):
        print(HELP.format(names=", ".join(packaged())), end="")
        return None
    path = found(args[0])
    if sequence.has_stages(path):
        return sequence.main(path, args[1:])
    return hydra_app.main(["-cd", str(path.parent), "-cn", path.stem, *args[1:]])
