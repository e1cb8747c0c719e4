"""Imports point down, heavy dependencies have one home, and every room is packaged."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "myosotis"

# A room imports only from tiers below its own. A new file needs a place here: that is the point.
TIERS: list[set[str]] = [
    {"errors", "__version__"},
    {"documents"},
    {"console", "record", "store", "trees", "optimization", "precision", "ranks", "memory"},
    {
        "sealed",
        "tracking",
        "history",
        "objectives",
        "updates",
        "report",
        "generate",
        "record_schema",
    },
    {"assets", "logger", "callbacks", "runs"},
    {"conversion", "model_files", "data", "journal", "resume", "gather"},
    {"retention", "shots"},
    {"models", "quality", "reference", "shift", "summary", "guard"},
    {"ranking"},
    {"examination", "config", "module", "start", "hardening"},
    {"exhibits", "findings", "symptoms", "workbench", "subjects", "sweeping"},
    {"opening", "dialling", "watching", "pacing"},
    {"costs"},
    {"run", "sync", "estimates", "evaluation", "conversation"},
    {"demo", "exporting", "plan"},
    {"dial"},
    {"cli"},
]
TIER = {room: level for level, rooms in enumerate(TIERS) for room in rooms}

# The only files that may import what takes seconds, or ties us to one library.
HOMES = {
    "mlflow": {"tracking"},
    "lm_eval": {"retention.lm", "retention.tasks"},
    "peft": {"updates"},
    "hydra": {"cli", "config"},
    # Who is handed the composed config; every other room takes plain arguments.
    "omegaconf": {
        *(
            "cli",
            "config",
            "exporting",
            "opening",
            "pacing",
            "run",
            "dial",
            "plan",
            "estimates",
            "workbench",
            "resume",
            "demo",
            "evaluation",
            "subjects",
            "sync",
        ),
    },
}
# What reads results must not need what makes them.
LIGHT = {"record", "report", "retention.stats", "runs", "store", "errors", "console", "cli"}
HEAVY = {"torch", "transformers", "lightning", "mlflow", "peft", "lm_eval", "datasets", "pandas"}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        found.append((".".join(parts).removesuffix("__init__").rstrip("."), path))
    return found


def imported(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names a file imports; with `top_level`, only those that importing it imports."""
    for node in _nodes(ast.parse(path.read_text()), top_level):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "myosotis":
                yield from (f"myosotis.{alias.name}" for alias in node.names)
            else:
                yield str(node.module)


def _nodes(tree: ast.AST, top_level: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if top_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _nodes(node, top_level)


def room_of(module: str) -> str:
    return module.partition(".")[0]


def is_in(module: str, homes: set[str]) -> bool:
    return any(module == home or module.startswith(f"{home}.") for home in homes)


def test_every_room_has_a_tier() -> None:
    rooms = {room_of(name) for name, _ in modules() if name}
    assert len(rooms) > 25
    assert rooms <= set(TIER), f"no tier for {sorted(rooms - set(TIER))}"
    assert set(TIER) - rooms <= {"__version__"}, "a tier names a room that is gone"


def test_imports_point_down() -> None:
    seen = 0
    wrong = []
    for name, path in modules():
        if not name:
            continue
        for target in imported(path):
            if not target.startswith("myosotis."):
                continue
            seen += 1
            here, there = room_of(name), target.split(".")[1]
            if here != there and TIER[there] >= TIER[here]:
                wrong.append(f"{name} imports {there}")
    assert seen > 100
    assert not wrong, "; ".join(sorted(set(wrong)))


@pytest.mark.parametrize("library", sorted(HOMES))
def test_heavy_dependency_has_one_home(library: str) -> None:
    users = {name for name, path in modules() for t in imported(path) if t.split(".")[0] == library}
    assert users, f"nothing imports {library}"
    strays = {name for name in users if not is_in(name, HOMES[library])}
    assert not strays, f"{library} is imported by {sorted(strays)}"


def test_what_reads_results_needs_no_framework() -> None:
    checked = 0
    for name, path in modules():
        if not is_in(name, LIGHT):
            continue
        checked += 1
        heavy = {t.split(".")[0] for t in imported(path, top_level=True)} & HEAVY
        assert not heavy, f"{name} imports {heavy}"
    assert checked >= 15


def test_every_package_is_listed_for_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {path.parent for path in SRC.rglob("*.py")}
    packages = {
        ".".join(("myosotis", *folder.relative_to(SRC).parts)).rstrip(".") for folder in folders
    }
    assert packages <= listed, f"not in pyproject.toml: {sorted(packages - listed)}"
    assert listed - packages <= {"myosotis.conf", "myosotis.sweeps"}
