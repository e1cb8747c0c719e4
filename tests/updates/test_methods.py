"""One matrix over all methods: what each declares it can do, it does; the rest it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PEFT_TYPE_TO_CONFIG_MAPPING, get_peft_model
from torch import Tensor

from myosotis import updates
from myosotis.config import compose
from myosotis.config.compose import options
from myosotis.config.instantiate import plain
from myosotis.training.activation_checkpointing import checkpoint_activations
from myosotis.trees.attention import PackingMode
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Path as Tokens
from myosotis.trees.tree import Target, Tree
from myosotis.updates.base import Update
from myosotis.updates.tensors import num_parameters
from myosotis.utils.errors import AssetError, ConfigError, RunError
from tests.tiny import tiny

SMALL: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "norm only": {"name": "full", "only": "norm"},
    "last layer": {"name": "full", "layers": [-1], "train_embeddings": False},
    "lora": {"name": "lora", "r": 4},
    "dora": {"name": "lora", "r": 4, "use_dora": True},
    "rslora": {"name": "lora", "r": 4, "use_rslora": True},
    "mlp lora": {"name": "lora", "r": 4, "target_modules": "mlp"},
    "houlsby": {"name": "adapter", "bottleneck": 8},
    "pfeiffer": {"name": "adapter", "design": "pfeiffer", "reduction_factor": 4},
    "prefix": {"name": "prefix", "peft_type": "PREFIX_TUNING", "num_virtual_tokens": 5},
    "prompt": {
        "name": "prompt",
        "peft_type": "PROMPT_TUNING",
        "num_virtual_tokens": 5,
        "prompt_tuning_init": "SAMPLE_VOCAB",
    },
    "ia3": {"name": "ia3", "peft_type": "IA3"},
    "vera": {"name": "vera", "peft_type": "VERA", "r": 8, "target_modules": "all-linear"},
    "oft": {"name": "oft", "peft_type": "OFT", "oft_block_size": 4, "target_modules": "attention"},
    "osf": {"name": "osf", "peft_type": "OSF", "target_modules": "all-linear"},
}
RATE = {"full": 1e-3, "last layer": 1e-3, "prefix": 3e-1, "prompt": 1e-1, "ia3": 3e-1, "vera": 1e-1}


@pytest.fixture(params=SMALL)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


def attached(method: str, family: str = "llama") -> Update:
    torch.manual_seed(3)
    update = updates.build(SMALL[method])
    update.attach(tiny(family))
    return update


def rate(method: str) -> float:
    return RATE.get(method, 2e-2)


def scorer_of(update: Update) -> Scorer:
    able = update.capabilities
    backend = PackingMode("dense" if able.packs else "padded", "test", fast_head=able.packs)
    return Scorer(update.model, backend, row_tokens=64)


TREES = [Tree.fork(list(range(3, 3 + n)), [[40 + n, 50, 60 + n, 2]]) for n in range(4, 9)]


def step(update: Update, optimizer: torch.optim.Optimizer) -> float:
    """One optimiser step over TREES, as `training/module.py` takes it; returns the loss before
    it."""
    scorer = scorer_of(update)
    total, size = 0.0, sum(tree.scored for tree in TREES)
    optimizer.zero_grad()
    for batch in scorer.batches(TREES):
        loss = -scorer.score(batch).logp_B.sum() / size
        loss.backward()
        total += loss.item()
    optimizer.step()
    return total


def tune(update: Update, lr: float, steps: int = 8) -> list[float]:
    optimizer = torch.optim.AdamW([p for _, p in update.parameters()], lr=lr)
    update.verify(optimizer)
    update.model.train()
    losses = [step(update, optimizer) for _ in range(steps)]
    update.model.eval()
    return losses


def scores(update: Update) -> Tensor:
    return torch.tensor([s.logp[0] for s in scorer_of(update).evaluate(TREES)])


def tune_and_switch_off(update: Update) -> None:
    """It learns; switched off, it scores to the bit as before it learned."""
    with update.disabled():
        before = scores(update)
    losses = tune(update, 2e-2)
    assert losses[-1] < losses[0]
    with update.disabled():
        assert torch.equal(scores(update), before)


def base_scores() -> Tensor:
    found = Scorer(tiny("llama"), PackingMode("padded", "test", fast_head=False)).evaluate(TREES)
    return torch.tensor([s.logp[0] for s in found])


def test_it_trains_and_off_is_the_base(method: str) -> None:
    update = attached(method)
    base = base_scores()
    if update.capabilities.identity_at_init:
        torch.testing.assert_close(scores(update), base, rtol=0, atol=2e-5)
    else:
        assert (scores(update) - base).abs().max() > 1e-3
        assert update.capabilities.reasons["identity_at_init"]
    losses = tune(update, rate(method))
    assert losses[-1] < losses[0] - 0.05, losses
    with update.disabled():
        torch.testing.assert_close(scores(update), base, rtol=0, atol=2e-5)
    assert (scores(update) - base).abs().max() > 1e-2
    update.fingerprint_base()


def test_saved_and_loaded_it_scores_the_same(method: str, tmp_path: Path) -> None:
    update = attached(method)
    tune(update, rate(method), steps=2)
    update.save(tmp_path, base_id="owner/tiny")
    text = "".join(f.read_text() for f in tmp_path.glob("*.json"))
    assert "owner/tiny" in text
    assert {f.suffix for f in tmp_path.iterdir()} == {".json", ".safetensors"}
    again = updates.from_folder(tmp_path)
    again.attach(tiny("llama"))
    again.load(tmp_path)
    assert torch.equal(scores(again), scores(update))
    assert again.count() == update.count()


def test_scaled_where_that_means_something(method: str, tmp_path: Path) -> None:
    update = attached(method)
    tune(update, rate(method), steps=3)
    if not update.capabilities.scalable:
        reason = update.capabilities.reasons["scalable"]
        with pytest.raises(ConfigError) as refused, update.scaled(0.5):
            pass
        assert reason in refused.value.message
        with pytest.raises(ConfigError, match="cannot be scaled"):
            update.save(tmp_path, alpha=0.5)
        return
    tuned = scores(update)
    with update.scaled(0.0):
        torch.testing.assert_close(scores(update), base_scores(), rtol=0, atol=2e-5)
    with update.scaled(0.5):
        half = scores(update)
    with update.scaled(1.0):
        assert torch.equal(scores(update), tuned)
    assert 0 < (half - tuned).norm() < (base_scores() - tuned).norm() * 1.5
    update.save(tmp_path, base_id="owner/tiny", alpha=0.5)
    assert torch.equal(scores(update), tuned)
    again = updates.from_folder(tmp_path)
    again.attach(tiny("llama"))
    again.load(tmp_path)
    assert torch.equal(scores(again), half)


def test_merged_where_declared(method: str, ids: Tensor) -> None:
    update = attached(method)
    tune(update, rate(method), steps=3)
    if not update.capabilities.mergeable:
        with pytest.raises(ConfigError) as refused:
            update.merged()
        assert update.capabilities.reasons["mergeable"] in refused.value.message
        return
    merged = update.merged()
    with torch.no_grad():
        wanted = update.model(input_ids=ids).logits
        found = merged(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
    assert not any(p.requires_grad for p in merged.parameters())


def test_a_merge_that_goes_wrong_is_loud(monkeypatch: pytest.MonkeyPatch) -> None:
    update = attached("lora")
    tune(update, 1e-1)
    monkeypatch.setattr(type(update), "_merged", lambda self, alpha: tiny("llama"))
    with pytest.raises(RunError, match="merged, the model's logits differ"):
        update.merged()


@pytest.mark.parametrize("level", [True, "mlp"])
def test_gradient_checkpointing_changes_nothing_where_declared(
    method: str, level: bool | str
) -> None:
    update = attached(method)
    if not update.capabilities.gradient_checkpointing:
        assert update.capabilities.reasons["gradient_checkpointing"]
        return
    losses = tune(update, rate(method), steps=3)
    other = attached(method)
    inner = getattr(other.model, "base_model", other.model) if method == "prompt" else other.model
    checkpoint_activations(inner, level)
    assert tune(other, rate(method), steps=3) == pytest.approx(losses, abs=1e-5)


def test_packed_equals_padded_where_declared(method: str) -> None:
    update = attached(method)
    tune(update, rate(method), steps=3)
    padded = Scorer(update.model, PackingMode("padded", "test", fast_head=False)).evaluate(TREES)
    wanted = torch.tensor([s.logp[0] for s in padded])
    if not update.capabilities.packs:
        assert update.capabilities.reasons["packs"]
    torch.testing.assert_close(scores(update), wanted, rtol=0, atol=5e-5)


def test_every_capability_that_is_missing_has_its_reason(method: str) -> None:
    able = updates.build(SMALL[method]).capabilities
    for name in ("mergeable", "scalable", "packs", "gradient_checkpointing", "identity_at_init"):
        assert getattr(able, name) or able.reasons.get(name), name


# Counts, by the formulas of docs/science.md, section 1, on the tiny Llama: width 32, MLP 48, 2
# layers, 4 heads of 8, 2 of them for keys and values.


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("norm only", (2 * 2 + 1) * 32),
        # q, k, v, o, gate, up, down
        ("lora", 2 * 4 * ((32 + 32) + 2 * (32 + 16) + (32 + 32) + 2 * (32 + 48) + (48 + 32))),
        ("mlp lora", 2 * 4 * (2 * (32 + 48) + (48 + 32))),
        ("houlsby", 2 * 2 * (2 * 32 * 8 + 32 + 8)),  # two a layer: 2dm + d + m
        ("pfeiffer", 2 * (2 * 32 * 8 + 32 + 8)),
        ("prefix", 2 * 2 * 5 * 2 * 8),  # 2 · layers · virtual tokens · kv_heads · head_dim
        ("prompt", 5 * 32),
        ("ia3", 2 * (16 + 16 + 48)),  # keys, values, the MLP's hidden units
        ("vera", 2 * (7 * 8 + 32 + 2 * 16 + 32 + 2 * 48 + 32)),  # r + d_out
    ],
)
def test_counts_by_formula(method: str, count: int) -> None:
    assert attached(method).count() == count


# Against plain PEFT: the same start, the same batches, the same losses.


@pytest.mark.parametrize("method", ["lora", "ia3", "vera", "prefix", "prompt"])
def test_losses_are_those_of_a_bare_loop_with_peft(method: str) -> None:
    """20 steps, each within 1e-5: our rows, masks and layers are the mathematics of PEFT's."""
    steps, lr = 20, rate(method) / 5
    ours = attached(method)
    bare = _bare_peft(ours)
    losses = tune(ours, lr, steps)
    optimizer = torch.optim.AdamW([p for p in bare.parameters() if p.requires_grad], lr=lr)
    rows = [tree.paths()[0] for tree in TREES]
    size = sum(tree.scored for tree in TREES)
    found = []
    bare.train()
    for _ in range(steps):
        optimizer.zero_grad()
        total = 0.0
        for row in rows:
            tokens = torch.tensor([row.ids])
            logits = bare(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
            logits = logits[:, -tokens.shape[1] :]  # without virtual tokens
            logp = logits[0, :-1].log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
            loss = -(logp * torch.tensor(row.weights[1:])).sum() / size
            loss.backward()
            total += loss.item()
        optimizer.step()
        found.append(total)
    assert losses == pytest.approx(found, abs=1e-5)


def _bare_peft(ours: Update) -> Any:
    """PEFT's model with the config and the start of `ours`, on a base of its own."""
    config = ours.peft_model.peft_config["default"]
    words = {k: v for k, v in config.to_dict().items() if k not in ("peft_type", "auto_mapping")}
    model = get_peft_model(tiny("llama"), PEFT_TYPE_TO_CONFIG_MAPPING[config.peft_type](**words))
    start = [p.detach() for p in ours.peft_model.parameters() if p.requires_grad]
    trained = [p for p in model.parameters() if p.requires_grad]
    assert [p.shape for p in start] == [p.shape for p in trained]
    with torch.no_grad():
        for parameter, value in zip(trained, start, strict=True):
            parameter.copy_(value)
    return model


def test_the_bottleneck_against_a_few_lines() -> None:
    """Houlsby's adapters written out: a forward pass of the tiny Llama with both hooks by hand."""
    update = attached("houlsby")
    tune(update, 2e-2)
    model = tiny("llama")
    weights = dict(update.parameters())

    def behind(name: str) -> Any:
        w = {k.removeprefix(f"{name}.adapter."): v for k, v in weights.items() if name in k}

        def hook(_module: Any, _args: Any, output: Any) -> Any:
            h = output[0] if isinstance(output, tuple) else output
            z = torch.nn.functional.gelu(h @ w["down.weight"].T + w["down.bias"])
            h = h + z @ w["up.weight"].T + w["up.bias"]
            return (h, *output[1:]) if isinstance(output, tuple) else h

        return hook

    for i, layer in enumerate(model.model.layers):
        layer.self_attn.register_forward_hook(behind(f"model.layers.{i}.self_attn"))
        layer.mlp.register_forward_hook(behind(f"model.layers.{i}.mlp"))
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            update.model(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5
        )


def test_lora_plus_gives_b_its_own_rate() -> None:
    update = updates.build({"name": "lora", "r": 4, "lr_ratio": 16})
    update.attach(tiny("llama"))
    rates = {update.lr_multiplier(name) for name, _ in update.parameters() if "lora_B" in name}
    assert rates == {16.0}
    assert {update.lr_multiplier(n) for n, _ in update.parameters() if "lora_A" in n} == {1.0}


class Words:
    """A tokenizer of one text."""

    def __call__(self, text: str, add_special_tokens: bool) -> Any:
        return type("Ids", (), {"input_ids": [7, 8, 9]})


def test_prompt_tuning_begins_with_a_text() -> None:
    update = updates.build({**SMALL["prompt"], "init_text": "seven eight nine"})
    update.attach(tiny("llama"), Words())  # type: ignore[arg-type]
    table = tiny("llama").get_input_embeddings().weight
    (start,) = (p for _, p in update.parameters())
    assert torch.equal(start, table[[7, 8, 9, 7, 8]])


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_a_prefix_begins_as_if_a_text_stood_in_front(name: str) -> None:
    update = updates.build({**SMALL["prefix"], "init_text": "seven eight nine"})
    base = tiny(name)
    front, ids = [7, 8, 9, 7, 8], [11, 12, 13]
    with torch.no_grad():
        wanted = base(input_ids=torch.tensor([front + ids])).logits[:, 5:]
        update.attach(base, Words())  # type: ignore[arg-type]
        found = update.model.eval()(input_ids=torch.tensor([ids])).logits
        with update.disabled():
            alone = update.model(input_ids=torch.tensor([ids])).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, alone, atol=1e-3)


