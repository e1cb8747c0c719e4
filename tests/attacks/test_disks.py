"""Folders that cannot be written, disks that are full, files of others where we would write: every
command that writes says so in one message, and nothing that was there is lost.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from myosotis.cli import main

from .broken import words
from .test_broken_inputs import UNTRACKED, refused, whole, world

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds of Linux")
__all__ = ["whole", "world"]  # fixtures

WRITERS: dict[str, list[str]] = {
    "train": ["train", *words("out=locked/new")],
    "train-tracked": ["train", *UNTRACKED, "tracking.uri=locked/x.db"],
    "sweep": ["train", "-m", *words()[:-1], "seed=0,1", "hydra.sweep.dir=locked/sweep"],
    "evaluate": ["evaluate", "model", *words("retention.suite=[own.jsonl]", "out=locked/new")],
    "export": ["export", "runs/it", "--to", "merged", "--out", "locked/new"],
    "dial": ["dial", "runs/it", "--out", "locked/new"],
    "scorecard": ["scorecard", "runs/it", "--out", "locked/page.html"],
    "figures": ["scorecard", "runs/it", "--out", "p.html", "--figures", "locked/figures"],
    "compare": ["compare", "table.csv", "table.csv", "--out", "locked/page.html"],
}
TABLE = "item,score\n" + "".join(f"{n},{n % 2}\n" for n in range(40))

CAPABILITIES = 0x20080522  # version 3 of the interface, in linux/capability.h
OVERRIDE, SEARCH = 1, 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inherited"))


@contextmanager
def like_anybody() -> Iterator[None]:
    """Permissions hold: for root, too, while it does without the right to pass over them."""
    libc, header = ctypes.CDLL(None, use_errno=True), _Header(CAPABILITIES, 0)
    data = (_Data * 2)()
    assert libc.capget(ctypes.byref(header), data) == 0
    before = data[0].effective
    data[0].effective &= ~(1 << OVERRIDE | 1 << SEARCH)
    assert libc.capset(ctypes.byref(header), data) == 0
    try:
        yield
    finally:
        data[0].effective = before
        assert libc.capset(ctypes.byref(header), data) == 0


@contextmanager
def full() -> Iterator[None]:
    """No file can grow any more: as near to a full disk as a process gets without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_a_read_only_folder_is_told_before_any_weights_load(
    name: str, world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (world / "table.csv").write_text(TABLE)
    (world / "locked").mkdir(mode=0o555)
    with like_anybody():
        said = refused(WRITERS[name], capfd)
    assert "locked" in said
    assert list((world / "locked").iterdir()) == []


def test_a_run_in_a_read_only_folder_is_not_deleted_by_half(
    world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = world / "runs" / "it"
    before = sorted(path.name for path in run.iterdir())
    run.chmod(0o555)
    try:
        with like_anybody():
            refused(["runs", "delete", "runs/it", "--yes"], capfd)
    finally:
        run.chmod(0o755)
    assert sorted(path.name for path in run.iterdir()) == before


@pytest.mark.parametrize("name", ["train", "sweep", "scorecard", "figures", "compare"])
def test_a_full_disk_is_told_and_takes_nothing_with_it(
    name: str, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What would load weights is refused where it writes first."""
    (world / "table.csv").write_text(TABLE)
    (world / "locked").mkdir()
    record = (world / "runs" / "it" / "record.json").read_bytes()
    with full():
        code = main(WRITERS[name])
    shown = capsys.readouterr().err
    assert code in (1, 2), shown
    assert "Traceback" not in shown and "rror" in shown
    assert (world / "runs" / "it" / "record.json").read_bytes() == record
    assert not [p for p in (world / "locked").rglob("*") if p.is_file() and p.stat().st_size]


# ------------------------------------------------------------------ files of others


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "scorecard.html", "update/x"])
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_run_takes_no_folder_of_others(
    name: str, command: str, world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = world / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("the user's own\n")
    given = words("retention.suite=[own.jsonl]", "out=mine", "trainer.max_steps=1")
    if command == "train":
        assert "holds" in refused(["train", *given], capfd)
    else:
        from myosotis.commands.opening import owned_anew
        from myosotis.records.run_folder import RunFolder
        from myosotis.utils.errors import ConfigError

        folder = RunFolder(world / "mine")
        with pytest.raises(ConfigError, match="and no run"), owned_anew(folder):
            pass
    assert path.read_text() == "the user's own\n"


FOREIGN = {
    "scorecard": ["scorecard", "runs/it", "--out", "mine"],
    "compare": ["compare", "table.csv", "table.csv", "--out", "mine"],
    "export": ["export", "runs/it", "--to", "merged", "--out", "mine"],
    "dial": ["dial", "runs/it", "--out", "mine"],
}


@pytest.mark.parametrize("linked", [False, True], ids=["file", "link"])
@pytest.mark.parametrize("name", sorted(FOREIGN))
def test_out_writes_over_no_file_of_others(
    name: str, linked: bool, world: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (world / "table.csv").write_text(TABLE)
    (world / "own").write_text("the user's own\n")
    if linked:
        (world / "mine").symlink_to("own")
    else:
        os.link(world / "own", world / "mine")
    refused(FOREIGN[name], capfd)
    assert (world / "own").read_text() == "the user's own\n"
