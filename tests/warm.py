"""`python -m myosotis.cli …` in a process of its own, without ten seconds of imports each time.

A server imports the libraries (not myosotis, and nothing of it) once a test session. For each
command it forks a process with its own session, folder, environment, streams and signals, which
then does what `python -m` does. It is a child of the tests: waited for and killed as any other.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

LIBRARIES = (
    "torch",
    "transformers",
    "transformers.models.llama.modeling_llama",
    "transformers.generation.utils",
    "lightning",
    "lightning.pytorch",
    "mlflow",
    "mlflow.tracking._tracking_service.utils",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.db.utils",
    "sqlalchemy.dialects.sqlite",
    "alembic.command",
    "alembic.autogenerate",
    "peft",
    "hydra.main",
    "hydra.utils",
    "hydra._internal.hydra",
    "rich.progress",
    "rich.table",
    "lm_eval.api.task",
    "rouge_score.rouge_scorer",
    "sacrebleu",
    "scipy.stats",
)
SUBREAPER = 36  # prctl: orphans of descendants become this process's children


class Server:
    """The process that has imported everything; `start` forks it."""

    def __init__(self) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0)
        self.line, far = socket.socketpair()
        env = {**os.environ, "OMP_NUM_THREADS": "1"}  # a pool of threads would not survive a fork
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(far.fileno())], pass_fds=[far.fileno()], env=env
        )
        far.close()
        atexit.register(self.line.close)
        self.lock = threading.Lock()

    def start(self, args: list[str], cwd: Path, env: dict[str, str]) -> Process:
        ours, theirs = zip(os.pipe(), os.pipe(), strict=True)
        with self.lock:
            request = json.dumps([args, str(cwd), env]).encode()
            socket.send_fds(self.line, [len(request).to_bytes(8)], list(theirs))
            self.line.sendall(request)
            pid = int.from_bytes(self.line.recv(8))
        for fd in theirs:
            os.close(fd)
        return Process(args, pid, *ours)


class Process(subprocess.Popen[str]):
    """A process that the server started; see `subprocess.Popen`."""

    def __init__(self, args: list[str], pid: int, out: int, err: int) -> None:
        self.args, self.pid, self.returncode = args, pid, None
        self.stdin, self.stdout, self.stderr = None, os.fdopen(out), os.fdopen(err)
        self.text_mode = self.universal_newlines = True
        self._waitpid_lock = threading.Lock()
        self._input: Any = None
        self._communication_started = False
        self._child_created = True
        self._sigint_wait_secs = 0.25


_server: Server | None = None


def start(args: list[str], cwd: Path, env: dict[str, str], **options: Any) -> subprocess.Popen[str]:
    """Start `python -m myosotis.cli` with these arguments; text streams, a session of its own.

    A fresh interpreter for `options` of `subprocess.Popen`.
    """
    global _server
    if options or not sys.platform.startswith("linux"):
        return subprocess.Popen(
            [sys.executable, "-m", "myosotis.cli", *args],
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )
    _server = _server or Server()
    return _server.start(args, cwd, env)


# ------------------------------------------------------------------ in the server


def serve(line: socket.socket) -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a process that is forked does not go through the libraries
    while True:
        size, fds, *_ = socket.recv_fds(line, 8, 2)
        if not size:
            return
        request = b""
        while len(request) < int.from_bytes(size):
            request += line.recv(1 << 16)
        back, forth = os.pipe()
        middle = os.fork()
        if middle == 0:
            pid = os.fork()
            if pid == 0:
                for end in (line.fileno(), back, forth):
                    os.close(end)
                run(*json.loads(request), *fds)
            os.write(forth, pid.to_bytes(8))
            os._exit(0)
        os.waitpid(middle, 0)  # from here on the process is a child of the tests
        line.sendall(os.read(back, 8))
        for fd in (back, forth, *fds):
            os.close(fd)


def run(args: list[str], cwd: str, env: dict[str, str], out: int, err: int) -> NoReturn:
    """What the interpreter does for `python -m myosotis.cli ARGS`."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for fd, stream in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(fd, stream)
        os.close(fd)
    if before := env.get("WARM_BEFORE"):  # a script that changes the process first
        runpy.run_path(before)
    sys.argv = ["myosotis", *args]
    sys.path[0] = cwd
    try:
        runpy.run_module("myosotis.cli", run_name="__main__", alter_sys=True)
        code: Any = 0
    except SystemExit as stop:
        code = stop.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