def test_several_adapters_share_one_base(tmp_path: Path, ids: Tensor) -> None:
    """Each answers as it does alone; the first one goes on training as if nothing had been."""
    folders, alone = [], []
    for seed, rank in ((1, 4), (2, 6)):
        torch.manual_seed(seed)
        update = updates.build({"name": "lora", "r": rank})
        update.attach(tiny("llama"))
        tune(update, 2e-2, steps=2 + seed)
        folders.append(tmp_path / str(seed))
        update.save(folders[-1])
        alone.append(scores(update))
    first = updates.from_folder(folders[0])
    first.attach(tiny("llama"))
    first.load(folders[0])
    first.also(folders[1], "second")  # type: ignore[attr-defined]
    assert torch.equal(scores(first), alone[0])
    with first.using("second"):  # type: ignore[attr-defined]
        torch.testing.assert_close(scores(first), alone[1], rtol=0, atol=1e-5)
    assert torch.equal(scores(first), alone[0])
    with first.disabled():
        torch.testing.assert_close(scores(first), base_scores(), rtol=0, atol=2e-5)
    first.verify()


def test_qlora_trains_on_four_bits_and_merges_into_plain_weights(tmp_path: Path) -> None:
    """On a CPU: the base stays packed, the adapter trains in fp32, the merge dequantises."""
    pytest.importorskip("bitsandbytes")
    from myosotis.models.load import ModelSource, load_base_model

    folder = tmp_path / "base"
    _folder_with_tokenizer(folder)
    base = load_base_model(ModelSource("local", None, str(folder)), quantization="nf4")
    assert "4 bits" in base.note
    packed = [p for p in base.model.parameters() if p.dtype == torch.uint8]
    assert len(packed) == 2 * 7
    assert num_parameters(base.model) == sum(p.numel() for p in tiny_64().parameters())
    update = updates.build({"name": "qlora", "r": 4, "quantization": "nf4"})
    update.attach(base.model)
    tune_and_switch_off(update)
    merged = update.merged()
    assert not any(p.dtype == torch.uint8 for p in merged.parameters())
    found = Scorer(merged, PackingMode("dense", "test")).evaluate(TREES)
    torch.testing.assert_close(
        torch.tensor([s.logp[0] for s in found]), scores(update), rtol=0, atol=1e-3
    )
    update.fingerprint_base()


