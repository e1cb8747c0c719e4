"""The plan: parameters, steps, memory and rates, worked out by hand."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from myosotis import updates
from myosotis.commands import plan
from myosotis.config import compose, instantiate
from myosotis.config.compose import options
from myosotis.config.instantiate import plain
from myosotis.models.dtype import resolve
from myosotis.training import memory_estimate
from myosotis.utils.errors import ConfigError

# The sizes of `tiny_model`.
HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCAB = 32, 48, 2, 4, 2, 97
HEAD = HIDDEN // HEADS


def config(tiny_model: Path, *overrides: str) -> DictConfig:
    data = ["data=jsonl", f"data.path={tiny_model / 'data.jsonl'}", "data.template=none"]
    asked = ["retention.suite=[prose]", "retention.items=20"]
    return compose(["model=local", f"model.path={tiny_model}", *data, *asked, *overrides])


def test_no_weights_are_needed(tiny_model: Path, tmp_path: Path) -> None:
    for file in tiny_model.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, tmp_path)
    assert plan.make(config(tmp_path)).parameters > 0


def layer_shapes() -> list[tuple[int, int]]:
    """(in, out) of q, k, v, o, gate, up, down."""
    kv = KV_HEADS * HEAD
    attention = [(HIDDEN, HIDDEN), (HIDDEN, kv), (HIDDEN, kv), (HIDDEN, HIDDEN)]
    return [*attention, (HIDDEN, INNER), (HIDDEN, INNER), (INNER, HIDDEN)]


def test_counts_by_hand(tiny_model: Path) -> None:
    """r(d_in + d_out) a linear layer (docs/science.md, section 1); tied embeddings count once."""
    made = plan.make(config(tiny_model, "update.r=4"))
    assert made.trainable == LAYERS * sum(4 * (i + o) for i, o in layer_shapes())
    norms = (2 * LAYERS + 1) * HIDDEN
    matrices = LAYERS * sum(i * o for i, o in layer_shapes())
    assert made.parameters == VOCAB * HIDDEN + matrices + norms
    assert plan.make(config(tiny_model, "method=full")).trainable == made.parameters


def test_steps_by_hand(tiny_model: Path) -> None:
    """43 records, a tenth held out; 8 a step; every example is "NN" + "ok" + the end: 5 tokens."""
    made = plan.make(config(tiny_model, "trainer.max_epochs=2", "schedule.warmup=0.25")).steps
    assert made.train_examples == 39
    assert made.per_epoch == 5  # ceil(39 / 8)
    assert made.total == 10
    assert made.warmup == 2  # floor(0.25 * 10)
    assert made.scored_per_example == 3  # o, k, </s>
    assert made.tokens_per_example == 5


@pytest.mark.parametrize(
    ("overrides", "total"),
    [
        ([], 5),
        (["trainer.max_steps=3"], 3),
        (["trainer.max_steps=12"], 12),
        (["trainer.max_steps=12", "trainer.max_epochs=1"], 5),
    ],
)
def test_first_limit_ends_the_run(tiny_model: Path, overrides: list[str], total: int) -> None:
    assert plan.make(config(tiny_model, *overrides)).steps.total == total


def test_memory_of_full_tuning_is_16_bytes_a_parameter_and_the_base(tiny_model: Path) -> None:
    """Fp32 weights 4, gradients 4, Adam 8 (docs/science.md, section 1), and 4 for the base kept
    aside."""
    made = plan.make(config(tiny_model, "method=full"))
    held = made.memory.weights + made.memory.gradients + made.memory.optimizer
    assert held * 1e9 == pytest.approx(16 * made.parameters)
    assert made.memory.base_copy * 1e9 == pytest.approx(4 * made.parameters)


def test_memory_of_lora(tiny_model: Path) -> None:
    """The base in fp32 (4 bytes) or bf16 (2); what trains has weight, gradient, moments in fp32."""
    for precision, size in (("32-true", 4), ("bf16-true", 2)):
        made = plan.make(config(tiny_model, f"trainer.precision={precision}"))
        held = made.memory.weights + made.memory.gradients + made.memory.optimizer
        assert held * 1e9 == pytest.approx(size * made.parameters + 16 * made.trainable)


def test_gradient_checkpointing_keeps_less(tiny_model: Path) -> None:
    without = plan.make(config(tiny_model)).memory.activations
    with_it = plan.make(config(tiny_model, "trainer.gradient_checkpointing=true"))
    of_mlps = plan.make(config(tiny_model, "trainer.gradient_checkpointing=mlp"))
    assert with_it.memory.activations < of_mlps.memory.activations < without
    with pytest.raises(ConfigError, match="cannot be 'mpl'") as wrong:
        plan.make(config(tiny_model, "trainer.gradient_checkpointing=mpl"))
    assert wrong.value.hint == "Did you mean mlp? Known: false, true, mlp."


@pytest.mark.parametrize(
    ("overrides", "held"),
    [
        ([], 8),
        (["optimizer._target_=torch.optim.SGD", "~optimizer.betas", "~optimizer.eps"], 0),
        (["optimizer=lion"], 4),
        # A byte for each moment, and two fp32 scales for 256 of them.
        (["optimizer=adamw8bit"], pytest.approx(2 + 2 * 4 / 256, abs=0.02)),
    ],
)
def test_optimizer_state_is_found_by_asking_it(overrides: list[str], held: object) -> None:
    """Bytes for each number that trains."""
    found = memory_estimate.optimizer_bytes(instantiate.optimizer(compose(overrides)))
    assert found == held


def test_activations_against_what_autograd_keeps() -> None:
    """The estimate of a layer's activations within a factor of two of the tensors saved."""
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model = LlamaForCausalLM(text).model
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    held: list[Any] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(keep(t)) or t, lambda t: t):
        out = model(torch.randint(0, VOCAB, (1, 256))).last_hidden_state
    assert out.requires_grad
    found = sum(kept.values()) / 1e9
    estimate = memory_estimate.activations(text, 256, 1, 4, checkpointing=False, mask=True)
    assert found / 2 < estimate < found * 2


