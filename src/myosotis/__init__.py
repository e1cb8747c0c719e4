"""myosotis: fine-tune a language model, and see what it forgets.

For notebooks, `train` and `compare` do what the commands `myosotis train` and `myosotis evaluate`
do. Importing this package imports nothing heavy.
"""

from __future__ import annotations

import sys

if getattr(sys, "argv", [])[:1] == ["-m"] and not sys.flags.safe_path:
    # `python -m myosotis.cli` puts the working folder first on the path, and says "-m" until it has
    # found the module: nothing is imported from there, as with the command `myosotis`.
    del sys.path[0]

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from myosotis.records.schema import RunRecord

try:
    __version__ = version("myosotis")
except PackageNotFoundError:  # from a source tree that is not installed
    __version__ = "0.0.0"


def train(overrides: Sequence[str] = ()) -> RunRecord:
    """One run, as `myosotis train` with these overrides (`["method=lora", "optimizer.lr=2e-4"]`).

    Raises `MyosotisError` for what a person can mend.
    """
    from myosotis.commands.train import train as run

    return run(_composed(overrides), overrides)


def compare(
    base: str, tuned: str, suite: Sequence[str], overrides: Sequence[str] = ()
) -> RunRecord:
    """What `tuned` lost of `base` on the benchmarks of `suite` (lm-eval task names, and `prose`).

    Both are presets, folders or hub ids; `tuned` may be a PEFT adapter or a run. Raises
    `MyosotisError` for what a person can mend.
    """
    from myosotis.commands.evaluate import evaluate

    asked = [f"retention.suite=[{','.join(suite)}]", *overrides]
    words = ["evaluate", tuned, "--base", base, *asked]
    return evaluate(_composed(asked), tuned, base=base, command=words)


def _composed(overrides: Sequence[str]) -> Any:
    """The configuration; what Hydra says of a mistake is said as on the command line."""
    from myosotis.cli.errors import explained
    from myosotis.config import compose

    try:
        return compose(overrides)
    except Exception as error:
        if (ours := explained(error, overrides)) is None:
            raise
        raise ours from None
