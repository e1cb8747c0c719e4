"""Which layers LoRA is put on, and how many numbers that trains."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig, MixtralForCausalLM
from transformers.pytorch_utils import Conv1D

from myosotis import updates
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.updates.target_modules import linear_names, resolve, shortest_suffixes
from myosotis.updates.tensors import num_parameters
from myosotis.utils.errors import ConfigError
from tests.tiny import tiny
from tests.updates.test_methods import TREES, scores, tune_and_switch_off


def leaves(names: list[str]) -> set[str]:
    return {n.rpartition(".")[2] for n in names}


# (attention, mlp) module endings of a layer, read off the architectures' own source.
LAYERS = {
    "llama": ("q_proj k_proj v_proj o_proj", "gate_proj up_proj down_proj"),
    "qwen3": ("q_proj k_proj v_proj o_proj", "gate_proj up_proj down_proj"),
    "gemma3": ("q_proj k_proj v_proj o_proj", "gate_proj up_proj down_proj"),
    "mistral": ("q_proj k_proj v_proj o_proj", "gate_proj up_proj down_proj"),
    "phi3": ("qkv_proj o_proj", "gate_up_proj down_proj"),
    "gpt2": ("c_attn c_proj", "c_fc c_proj"),
    "gpt_neox": ("query_key_value dense", "dense_h_to_4h dense_4h_to_h"),
    "lfm2": ("q_proj k_proj v_proj out_proj", "w1 w2 w3"),
}


def test_groups(family: str) -> None:
    model = tiny(family)
    attention, mlp = (set(part.split()) for part in LAYERS[family])
    assert leaves(resolve(model, "attention")) == attention
    assert leaves(resolve(model, "mlp")) == mlp
    both = resolve(model, "attention") + resolve(model, "mlp")
    every = [n for n in resolve(model, "all-linear") if ".conv." not in n]  # LFM2's third kind
    assert sorted(both) == sorted(every)
    attending = 1 if family == "lfm2" else 2
    assert len(both) == attending * len(attention) + 2 * len(mlp)


@pytest.mark.parametrize("spec", ["all-linear", "attention", "mlp"])
def test_lora_trains_r_times_d_in_plus_d_out_a_target(family: str, spec: str) -> None:
    """docs/science.md, section 1: r(d_in + d_out) for each target."""
    model = tiny(family)
    shapes = [model.get_submodule(n).weight.shape for n in resolve(model, spec)]
    update = updates.build({"name": "lora", "r": 3, "target_modules": spec})
    update.attach(model)
    assert update.count() == 3 * sum(a + b for a, b in shapes)
    wrapped = {n.split(".lora_")[0] for n, _ in update.parameters()}
    assert wrapped == set(resolve(tiny(family), spec))


def test_count_on_smollm2_without_weights() -> None:
    """docs/science.md, section 1: 305,280·r on SmolLM2-135M, whose shapes these are.

    A layer: q and o 576+576 each, k and v 576+192 each, gate, up and down 576+1536 each, so
    2·1152 + 2·768 + 3·2112 = 10,176; times 30 layers = 305,280.
    """
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
    )  # fmt: skip
    for r in (1, 16):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        assert num_parameters(model) == 134_515_008
        update = updates.build({"name": "lora", "r": r})
        update.attach(model)
        assert update.count() == 305_280 * r
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    full = updates.build({"name": "full"})
    full.attach(model)
    assert full.count() == 134_515_008


def test_lists_and_regexes() -> None:
    model = tiny("llama")
    assert len(resolve(model, ["q_proj", "v_proj"])) == 4
    assert resolve(model, ["layers.1.mlp.up_proj"]) == ["model.layers.1.mlp.up_proj"]
    assert resolve(model, r".*layers\.0\.self_attn\.[qk]_proj") == [
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.k_proj",
    ]
    update = updates.build({"name": "lora", "target_modules": r".*layers\.0\..*_proj"})
    update.attach(model)
    assert all("layers.0." in n for n, _ in update.parameters())
    assert len(update.parameters()) == 2 * 7


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("lm_head", "shares its weights with the input embedding"),
        (["q_proj", "lm_head"], "shares its weights"),
        (r".*(q_proj|lm_head)", "shares its weights"),
        (["embed_tokens"], "not a linear layer"),
        (["q_prj"], "Did you mean q_proj"),
        ("q_proj", r"\[q_proj\]"),
        ("atention", "Did you mean attention"),
        ("(", "not a regex"),
        ([], "empty"),
    ],
)
def test_targets_that_make_no_sense(spec: str | list[str], said: str) -> None:
    update = updates.build({"name": "lora", "target_modules": spec})
    with pytest.raises(ConfigError, match=said):
        update.attach(tiny("llama"))


def test_an_output_head_with_weights_of_its_own_is_a_target_where_it_is_named() -> None:
    """Qwen3's is not tied: r(32 + 97) numbers, trained, switched off, packed and merged."""
    assert "lm_head" not in resolve(tiny("qwen3"), "all-linear")
    update = updates.build({"name": "lora", "r": 3, "target_modules": ["lm_head"]})
    update.attach(tiny("qwen3"))
    assert update.count() == 3 * (32 + 97)
    tune_and_switch_off(update)
    merged = Scorer(update.merged(), PackingMode("padded", "test", fast_head=False))
    found = torch.tensor([score.logp[0] for score in merged.evaluate(TREES)])
    torch.testing.assert_close(scores(update), found, rtol=0, atol=1e-4)


