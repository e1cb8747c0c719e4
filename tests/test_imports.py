"""The house: packages import only what stands before them, and heavy libraries have one home."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "myosotis"

# A package sees those before it, and nothing after it. docs/architecture.md says what lives where.
ORDER = (
    *("utils", "records", "tracking", "trees", "updates", "models", "data", "objectives"),
    *("rewards", "retention", "controls", "evaluation", "training"),
    *("report", "config", "commands", "cli"),
)
# What sees even less: only these, and `utils`.
NARROW = {
    "records": set[str](),
    "tracking": {"records"},
    "trees": set[str](),
    "report": {"records"},
    "controls": {"trees", "updates", "models", "data"},
    # It builds and checks what a run is made of; it makes nothing to be read.
    "config": set(ORDER[: ORDER.index("report")]),
}

# The only packages that may import what takes seconds, or ties us to one library.
HOMES = {
    "mlflow": {"tracking"},
    "lm_eval": {"retention.harness"},
    "peft": {"updates"},
    "hydra": {"config", "cli"},
    "omegaconf": {"config", "commands", "cli"},
}
# What reads results must not need what makes them.
LIGHT = ("utils", "records", "report", "cli", "tracking.mlflow_store")
# Ranks and device memory are nothing of the domain, and are asked after by what has torch anyway.
COMPUTES = {"utils.device", "utils.distributed", "utils.memory"}
HEAVY = {"torch", "transformers", "lightning", "mlflow", "peft", "lm_eval", "datasets", "pandas"}


def modules() -> dict[str, Path]:
    """Every file under its dotted name below `myosotis`."""
    return {
        ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(SRC.rglob("*.py"))
    }


def imported(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names a file imports; with `top_level`, only those that importing it imports."""
    for node in _nodes(ast.parse(path.read_text()), top_level):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _nodes(tree: ast.AST, top_level: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if top_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _nodes(node, top_level)


def test_the_top_of_the_house_holds_packages_only() -> None:
    assert {path.name for path in SRC.iterdir() if path.is_file()} == {"__init__.py", "py.typed"}
    assert {path.name for path in SRC.iterdir() if path.is_dir()} - {"__pycache__"} == set(ORDER)


def test_a_package_imports_only_those_before_it() -> None:
    checked = 0
    wrong = set[str]()
    for name, path in modules().items():
        package = name.partition(".")[0]
        if package == "__init__":
            continue
        before = NARROW.get(package, set(ORDER[: ORDER.index(package)])) | {"utils", package}
        for target in imported(path):
            top, _, rest = target.partition(".")
            seen = rest.partition(".")[0]
            if top != "myosotis" or seen not in ORDER:
                continue
            checked += 1
            if seen not in before:
                wrong.add(f"{name} imports {target}")
    assert checked > 500
    assert not wrong, "\n".join(sorted(wrong))


def test_no_two_modules_import_each_other() -> None:
    """Not even within a package; an import for types alone does not count."""
    files = modules()
    needs = {
        name: {there for target in imported(path, top_level=True) if (there := _module(target))}
        for name, path in files.items()
    }
    done = set[str]()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join((*path[path.index(name) :], name))
        if name not in done:
            for there in sorted(needs[name] - {name}):
                visit(there, (*path, name))
            done.add(name)

    def _visit_all() -> None:
        for name in needs:
            visit(name, ())

    _visit_all()
    assert len(done) == len(files)


def _module(target: str) -> str:
    """The file of ours that a dotted name is in; nothing for others' names."""
    names = target.split(".")[1:] if target.startswith("myosotis.") else []
    while names and ".".join(names) not in modules():
        names = names[:-1]
    return ".".join(names)


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_heavy_library_has_one_home(library: str) -> None:
    users = {
        name
        for name, path in modules().items()
        if any(target.split(".")[0] == library for target in imported(path))
    }
    assert users, f"nothing imports {library}"
    strays = {name for name in users if not _within(name, HOMES[library])}
    assert not strays, f"{library} is imported by {sorted(strays)}"


def test_what_reads_results_needs_no_framework() -> None:
    read = {name: path for name, path in modules().items() if _within(name, set(LIGHT))}
    for name in set(read) - COMPUTES:
        heavy = {target.split(".")[0] for target in imported(read[name], top_level=True)} & HEAVY
        assert not heavy, f"{name} imports {heavy}"
    assert len(read) >= 30


def _within(module: str, homes: set[str]) -> bool:
    return any(module == home or module.startswith(f"{home}.") for home in homes)


def test_every_package_is_listed_for_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {path.parent for path in SRC.rglob("*.py")}
    packages = {".".join(("myosotis", *folder.relative_to(SRC).parts)) for folder in folders}
    assert packages == listed - {"myosotis.conf", "myosotis.sweeps"}