def test_work_of_lora_against_full() -> None:
    """6N a token against 4N + 6 N_lora (docs/science.md, section 1): at r=16 70 % of full."""
    steps = plan.Steps(0, 1000.0, 0.0, 1, 1, 1, 0, [])
    n, lora = 134_515_008, 305_280 * 16
    assert plan.teraflops(n, n, steps) == pytest.approx(6 * n * 1000 / 1e12)
    share = plan.teraflops(n, lora, steps) / plan.teraflops(n, n, steps)
    assert share == pytest.approx(0.70, abs=0.01)


def test_reachable_verdicts_are_shown_beforehand() -> None:
    few, many = (
        plan.reachable(compose(["retention.settle=false", f"retention.items={n}"]))
        for n in (20, 5000)
    )
    assert [reach.task for reach in many] == ["each benchmark", "their mean"]
    assert "retained" not in few[0].verdicts
    assert "retained" in many[0].verdicts
    assert plan.reachable(compose(["retention=none"])) == []


def test_rate_and_warning_are_on_the_screen(
    tiny_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    document = plan.plan(config(tiny_model, "optimizer.lr=0.5"))
    shown = "".join(capfd.readouterr())
    assert "0.5 (given)" in shown
    assert "far above the usual range" in " ".join(shown.split())
    assert json.loads(json.dumps(document))["steps"]["total"] == 5
    assert document["memory"]["total"] == pytest.approx(
        sum(v for k, v in document["memory"].items() if k != "total")
    )


def test_a_plan_checks_first(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        plan.make(config(tiny_model, "data.batch_size=0"))


def test_four_bit_weights_are_counted_once(tiny_model: Path) -> None:
    """Linear weights of two layers: 2 · (2·32² + 2·32·16 + 3·32·48) = 15,360 numbers, of 18,624
    (3,104 embeddings, tied; 160 of norms). In four bits 0.5 + 0.127/8 bytes each, and holes."""
    made = plan.make(config(tiny_model, "update=qlora", "update.r=4", "trainer.accelerator=cpu"))
    assert made.parameters == 18_624
    kept = 15_360 * (0.5 + 0.127 / 8) + (18_624 - 15_360) * 4 + 15_360 * 4 + 4 * made.trainable
    assert made.memory.weights == pytest.approx(kept / 1e9)


def test_precision_is_that_of_a_run(tiny_model: Path) -> None:
    made = plan.make(config(tiny_model, "trainer.precision=bf16-mixed"))
    assert made.precision == "float32, products in bfloat16"
    assert resolve("bf16-mixed", update="lora", accelerator="cpu").weights is torch.float32


@pytest.mark.parametrize("name", [n for n in options("update") if n != "probe"])
def test_what_is_planned_is_what_trains(name: str, tiny_model: Path) -> None:
    """Counted on the meta device, and on the model itself."""
    cfg = config(tiny_model, f"update={name}")
    planned = plan.make(cfg).trainable
    update = updates.build(plain(cfg["update"]))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    update.attach(LlamaForCausalLM.from_pretrained(tiny_model), tokenizer)
    assert planned == update.count() > 0


NOT_NEEDED = (
    "lightning", "bitsandbytes", "mlflow", "lm_eval", "datasets", "pandas", "sklearn", "pyarrow",
    "scipy.stats", "matplotlib", "torchmetrics", "torchvision",
)  # fmt: skip


def test_a_plan_imports_only_what_it_needs(tiny_model: Path, tmp_path: Path) -> None:
    """In a process of its own, with prose for a benchmark, and LoRA put on the model."""
    words = ["model=local", f"model.path={tiny_model}", "data=jsonl", "tracking=none"]
    words += [f"data.path={tiny_model / 'data.jsonl'}", "data.template=none"]
    words += ["retention.suite=[prose]", "retention.items=20"]
    code = (
        f"import sys; from myosotis.cli import main; code = main(['plan', *{words!r}])\n"
        f"print('IMPORTED', code, sorted(set({NOT_NEEDED!r}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.stdout.rstrip().endswith("IMPORTED 0 []"), done.stdout[-500:] + done.stderr[-2000:]
