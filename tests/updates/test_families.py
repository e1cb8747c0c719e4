"""Methods on families of models: see tests/families.py, which makes the page of all of them."""

from __future__ import annotations

from tests import families


def test_families_that_ask_for_care_are_what_the_page_says_of_them() -> None:
    """A mixture that is a hybrid, a state-space model, and a layer whose MLP is no module: every
    method trained, switched off, saved and exported, and loaded in plain transformers.

    `python -m tests.families --check` does so for all.
    """
    rows = families.matrix(["Qwen3-Next", "Mamba", "OPT"])
    said = families.PAGE.read_text("utf-8")
    for row in rows:
        for text in (families.line(row), *families.refused(row), *families.remarks(row)):
            assert text in said
    assert len(said.split("\n| ")) == len(families.FAMILIES) + 2  # head and a line each
    mixture, mamba, opt = rows
    assert (mixture.packing, mamba.packing, opt.packing) == ("padded", "padded", "dense")
    assert mixture.cells["experts"].remarks == []
    refused = {(row.name, method) for row in rows for method, c in row.cells.items() if c.refused}
    assert refused == {("Qwen3-Next", "prefix"), ("Mamba", "prefix"), ("Mamba", "ia3")}