def test_rows_of_the_embedding_are_refused_beside_an_adapter_with_a_way_on() -> None:
    for setting in ({"trainable_token_indices": [5]}, {"modules_to_save": ["embed_tokens"]}):
        with pytest.raises(ConfigError, match="no such setting") as refused:
            updates.build({"name": "lora", **setting})
        assert "trained by update=full" in refused.value.hint


# A mixture of experts whose experts are one tensor: (experts, out, in).


def mixture() -> MixtralForCausalLM:
    torch.manual_seed(0)
    small = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, vocab_size=97)
    return MixtralForCausalLM(
        MixtralConfig(
            **small, num_attention_heads=4, num_key_value_heads=2, num_local_experts=4,
            num_experts_per_tok=2, max_position_embeddings=128,
        )
    ).eval()  # fmt: skip


def test_fused_experts_are_reached_by_target_parameters() -> None:
    """r(d_in + d_out) for each expert: 2 layers of 4, gate and up (32 to 2·48), and down."""
    both, down = 2 * 4 * 3 * ((32 + 96) + (48 + 32)), 2 * 4 * 3 * (48 + 32)
    attention = 2 * 3 * (2 * (32 + 32) + 2 * (32 + 16))
    for words, count in (
        ({"target_parameters": "experts"}, both + attention),
        ({"target_parameters": "experts", "target_modules": "mlp"}, both),
        ({"target_parameters": ["down_proj"], "target_modules": None}, down),
        ({"target_parameters": ["0.mlp.experts.down_proj"], "target_modules": None}, down // 2),
        ({}, attention),
    ):
        update = updates.build({"name": "lora", "r": 3, **words})
        update.attach(mixture())
        assert update.count() == count, words
        assert ["are fused" in said for said in update.remarks()] == [True] * (not words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"target_modules": "mlp"}, "no layer of this model looks like one"),
        ({"target_parameters": ["up_proj_"]}, "experts.down_proj, experts.gate_up_proj"),
        ({"target_parameters": "experts", "lora_dropout": 0.1}, "neither use_dora nor lora_drop"),
    ],
)
def test_experts_that_cannot_be_reached_so(words: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        updates.build({"name": "lora", **words}).attach(mixture())
    if words == {"target_modules": "mlp"}:
        assert "target_parameters=experts" in refused.value.hint
        assert "attention, or a list of k_proj, o_proj, q_proj, v_proj" in refused.value.hint


def test_gpt2_is_conv1d_and_stored_the_other_way_round() -> None:
    model = tiny("gpt2")
    assert all(isinstance(model.get_submodule(n), Conv1D) for n in linear_names(model))
    update = updates.build({"name": "lora"})
    update.attach(model)
    assert update.peft_model.peft_config["default"].fan_in_fan_out is True
    assert update.count() == 16 * 2 * ((32 + 96) + (32 + 32) + (32 + 128) + (128 + 32))


def test_suffixes_by_hand() -> None:
    names = ["h.0.attn.c_proj", "h.0.mlp.c_proj", "h.0.attn.c_attn", "h.0.attn", "head"]
    assert shortest_suffixes(["h.0.attn.c_proj"], names) == ["attn.c_proj"]
    assert shortest_suffixes(["h.0.attn.c_proj", "h.0.mlp.c_proj"], names) == ["c_proj"]


@given(st.data())
def test_suffixes_match_exactly_what_is_wanted(data: st.DataObject) -> None:
    parts = st.sampled_from(["a", "b", "ab"])
    names = data.draw(st.sets(st.lists(parts, min_size=3, max_size=3).map(".".join), min_size=1))
    wanted = data.draw(st.sets(st.sampled_from(sorted(names)), min_size=1))
    found = shortest_suffixes(sorted(wanted), names)
    assert {n for n in names if any(n == s or n.endswith(f".{s}") for s in found)} == wanted
