"""A file is as it was or as it is to be, and nothing lies beside it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from myosotis.utils.atomic_write import new_folder, replacing, write_bytes, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_there_to_the_byte(tmp_path: Path) -> None:
    write_text(tmp_path / "made" / "a.txt", "ü\r\n")
    write_bytes(tmp_path / "made" / "b", b"\0\n")
    assert (tmp_path / "made" / "a.txt").read_bytes() == b"\xc3\xbc\r\n"
    assert (tmp_path / "made" / "b").read_bytes() == b"\0\n"
    assert names(tmp_path / "made") == ["a.txt", "b"]


def test_until_the_end_a_reader_sees_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_text(path, "old")
    with replacing(path) as partial, partial.open("w") as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old" and partial.parent == tmp_path
    assert path.read_text() == "new" and names(tmp_path) == ["record.json"]


def test_it_is_as_readable_as_any_other_file(tmp_path: Path) -> None:
    """`tempfile` makes files for their owner alone; a cache may be shared."""
    before = os.umask(0o022)
    try:
        write_text(tmp_path / "kept", "")
    finally:
        os.umask(before)
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "kept"
    write_text(path, "old")
    with pytest.raises(type(error)), replacing(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["kept"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_as_the_system_says_it(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    write_text(path, "old")
    with pytest.raises(OSError) as caught, replacing(path) as partial:
        partial.symlink_to("/dev/full")
        partial.write_text("new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old" and names(tmp_path) == ["kept"]


KILLED = """
import os, signal, sys
from pathlib import Path
from myosotis.utils.atomic_write import replacing

def killed(self, target):
    assert self.read_bytes() == b"new" * 100_000
    os.kill(os.getpid(), signal.SIGKILL)

Path.replace = killed
path = Path(sys.argv[1])
with replacing(path, partial=path.with_name("fixed.partial")) as partial:
    partial.write_bytes(b"new" * 100_000)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_kill_before_the_swap_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"old" * 100_000)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old" * 100_000
    assert names(tmp_path) == ["fixed.partial", "last.ckpt"]
    with replacing(path, partial=path.with_name("fixed.partial")) as partial:
        partial.write_bytes(b"next")  # what the kill left behind is written over
    assert path.read_bytes() == b"next" and names(tmp_path) == ["last.ckpt"]


def test_several_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    contents = [str(number) * 200_000 for number in range(8)]
    threads = [threading.Thread(target=write_text, args=(path, text)) for text in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in contents and names(tmp_path) == ["shared"]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "start") as partial:
        (partial / "update.json").write_text("{}")
        assert not (tmp_path / "start").exists()
    assert names(tmp_path) == ["start"] and names(tmp_path / "start") == ["update.json"]


def test_the_folder_of_another_process_stays(tmp_path: Path) -> None:
    with new_folder(tmp_path / "start") as partial:
        (partial / "mine").write_text("")
        (tmp_path / "start").mkdir()
        (tmp_path / "start" / "theirs").write_text("")
    assert names(tmp_path) == ["start"] and names(tmp_path / "start") == ["theirs"]


def test_a_folder_that_fails_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), new_folder(tmp_path / "start") as partial:
        (partial / "half").write_text("")
        raise ValueError("mine")
    assert names(tmp_path) == []
