"""What can go wrong in a way a person can act on.

Every error the product expects is a `MyosotisError`; the command line prints it without a
traceback and leaves with its `exit_code`. Anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import signal


class MyosotisError(Exception):
    """What was wrong, where, and (as `hint`) what would be right."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(MyosotisError):
    """A key, a group or a value that cannot be used."""


class DataError(MyosotisError):
    """A record or a data file that cannot be used; names the file and the line."""


class AssetError(MyosotisError):
    """A model, tokenizer or data set that is not at hand."""


class RunError(MyosotisError):
    """A run that had to stop: non-finite loss, full disk, weights that moved unasked."""

    exit_code = 1


SIGNALLED = 128
"""Exit codes above this: stopped by a signal, in good order."""


class Interrupted(MyosotisError):
    """The run was asked to stop and stopped in good order; exit code 128 + the signal."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name} after step {step}")
        self.exit_code = SIGNALLED + signum


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that an accelerator or the CPU allocator had no memory left."""
    text = str(error).lower()
    signs = (
        "out of memory",
        "can't allocate memory",
        "not enough memory",
        "cublas_status_alloc_failed",
    )
    return any(sign in text for sign in signs)