def tiny_64() -> Any:
    """A Llama whose layers are wide enough for blocks of 64."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=97, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        )
    ).eval()  # fmt: skip


def _folder_with_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers import models as words
    from transformers import PreTrainedTokenizerFast

    tiny_64().save_pretrained(folder)
    raw = Tokenizer(words.WordLevel({f"w{i}": i for i in range(97)}, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="w0").save_pretrained(folder)


def test_a_probe_learns_labels_and_leaves_the_language_model_alone(tmp_path: Path) -> None:
    """A label is never read, and predicted by the probe from the prompt's last token.

    Untrained, each of 3 labels has probability 1/3, and so it is with the update off.
    """
    labelled = [
        Tree.of([Tokens([5 + n, 20, 40 + n], [0.0] * 3, Target.LABEL, n % 3)]) for n in range(9)
    ]
    update = updates.build({"name": "probe", "labels": ["a", "b", "c"]})
    update.attach(tiny("llama"))
    assert update.count() == 32 * 3 + 3
    scorer = Scorer(update.model, PackingMode("dense", "test"), row_tokens=16)
    chance = torch.full((9,), -math.log(3), dtype=torch.float64)
    logp = lambda: torch.tensor([s.logp[0] for s in scorer.evaluate(labelled)])  # noqa: E731
    torch.testing.assert_close(logp(), chance, rtol=0, atol=1e-6)
    optimizer = torch.optim.AdamW([p for _, p in update.parameters()], lr=0.05)
    update.verify(optimizer)
    for _ in range(60):
        optimizer.zero_grad()
        for batch in scorer.batches(labelled):
            (-scorer.score(batch).logp_B.sum()).backward()
        optimizer.step()
    found = scorer.evaluate(labelled)
    assert all(s.greedy[0] for s in found)
    assert [int(s.said[0]) for s in found if s.said is not None] == [n % 3 for n in range(9)]
    with update.disabled():
        torch.testing.assert_close(logp(), chance, rtol=0, atol=1e-6)
    torch.testing.assert_close(scores(update), base_scores(), rtol=0, atol=2e-5)
    update.save(tmp_path)
    again = updates.from_folder(tmp_path)
    again.attach(tiny("llama"))
    again.load(tmp_path)
    other = Scorer(again.model, PackingMode("dense", "test"), row_tokens=16).evaluate(labelled)
    assert [s.logp[0] for s in other] == [s.logp[0] for s in found]
    for refused in (update.merged, lambda: update.scaled(0.5).__enter__()):
        with pytest.raises(ConfigError, match="no part of the language model"):
            refused()


# Plain PEFT, in a process that cannot import myosotis, from folders that have been moved.
_PLAIN = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
for name in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained("base", dtype=torch.float32)
    model = PeftModel.from_pretrained(model, name).eval()
    ids = torch.load("ids.pt")
    with torch.no_grad():
        torch.save(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, name + ".pt")
assert "myosotis" not in sys.modules
"""


