"""Programs that nobody has read: what they can do (run to their end) and what they cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.utils import sandbox
from myosotis.utils.errors import ConfigError


@pytest.fixture(autouse=True)
def there() -> None:
    try:
        sandbox.require()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    "program",
    [
        "assert sum([1, 2]) == 3",
        "import json, re, math, collections, itertools\nprint('x' * 10**6)",
        "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nassert f(10) == 55",
        "import os\nassert not os.environ.keys() - {'PWD', 'LC_CTYPE'}",
    ],
)
def test_what_a_right_program_does(program: str) -> None:
    assert sandbox.passes(program)


@pytest.mark.parametrize(
    "program",
    [
        "assert sum([1, 2]) == 4",
        "def f(:",
        "import sys\nsys.exit(0)",  # leaves before its tests
        "import os\nos._exit(0)",
        "while True:\n    pass",
        "'x' * 10**9",
        "import os\nos.fork()",
        "import subprocess\nsubprocess.run(['true'], check=True)",
        "import threading\nthreading.Thread(target=print).start()",
        "open('/tmp/new', 'w')",
        "open('/new', 'w')",
        "import os\nos.remove('/usr/bin/env')",
        "import numpy",  # site packages are not there
        "import socket\nsocket.create_connection(('127.0.0.1', 80), timeout=1)",
        "import socket\nassert len(socket.if_nameindex()) > 1",
        "import os\nassert len([p for p in os.listdir('/proc') if p.isdigit()]) > 0",
    ],
)
def test_what_no_program_does(program: str) -> None:
    assert not sandbox.passes(program, seconds=1, memory_mb=256)


def test_files_of_the_user_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    assert not sandbox.passes(f"open({str(tmp_path / 'secret')!r})")
    assert not sandbox.passes(f"open({str(Path(__file__))!r})")


def test_other_processes_are_out_of_reach() -> None:
    """A signal to every process reaches none of the machine: this one goes on."""
    sandbox.passes("import os, signal\nos.kill(-1, signal.SIGKILL)", seconds=2)
    sandbox.passes("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", seconds=2)
    assert sandbox.passes("assert True")
