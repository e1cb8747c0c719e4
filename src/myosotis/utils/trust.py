"""The person's word, in this command, that what came from elsewhere may act on this machine.

What belongs here: whether `--trust` was said, and which task files a run of one's own may use
again. What needs the word is decided where it would act: `config/strangers.py` for a run's
configuration, `config/hydra_node.py` for Hydra's, `retention/harness/sandbox.py` for task files.
docs/threat-model.md says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from myosotis.utils.errors import ConfigError

FLAG = "--trust"
ENVIRONMENT = "MYOSOTIS_TRUST"
"""`MYOSOTIS_TRUST=1` is `--trust` for a shell, and how a sweep's processes hear of it."""

_files: set[Path] = set()


def given() -> bool:
    """Whether the word was given for this command."""
    return os.environ.get(ENVIRONMENT) == "1"


@contextmanager
def word(said: bool) -> Iterator[None]:
    """One command, for which `--trust` was `said`; processes it starts hear of it."""
    before = os.environ.get(ENVIRONMENT)
    if said:
        os.environ[ENVIRONMENT] = "1"
    try:
        yield
    finally:
        _files.clear()
        if before is None:
            os.environ.pop(ENVIRONMENT, None)
        else:
            os.environ[ENVIRONMENT] = before


def allow(files: Sequence[str]) -> None:
    """Task files that a run of one's own used before: no word is needed again in this command."""
    _files.update(Path(file) for file in files)


def allowed(file: Path) -> bool:
    """Whether a task file may run code of its own."""
    return given() or file.absolute() in _files


def require(what: str, wishes: Sequence[str], where: Path | str) -> None:
    """Raise `ConfigError` unless there are no `wishes`, or the word was given for them.

    `what` came from elsewhere and would do `wishes`; `where` is the file to read first.
    """
    if wishes and not given():
        shown = "; ".join(wishes[:4]) + (f"; and {len(wishes) - 4} more" if wishes[4:] else "")
        raise ConfigError(
            f"{what} would act on this machine: {shown}.",
            f"It may come from a stranger. Read {where}; if you trust it, add {FLAG}.",
        )
