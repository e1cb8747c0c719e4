"""Tab completion: `eval "$(myosotis -sc install=bash)"` (zsh: the same; fish: install=fish).

Hydra completes overrides; the command's name, which stands before them, is ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(args: list[str], commands: Sequence[str]) -> int:
    """Answer the shell: the script to install, or the words that may come next."""
    import hydra

    from myosotis.config.compose import PRIMARY
    from myosotis.config.hydra_node import guarded
    from myosotis.config.schema import register

    if any(arg.startswith("query=") for arg in args):
        words = os.environ.get("COMP_LINE", "").split(" ")
        if len(words) <= 2:
            start = words[1] if len(words) == 2 else ""
            print(" ".join(name for name in commands if name.startswith(start)))
            return 0
        # Hydra reads the line itself: leave out our word.
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    register()
    argv, sys.argv = sys.argv, ["myosotis", *args]
    try:
        with guarded(args):
            hydra.main(config_path=PRIMARY, config_name="train", version_base="1.3")(_nothing)()
    finally:
        sys.argv = argv
    return 0


def _nothing(_: object) -> None:
    """Hydra wants a job; completion never runs it."""
