"""Programs that nobody has read, run where they can do no harm: `bubblewrap` (bwrap) locks them in.

Such a program sees Python and its standard library, read only, and nothing else of the machine: no
network, no other process, no environment variable, no place to write to, and it cannot start
another one. It may use so much memory and so many seconds, and what it prints is thrown away.
Without bubblewrap, or where the system does not let it work, nothing is run at all.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

from myosotis.utils.errors import ConfigError

NAME = "bwrap"

# What starts a process, by processor: its AUDIT_ARCH and the numbers of clone, fork, vfork, clone3
# (linux/audit.h, asm/unistd.h). A limit on processes does not bind the root user, a filter does.
_STARTS = {
    "x86_64": (0xC000003E, (56, 57, 58, 435)),
    "aarch64": (0xC00000B7, (220, 435)),
}

# Limits are set, and output is turned away, before the program's first line. The word at the end is
# written only where its last line was reached: leaving early is not passing.
_WITHIN = """
import os, resource, sys
word = sys.stdin.readline().strip()
program = sys.stdin.read()
seconds, memory = int(sys.argv[1]), int(sys.argv[2])
for limit, most in (
    (resource.RLIMIT_CPU, seconds),
    (resource.RLIMIT_AS, memory),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(limit, (most, most))
out = os.dup(1)
nothing = os.open(os.devnull, os.O_WRONLY)
os.dup2(nothing, 1)
os.dup2(nothing, 2)
sys.argv[1:] = []
exec(compile(program, "answer", "exec"), {"__name__": "__main__"})
os.write(out, word.encode())
"""


def require() -> None:
    """Raise `ConfigError` where programs cannot be locked in on this machine."""
    if why := _obstacle():
        raise ConfigError(
            f"Answers that are programs cannot be run here: {why}.",
            "They run in bubblewrap (Debian, Ubuntu, Fedora: the package bubblewrap) on Linux, or "
            "not at all.",
        )


@cache
def _obstacle() -> str:
    if platform.machine() not in _STARTS:
        return f"there is no filter of system calls for {platform.machine()}"
    if shutil.which(NAME) is None:
        return f"{NAME} is not installed"
    try:
        return "" if passes("assert 1 + 1 == 2") else f"{NAME} does not work on this system"
    except OSError as error:
        return f"{NAME} does not start ({error.strerror})"


def passes(program: str, *, seconds: int = 10, memory_mb: int = 512) -> bool:
    """Whether a Python program runs to its last line without an error, within so many seconds (of
    the processor, and at most three times as many by the clock) and megabytes."""
    word = secrets.token_hex(16)
    limits = [str(seconds), str(memory_mb * 2**20)]
    rules = _filter()
    try:
        done = subprocess.run(
            [*_locked(), "--seccomp", str(rules), *_python(), *limits],
            input=f"{word}\n{program}".encode(errors="replace"),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=3 * seconds,
            cwd="/",
            env={},
            pass_fds=[rules],
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        os.close(rules)
    return done.returncode == 0 and done.stdout == word.encode()


def _filter() -> int:
    """An open file with the seccomp filter (seccomp(2)) by which no process can be started: calls
    of another architecture end the program, those of `_STARTS` are not permitted."""
    arch, starts = _STARTS[platform.machine()]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06
    kill, refuse, allow = 0x80000000, 0x00050001, 0x7FFF0000
    rules = [(load, 0, 0, 4), (equal, 1, 0, arch), (give, 0, 0, kill), (load, 0, 0, 0)]
    rules += [(at_least, 0, 1, 0x40000000), (give, 0, 0, kill)]  # the other numbering of x86
    for number in starts:
        rules += [(equal, 0, 1, number), (give, 0, 0, refuse)]
    rules.append((give, 0, 0, allow))
    opened = os.memfd_create("seccomp")
    os.write(opened, b"".join(struct.pack("HBBI", *rule) for rule in rules))
    os.lseek(opened, 0, os.SEEK_SET)
    return opened


def _python() -> list[str]:
    """This Python without site packages, which looks nowhere but in its standard library."""
    return [os.path.realpath(sys.executable), "-I", "-S", "-B", "-c", _WITHIN]


def _locked() -> list[str]:
    """bwrap with all that a program sees; its processes end with it."""
    command = [shutil.which(NAME) or NAME, "--unshare-all", "--die-with-parent", "--new-session"]
    command += ["--clearenv", "--cap-drop", "ALL"]
    for place in _seen():
        command += ["--ro-bind", place, place]
    for link in ("/bin", "/lib", "/lib64"):
        if Path(link).is_symlink():
            command += ["--symlink", str(Path(link).readlink()), link]
        elif Path(link).is_dir():
            command += ["--ro-bind", link, link]
    for device in ("/dev/null", "/dev/urandom"):
        command += ["--dev-bind", device, device]
    return [*command, "--chdir", "/", "--remount-ro", "/"]


def _seen() -> list[str]:
    """The folders of Python and of the libraries of the system that it is linked with."""
    prefix = Path(sys.base_prefix).resolve()
    within = prefix == Path("/usr") or Path("/usr") in prefix.parents
    return ["/usr", *([] if within else [str(prefix)])]
