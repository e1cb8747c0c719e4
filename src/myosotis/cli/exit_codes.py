"""How a command ends: exit code, message, JSON document.

0    done, and within the retention budget where a gate was asked for
2    bad configuration or input: a message, no traceback
3, 4 with retention.gate=true: forgotten, not settled
130, 143  after Ctrl-C, SIGTERM
1    anything else; a bug shows its traceback
"""

from __future__ import annotations

import errno
import json as json_format
import os
import signal
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from myosotis.utils.errors import MyosotisError
from myosotis.utils.escape import visible


class JobsFailed(MyosotisError):
    """Trials of a sweep that failed; each has told its own story already."""

    exit_code = 1

    def __init__(self, message: str, hint: str, document: dict[str, Any]) -> None:
        super().__init__(message, hint)
        self.document = document


class Gated(Exception):
    """A finished run whose verdict does not pass its gate; carries the result and the code."""

    def __init__(self, result: Any, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.result = result
        self.exit_code = exit_code


def report(command: Callable[[], Any], *, json: bool) -> int:
    """Run `command`; print its result as JSON when asked for; return the exit code."""
    with _stdout_for_results(json) as out, only_our_warnings():
        try:
            document, code = command(), 0
        except Gated as gated:
            document, code = gated.result, gated.exit_code
        except BaseException as error:  # noqa: BLE001 - where every error ends
            document, code = _failed(error)
        if json and document is not None:
            from myosotis.records.codec import plain

            text = json_format.dumps(plain(document), ensure_ascii=False, allow_nan=False, indent=2)
            out.write(text + "\n")
            out.flush()
    return code


@contextmanager
def only_our_warnings() -> Iterator[None]:
    """Libraries warn about each other; `python -W` or PYTHONWARNINGS brings that back."""
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.filterwarnings("ignore", module=r"(?!myosotis)")
        yield


def _failed(error: BaseException) -> tuple[Any, int]:
    """The JSON document and the exit code of an error, after showing it."""
    error = _of_the_machine(error) or error
    if isinstance(error, MyosotisError):
        show(error)
        document: dict[str, Any] = {"error": error.message, "hint": error.hint}
        if isinstance(error, JobsFailed):
            document |= error.document
        return {**document, "exit_code": error.exit_code}, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        # Shells read 128 + the signal's number.
        code = int(getattr(error, "exit_code", 128 + signal.SIGINT))
        return {"error": "interrupted", "exit_code": code}, code
    if isinstance(error, SystemExit):
        if error.code is None or error.code == 0:
            return None, 0
        code = error.code if isinstance(error.code, int) else 1
        if not isinstance(error.code, int):
            print(visible(str(error.code)), file=sys.stderr)
        return {"error": "stopped", "exit_code": code}, code
    sys.stderr.write(visible("".join(traceback.format_exception(error))))
    return {"error": f"{type(error).__name__}: {error}", "exit_code": 1}, 1


CANNOT = (
    *("EACCES", "EDQUOT", "EFBIG", "EIO", "ELOOP", "EMFILE", "ENAMETOOLONG", "ENFILE", "ENOSPC"),
    *("ENXIO", "EPERM", "EROFS", "ESTALE", "ETXTBSY"),
)
"""What the system says of a disk or a path, and no fault of ours makes it say."""


def _of_the_machine(error: BaseException) -> MyosotisError | None:
    """A disk that is full, a folder that cannot be written, a setting that is none: told in words
    wherever it is met."""
    if type(error).__module__ == "omegaconf.errors":  # of a configuration, always
        return MyosotisError(str(error).split("\n")[0])
    if not isinstance(error, OSError) or errno.errorcode.get(error.errno or 0) not in CANNOT:
        return None
    where = f"{str(error.filename)[:200]}: " if error.filename else ""
    return MyosotisError(
        f"{where}{error.strerror}.",
        "Free space, change permissions, or choose another folder (out=FOLDER, --out).",
    )


def show(error: MyosotisError) -> None:
    """The message and what would be right, on stderr, without traceback."""
    from rich.text import Text

    from myosotis.utils.console import console

    console.print(
        Text("error: ", "bold red")
        + Text(_wrapped(error.message, console.width, first=len("error: ")), "default"),
        soft_wrap=True,
    )
    if error.hint:
        console.print(Text(_wrapped(error.hint, console.width), "dim"), soft_wrap=True)


def _wrapped(text: str, width: int, first: int = 0) -> str:
    """Sentences in lines of the terminal's width.

    A word is never broken (a path stays whole, to be copied), nor is a line that is a command. The
    first line begins `first` characters to the right.
    """
    lines = []
    for number, line in enumerate(text.splitlines()):
        lines += (
            [line]
            if line.lstrip().startswith("myosotis ")
            else textwrap.wrap(
                line,
                width,
                initial_indent=" " * first if number == 0 else "",
                break_long_words=False,
                break_on_hyphens=False,
            )
            or [""]
        )
    return "\n".join(lines)[first:]


@contextmanager
def _stdout_for_results(json: bool) -> Iterator[TextIO]:
    """With `json`, keep the real stdout for the result and send all other output to stderr.

    The file descriptor itself is redirected, so that what child processes and C libraries print
    cannot get into the document.
    """
    if not json:
        yield sys.stdout
        return
    sys.stdout.flush()
    kept, previous = os.dup(1), sys.stdout
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out:
            yield out
    finally:
        sys.stdout = previous
        os.dup2(kept, 1)
        os.close(kept)
