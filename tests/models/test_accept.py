"""Which models are accepted, from their configuration alone; and those whose weights are quantised
already, as folders of a tiny Llama."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from myosotis import updates
from myosotis.models import accept, load, quantised
from myosotis.models.load import ModelSource
from myosotis.utils.errors import AssetError, ConfigError
from tests.families import FAMILIES
from tests.models.test_load import local, tokenizer
from tests.tiny import VOCAB
from tests.updates.test_methods import tiny_64, tune_and_switch_off

ENCODERS = {
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie",
    "megatron-bert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer",
    "xlm-roberta", "xlm-roberta-xl", "xmod", "xlm", "xlnet",
}  # fmt: skip


@pytest.mark.slow  # imports the configurations of two hundred architectures
def test_of_all_causal_classes_of_transformers_the_encoders_are_refused() -> None:
    """By the defaults of their configurations, all of which AutoModelForCausalLM takes."""
    refused: dict[str, str] = {}
    for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        try:
            config = CONFIG_MAPPING[name]()
        except Exception:  # noqa: BLE001 - one that has no default
            continue
        try:
            accept.require(config, name)
        except AssetError as error:
            refused[name] = error.message
    assert {name for name, said in refused.items() if "reads ahead" in said} == ENCODERS
    pairs = {name for name, said in refused.items() if "encoder–decoder" in said}
    assert {"bart", "mbart", "pegasus", "marian", "prophetnet"} < pairs
    assert refused.keys() == pairs | ENCODERS


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (hf.BartConfig(), "is an encoder–decoder model"),
        (hf.BertConfig(), "reads ahead: its configuration has is_decoder=false"),
        (hf.XLNetConfig(), "attn_type=bi"),
        (hf.Gemma3TextConfig(use_bidirectional_attention=True), "use_bidirectional_attention=true"),
        (hf.CLIPConfig(), "is not a causal language model"),
        (hf.LlamaConfig(quantization_config={"quant_method": "gptq", "bits": 4}), "optimum"),
        (hf.LlamaConfig(quantization_config={"quant_method": "awq", "bits": 4}), "gptqmodel"),
        (hf.LlamaConfig(quantization_config={"quant_method": "own"}), "Unknown quantization type"),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_what_is_refused_and_why(config: hf.PretrainedConfig, said: str) -> None:
    with pytest.raises(AssetError, match=said):
        accept.require(config, "it")


def test_decoders_of_two_sided_families_are_taken() -> None:
    for config in (hf.BertConfig(is_decoder=True), hf.BartConfig(is_encoder_decoder=False)):
        accept.require(config, "it")


# ------------------------------------------------------------------ weights quantised already


def four_bits(place: Path) -> None:
    pytest.importorskip("bitsandbytes")
    tiny_64().save_pretrained(place / "plain")
    how = hf.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    model = hf.AutoModelForCausalLM.from_pretrained(place / "plain", quantization_config=how)
    model.save_pretrained(place)
    shutil.rmtree(place / "plain")


def eight_bits(place: Path) -> None:
    pytest.importorskip("bitsandbytes")
    tiny_64().save_pretrained(place)
    edit(place, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})


def eight_bit_floats(place: Path) -> None:
    """Blocks of one scale each, as DeepSeek and Qwen publish them; all numbers are exact in FP8."""
    model = tiny_64()
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and "embed" not in name and "lm_head" not in name:
            weight.data = (weight.data * 64).round() / 64
    model.save_pretrained(place)
    stored = load_file(place / "model.safetensors")
    for name in [n for n in stored if ".layers." in n and "norm" not in n]:
        stored[name] = (stored[name] * 2).to(torch.float8_e4m3fn)
        stored[f"{name}_scale_inv"] = torch.full((1, 1), 0.5)
    save_file(stored, place / "model.safetensors", metadata={"format": "pt"})
    edit(place, quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})


def edit(place: Path, **changes: Any) -> None:
    file = place / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def folder(place: Path, write: Any) -> ModelSource:
    place.mkdir()
    write(place)
    tokenizer().save_pretrained(place)
    return local(place)


def test_four_bits_of_a_checkpoint_are_tuned_by_lora_and_merged_into_plain_weights(
    tmp_path: Path,
) -> None:
    source = folder(tmp_path / "bits", four_bits)
    base = load.load_base_model(source)
    assert base.note == "weights quantised already (bitsandbytes 4-bit nf4)"
    assert base.content_hash.endswith("+bitsandbytes-4-bit-nf4")
    update = updates.build({"name": "lora", "r": 4})
    update.attach(base.model)
    tune_and_switch_off(update)
    update.merged().save_pretrained(tmp_path / "merged")
    plain = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert {p.dtype for p in plain.parameters()} == {torch.float32}
    ids = torch.arange(3, 19)[None] % VOCAB
    with torch.no_grad():
        torch.testing.assert_close(
            plain(ids).logits, update.model(input_ids=ids).logits, rtol=0, atol=1e-3
        )
    for other in ({"name": "full"}, {"name": "ia3", "peft_type": "IA3"}):
        with pytest.raises(ConfigError, match="cannot be put on weights that are quantised"):
            updates.build(other).attach(load.meta_model(source))
    with pytest.raises(ConfigError, match="are quantised already"):
        load.meta_model(source, quantization="nf4")


def test_eight_bits_are_read_and_not_trained(tmp_path: Path) -> None:
    model = load.meta_model(folder(tmp_path / "bits", eight_bits))
    for name in ("full", "lora", "adapter"):
        with pytest.raises(ConfigError, match="quantised by bitsandbytes 8-bit"):
            updates.build({"name": name}).attach(model)


def test_fp8_is_read_as_the_numbers_it_stands_for(tmp_path: Path) -> None:
    """And is written as them: the export is a plain model."""
    source = folder(tmp_path / "fp8", eight_bit_floats)
    base = load.load_base_model(source)
    assert base.note == "weights quantised already (fp8), read as the plain numbers they stand for"
    weight = base.model.get_submodule("model.layers.0.mlp.up_proj").weight
    wanted = tiny_64().get_submodule("model.layers.0.mlp.up_proj").weight
    assert torch.equal(weight, (wanted * 64).round() / 64)
    assert not quantised.stays(base.model.config)
    updates.build({"name": "full"}).attach(load.meta_model(source))
    assert_written_plain(base, tmp_path / "out")


FP4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]  # OCP MX v1.0, table 5


def test_mxfp4_is_read_as_the_numbers_it_stands_for(tmp_path: Path) -> None:
    """As gpt-oss is published: two FP4 numbers a byte, low half first, times 2^(scale - 127)."""

    def write(place: Path) -> None:
        config = FAMILIES["gpt-oss"]()
        hf.AutoModelForCausalLM.from_config(config).save_pretrained(place)
        stored = load_file(place / "model.safetensors")
        for name in [n for n in stored if n.endswith("experts.gate_up_proj")]:
            experts, d_in, d_out = stored.pop(name).shape
            shape = (experts, d_out, d_in // 32, 16)
            stored[f"{name}_blocks"] = torch.arange(torch.Size(shape).numel()).view(shape).byte()
            stored[f"{name}_scales"] = torch.full(shape[:3], 125, dtype=torch.uint8)
        save_file(stored, place / "model.safetensors", metadata={"format": "pt"})
        edit(place, quantization_config={"quant_method": "mxfp4"})

    base = load.load_base_model(folder(tmp_path / "mxfp4", write))
    experts = base.model.get_submodule("model.layers.0.mlp.experts").gate_up_proj
    halves = [half for byte in range(4) for half in (FP4[byte & 15], FP4[byte >> 4])]
    assert experts[0, :8, 0].tolist() == [half / 4 for half in halves]
    assert "mxfp4" in base.note and not quantised.stays(base.model.config)
    assert_written_plain(base, tmp_path / "out")


def assert_written_plain(base: load.BaseModel, place: Path) -> None:
    base.model.save_pretrained(place)
    plain = hf.AutoModelForCausalLM.from_pretrained(place)
    assert "quantization_config" not in json.loads((place / "config.json").read_text())
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        assert torch.equal(plain(ids).logits, base.model(ids).logits)
