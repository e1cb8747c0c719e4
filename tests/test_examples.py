"""The notebooks of `examples/` run from the first cell to the last; outputs are not kept."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FEW = '"retention.items=8", "retention.settle=false", "task.items=8", "trainer.max_steps=2",'
NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


def test_there_are_two() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["compare_methods", "first_run"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_without_outputs(path: Path) -> None:
    """A diff then shows what a person changed, and no machine's paths."""
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell.outputs for cell in cells if cell.cell_type == "code" and cell.outputs]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own; a cell that fails is an error here. The first run is of the embedded
    model, two steps and a few items of it; methods are compared on a random one."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        tiny = f'"model=local", "model.path={world / "model"}", '
        cell.source = cell.source.replace("SETTINGS = [", f"SETTINGS = [{tiny}")
        cell.source = cell.source.replace('"retention.items=40",', FEW)
    NotebookClient(
        notebook,
        timeout=1500,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    assert list(tmp_path.glob("runs/*/record.json"))
