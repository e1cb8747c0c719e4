"""The wheel, installed elsewhere and run from another folder: code, configuration, command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def ran(*command: str | Path, cwd: Path) -> str:
    """What the command printed on stdout; it must succeed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as git would give it: what lies in build/ must not get in."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("src", "conf", "sweeps"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    ran(*pip, "-w", folder, source, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin/` of a fresh environment that has the wheel, and this one's packages but not our code.

    The dependencies are lent by a .pth file. It comes after the environment's own packages, so
    that the wheel is what `import myosotis` finds; the editable install has no part in it, since
    its finder is started by a .pth file of this environment, which is not read there.
    """
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, with_pip=False, symlinks=True)
    bin_ = folder / ("Scripts" if os.name == "nt" else "bin")
    lent = sysconfig.get_path("purelib")
    purelib = ran(
        bin_ / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    )
    (Path(purelib.strip()) / "lent.pth").write_text(lent + "\n")
    ran(bin_ / "python", "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=folder)
    return bin_


def test_wheel_holds_code_configuration_and_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {p.relative_to(ROOT / "src").as_posix() for p in (ROOT / "src").rglob("*.py")}
    yamls = [p for folder in ("conf", "sweeps") for p in (ROOT / folder).rglob("*.yaml")]
    conf = {f"myosotis/{p.relative_to(ROOT).as_posix()}" for p in yamls}
    assert len(ours) > 50
    assert len(conf) > 20
    assert ours | conf <= names, sorted((ours | conf) - names)
    assert {"myosotis/py.typed", "myosotis/conf/__init__.py"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name.split("/")[0]]


def test_templates_and_other_files_are_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    kept_out = {".pyc", ".py"}
    files = {
        p.relative_to(ROOT / "src").as_posix()
        for p in (ROOT / "src" / "myosotis").rglob("*")
        if p.is_file() and p.suffix not in kept_out
    }
    assert files <= names, sorted(files - names)


def test_it_is_the_wheel_that_runs(elsewhere: Path, tmp_path: Path) -> None:
    where = ran(
        elsewhere / "python", "-c", "import myosotis; print(myosotis.__file__)", cwd=tmp_path
    )
    assert str(elsewhere.parent) in where


def test_configuration_from_another_folder(elsewhere: Path, tmp_path: Path) -> None:
    shown = ran(elsewhere / "myosotis", "train", "--cfg", "job", "method=full", cwd=tmp_path)
    assert "  name: full\n" in shown
    assert "myosotis COMMAND" in ran(elsewhere / "myosotis", "--help", cwd=tmp_path)


def test_plan_from_another_folder(elsewhere: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"{i}?", "completion": f"{i}."}) for i in range(40)]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    out = ran(
        *(elsewhere / "myosotis", "plan", "--json", "data=jsonl", "data.path=mine.jsonl"),
        cwd=tmp_path,
    )
    plan = json.loads(out)
    assert plan["trainable"] == 305_280 * 16  # docs/science.md, section 1: 305,280 r
    assert plan["parameters"] == 134_515_008
    assert not list(tmp_path.glob("*.db"))
