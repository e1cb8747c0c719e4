"""Documents with one value changed to anything, and files with bytes changed: what reads them says
what is wrong, or reads them; nothing else is raised.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from myosotis import updates
from myosotis.cli import main
from myosotis.records.schema import RunRecord
from myosotis.report.scorecard import render_html
from myosotis.retention.harness import sandbox
from myosotis.training.checkpoint_file import require_checkpoint
from myosotis.utils.errors import MyosotisError
from myosotis.utils.weights_file import require_whole

from . import broken
from .test_broken_inputs import RUN, whole, world

__all__ = ["whole", "world"]  # fixtures

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -1, 2**63, 0]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["${x}", "${..path}", "???", "a\0b", "x" * 400, "../..", "{{", "!!int"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)
WIDE = bool(os.environ.get("MYOSOTIS_FUZZ"))
FEW = settings(
    max_examples=2_000 if WIDE else 40,
    derandomize=not WIDE,  # the same cases each time; MYOSOTIS_FUZZ=1 looks for new ones
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, that of the whole first."""
    yield at
    children = node.items() if isinstance(node, dict) else ()
    if isinstance(node, list):
        children = enumerate(node)
    for key, child in children:
        yield from places(child, (*at, key))


def changed(document: Any, draw: st.DataObject) -> Any:
    """The document with the value at some place replaced, or taken away."""
    document = copy.deepcopy(document)
    at = draw.draw(st.sampled_from(list(places(document))), "at")
    if not at:
        return draw.draw(VALUES, "whole")
    node = document
    for key in at[:-1]:
        node = node[key]
    if draw.draw(st.booleans(), "delete"):
        del node[at[-1]]
    else:
        node[at[-1]] = draw.draw(VALUES, "value")
    return document


def bent(content: bytes, draw: st.DataObject) -> bytes:
    """The bytes with some changed, and maybe cut."""
    found = bytearray(content[: draw.draw(st.integers(0, len(content)), "length")])
    for _ in range(draw.draw(st.integers(0, 4), "changes")):
        if found:
            at = draw.draw(st.integers(0, min(len(found), 600) - 1))
            found[at] = draw.draw(st.integers(0, 255))
    return bytes(found)


@FEW
@given(draw=st.data())
def test_config_yaml(draw: st.DataObject, world: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, whole = world / "runs/it/config.yaml", world / "config.whole"
    if not whole.exists():
        path.rename(whole)
    document = changed(yaml.safe_load(whole.read_text()), draw)
    path.write_text(yaml.safe_dump(document, allow_unicode=True), "utf-8", "replace")
    with broken.bounded(60):
        code = main(RUN)
    err = capfd.readouterr().err
    assert code == 2 or (code == 1 and "broken.Weights" in err), err[-2000:]


@FEW
@given(draw=st.data())
def test_record_json(draw: st.DataObject, whole: Path) -> None:
    record = json.loads((whole / "runs/it/record.json").read_text())
    record["retention"] = [{"task": "a", "metric": "acc", "base": 0.5, "tuned": 0.4, "n": 9}]
    record["curves"] = [{"step": 1, "name": "train/loss", "value": 1.0}]
    try:
        read = RunRecord.from_json(json.dumps(changed(record, draw)))
    except MyosotisError:
        return
    render_html([read])


@pytest.mark.parametrize("name", ["adapter_config.json", "update.json"])
@FEW
@given(draw=st.data())
def test_settings_of_an_update(draw: st.DataObject, name: str, world: Path) -> None:
    place = world / "adapter"
    whole = place / "whole"
    if not whole.exists():
        (place / "adapter_config.json").rename(whole)
    saved = json.loads(whole.read_text())
    if name == "update.json":
        saved = {"settings": {"name": "lora", "r": 2}, "base_model": None, "parameters": 5}
    (place / name).write_text(json.dumps(changed(saved, draw)))
    with suppress(MyosotisError):
        updates.from_folder(place)


@FEW
@given(draw=st.data())
def test_headers_of_weights(draw: st.DataObject, world: Path) -> None:
    path, whole = world / "adapter/adapter_model.safetensors", world / "weights.whole"
    if not whole.exists():
        path.rename(whole)
    path.write_bytes(bent(whole.read_bytes(), draw))
    with suppress(MyosotisError):
        require_whole(path)


@FEW
@given(draw=st.data())
def test_headers_of_checkpoints(draw: st.DataObject, world: Path) -> None:
    path, whole = world / "runs/it/checkpoints/last.ckpt", world / "checkpoint.whole"
    if not whole.exists():
        path.rename(whole)
    path.write_bytes(bent(whole.read_bytes(), draw))
    with suppress(MyosotisError):
        require_checkpoint(path)


@FEW
@given(draw=st.data())
def test_task_files(draw: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    document = changed(yaml.safe_load(broken.TASK), draw)
    text = yaml.safe_dump(document, allow_unicode=True)
    if draw.draw(st.booleans(), "bytes"):
        path.write_bytes(bent(text.encode("utf-8", "replace"), draw))
    else:
        path.write_text(text, "utf-8", "replace")
    with suppress(MyosotisError):
        sandbox.admit(path)