@pytest.mark.slow
def test_plain_peft_loads_what_peft_has(ids: Tensor, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    tiny("llama").save_pretrained(here / "base")
    torch.save(ids, here / "ids.pt")
    wanted = {}
    for method in ("dora", "prefix", "prompt", "ia3", "vera", "oft"):
        update = attached(method)
        tune(update, rate(method), steps=3)
        with torch.no_grad():
            logits = update.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        wanted[method] = logits[:, -ids.shape[1] :]
        update.save(here / method, base_id="owner/tiny")
        assert str(tmp_path) not in (here / method / "adapter_config.json").read_text()
    here.rename(there)
    site = next(p for p in sys.path if (Path(p) / "peft").is_dir())
    script = f"import sys; sys.path.append({site!r})\n" + _PLAIN
    command = [sys.executable, "-I", "-S", "-c", script, *wanted]
    subprocess.run(command, check=True, timeout=300, cwd=there)
    for method, logits in wanted.items():
        found = torch.load(there / f"{method}.pt")[:, -ids.shape[1] :]
        torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-5, msg=method)


# What is refused, before any weights load.


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "x", "peft_type": "IA4"}, "Did you mean IA3"),
        ({"name": "ia3", "peft_type": "IA3", "target_module": "x"}, "Did you mean target_modules"),
        ({"name": "ada", "peft_type": "ADALORA"}, "needs more than layers"),
        ({"name": "lora", "init_lora_weights": "pissa"}, "rewrites the base"),
        ({"name": "lora", "quantization": "int3"}, "null or nf4"),
        ({"name": "lora", "lr_ratio": 0}, "above 0"),
        ({"name": "adapter", "design": "parallel"}, "houlsby"),
        ({"name": "adapter", "activation": "gleu"}, "activation"),
        ({"name": "adapter", "bottleneck": 0}, "1 or more"),
        ({"name": "full", "only": "weights"}, "bias or norm"),
        ({"name": "full", "layers": []}, r"layers=\[\] names no layers"),
        ({"name": "full", "layers": 3}, "layers=3 names no layers"),
        ({"name": "prefix", "peft_type": "PREFIX_TUNING"}, "num_virtual_tokens"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        updates.build(settings)


def test_selections_that_leave_nothing_or_name_nothing() -> None:
    for settings, said in (
        ({"only": "bias"}, "nothing to train"),  # Llama has no biases
        ({"layers": [2]}, "no layer 2"),
    ):
        with pytest.raises(ConfigError, match=said):
            updates.build({"name": "full", **settings}).attach(tiny("llama"))


def test_an_initialisation_that_rewrites_the_base_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from myosotis.updates import peft

    def rewriting(model: Any, config: Any) -> Any:
        model.model.layers[0].mlp.up_proj.weight.data.mul_(1.01)
        return get_peft_model(model, config)

    monkeypatch.setattr(peft, "get_peft_model", rewriting)
    with pytest.raises(ConfigError, match="rewrites 1 tensors of the base"):
        updates.build(SMALL["ia3"]).attach(tiny("llama"))


def test_bias_only_trains_gpt2s_biases() -> None:
    update = updates.build({"name": "full", "only": "bias"})
    update.attach(tiny("gpt2"))
    assert update.parameters()
    assert all(name.endswith("bias") for name, _ in update.parameters())


def test_an_adapter_of_a_kind_we_refuse(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "XLORA"}))
    with pytest.raises(AssetError, match="XLORA"):
        updates.from_folder(tmp_path)


def test_every_update_of_the_config_is_built() -> None:
    names = options("update")
    assert len(names) >= 9
    for name in names:
        cfg = compose([f"update={name}"])
        assert updates.build(plain(cfg["update"])).name == name
