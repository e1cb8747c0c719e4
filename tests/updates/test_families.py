"""Methods on families of models: see tests/families.py, which makes the page of it."""

from __future__ import annotations

import pytest

from tests import families


def test_what_is_said_of_a_mixture_a_state_space_model_and_one_without_modules() -> None:
    """Three families that ask for care, trained, exported and loaded in plain transformers."""
    methods = ["full", "lora", "experts", "adapter", "prefix", "ia3"]
    mixture, mamba, opt = families.matrix(["Qwen3-Next", "Mamba", "OPT"], methods)
    assert (mixture.packing, mamba.packing, opt.packing) == ("padded", "padded", "dense")
    for row in (mixture, mamba, opt):
        assert row.cells["full"].form == row.cells["lora"].form == "merged"
        assert row.cells["adapter"].refused == ""
    assert [text.split(" of this model")[0] for text in mixture.cells["lora"].remarks] == [
        "The experts",
        "LoRA is not put on down_proj, gate_proj, up_proj outside the fused experts",
    ]
    assert "leaves out dt_proj, out_proj, x_proj" in mamba.cells["lora"].remarks[0]
    assert mixture.cells["experts"].form == "merged" and mixture.cells["experts"].remarks == []
    assert "has layers without any (MambaMixer)" in mamba.cells["prefix"].refused
    assert "or a list of in_proj" in mamba.cells["ia3"].refused
    assert opt.cells["prefix"].form == "adapter" and opt.cells["ia3"].form == "merged"


@pytest.mark.slow
def test_the_page_is_what_the_matrix_says() -> None:
    assert families.main(["--check"]) == 0
