"""Whether a training fits, by numbers of the literature, and that what is proposed does fit."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from transformers import LlamaConfig

from myosotis.commands import plan
from myosotis.config import compose
from myosotis.config.compose import options
from myosotis.models.dtype import Precision
from myosotis.training import memory_estimate
from myosotis.training.memory_estimate import Sizes, StepLoad
from myosotis.training.work_estimate import Speed, measured_speed
from myosotis.utils.errors import ConfigError

# (hidden, inner, layers, heads) of LLaMA (Touvron et al. 2023, table 2).
LLAMA = {"7B": (4096, 11008, 32, 32), "65B": (8192, 22016, 80, 64)}
OTHER_DATA = ("probe", "dpo", "kto", "orpo", "simpo", "reward")  # labels or pairs; else as lora
POLICIES = ("grpo", "rloo", "online_dpo", "ppo")
SHALLOW = {"shallow": (4096, 11008, 2, 32)}


def llama(size: str) -> LlamaConfig:
    hidden, inner, layers, heads = (LLAMA | SHALLOW)[size]
    return LlamaConfig(
        vocab_size=32_000,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=2048,
    )


@pytest.fixture(scope="module")
def shapes(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with the configurations of LLaMA, a tokenizer, data, and no weights."""
    found = {}
    for size in LLAMA | SHALLOW:
        found[size] = tmp_path_factory.mktemp(size)
        for file in tiny_model.iterdir():
            if file.suffix != ".safetensors" and file.name != "config.json":
                shutil.copy(file, found[size])
        llama(size).save_pretrained(found[size])
    return found


def planned(folder: Path, *overrides: str) -> plan.Plan:
    return plan.make(config(folder, *overrides))


def config(folder: Path, *overrides: str) -> DictConfig:
    data = ["data=jsonl", f"data.path={folder / 'data.jsonl'}", "data.template=none"]
    asked = ["retention=none", "task.shots=0"]
    return compose(["model=local", f"model.path={folder}", *data, *asked, *overrides])


def load(size: str, sizes: Sizes, **changes: Any) -> StepLoad:
    """One row of 512 tokens on a GPU."""
    settled = StepLoad(
        sizes=sizes,
        text=llama(size),
        precision=Precision(torch.float32),
        optimizer_bytes=8,
        rows=1,
        row_tokens=512,
        checkpointing=False,
        on_gpu=True,
    )
    return replace(settled, **changes)


MEASURED = {"lora": 2.30, "full": 4.58}
"""Gigabytes. docs/log.md: "2026-11-22. Predicted against measured memory (`bench/memory.py`, fp32,
2 threads): QLoRA 2.16 against 2.30 GB, LoRA 2.11 against 2.30, full 4.28 against 4.58"."""


def test_the_135m_model_takes_what_it_was_measured_to_take(
    shapes: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a tenth; and between the two methods, where what the process holds falls out, within a
    twentieth."""
    monkeypatch.setattr(memory_estimate, "_resident", lambda: 0.0)  # of the tests' process
    words = ["model=smollm2-135m", "retention=none", "task.shots=0", "data=jsonl"]
    words += ["data.template=none", f"data.path={shapes['7B'] / 'data.jsonl'}"]
    words += ["trainer.accelerator=cpu", "trainer.precision=32-true"]
    totals = {
        method: plan.make(compose([*words, f"method={method}"])).memory.total for method in MEASURED
    }
    for method, measured in MEASURED.items():
        assert totals[method] == pytest.approx(measured, rel=0.1)
    apart = MEASURED["full"] - MEASURED["lora"]
    assert totals["full"] - totals["lora"] == pytest.approx(apart, rel=0.05)


def test_a_long_row_has_no_mask_on_a_gpu() -> None:
    """Of 32,768 tokens in bf16 it would take 2 bytes · 32,768² = 2.1 GB; on a CPU a row has one."""
    sizes, bf16 = Sizes(7_000_000_000, 1, own=0), Precision(torch.bfloat16)
    row = load("7B", sizes, precision=bf16, row_tokens=32_768)
    there, here = row.memory(), replace(row, on_gpu=False).memory()
    assert here.activations - there.activations == pytest.approx(2 * 32_768**2 / 1e9)


def test_seven_billion_in_fp32_take_112_gigabytes() -> None:
    """28 of weights, 28 of gradients, 56 of Adam (Rajbhandari et al. 2020: 16 bytes a parameter);
    beside them θ0, 28 more, and what passes through."""
    n = 7_000_000_000
    held = load("7B", Sizes(n, n, own=n)).memory()
    assert (held.weights, held.gradients, held.optimizer) == (28, 28, 56)
    assert held.base_copy == 28
    assert held.total > 112 + 28
    assert load("7B", Sizes(n, n, own=n), base_on_host=True).memory().base_copy == 0


@pytest.mark.parametrize(("billions", "gb"), [(65, 33.5), (7, 3.6)])
def test_weights_in_four_bits(billions: int, gb: float) -> None:
    """Dettmers et al. 2023: half a byte and .127 bits of constants for each; 65 · .5159 = 33.5."""
    n = billions * 10**9
    bf16 = Precision(torch.bfloat16)
    held = load("7B", Sizes(n, 0, own=0, four_bit=n), precision=bf16).memory()
    assert held.weights == pytest.approx(gb, abs=0.05)


def test_products_in_bf16_keep_a_copy_of_two_bytes() -> None:
    n = 1_000_000_000
    mixed = Precision(torch.float32, products=torch.bfloat16)
    assert load("7B", Sizes(n, n, own=n), precision=mixed).memory().products == 2


def test_an_8b_model_keeps_5_9_megabytes_a_token() -> None:
    """32 layers of 8·4096 + 2·1024 + 4·14336 = 92,160 numbers in bf16: 5,898,240 bytes a token. A
    GPU's kernels need no mask; on a CPU one is as large as the square of the row."""
    eight = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    bf16 = Precision(torch.bfloat16)
    at = load("7B", Sizes(8 * 10**9, 0, own=0), text=eight, precision=bf16, row_tokens=1024)
    assert at.memory().activations * 1e9 == pytest.approx(1024 * 5_898_240)
    dense = replace(at, on_gpu=False).memory().activations * 1e9
    assert dense == pytest.approx(1024 * 5_898_240 + 1024 * 1024 * 2)
    # Of these 4·14336 belong to each MLP: recomputed, one of them is kept at a time.
    less = replace(at, checkpointing="mlp").memory().activations
    assert less * 1e9 == pytest.approx(1024 * 2 * (32 * 34_816 + 57_344))


def test_full_tuning_of_7b_in_fp32_does_not_fit_80_gigabytes(shapes: dict[str, Path]) -> None:
    made = planned(shapes["7B"], "method=full", "plan.device_gb=80", "trainer.precision=32-true")
    assert made.parameters == 6_738_415_616  # Touvron et al.: 6.7B
    assert not made.fit.fits and made.fit.rows == 1
    assert made.speed is None and made.seconds is None
    said = dict_of(made)
    assert "does not fit a GPU of 80 GB" in said and "more devices do not help" in said
    assert "not known here" in said
    names = [one.overrides[0] for one in made.fit.proposals]
    assert names[-2:] == ["update=lora", "update=qlora"]
    (spread,) = (one for one in made.fit.proposals if one.overrides[0] == "trainer.devices=2")
    assert spread.overrides[1] == "trainer.strategy=fsdp2"


def test_full_tuning_of_7b_is_spread_over_four_devices() -> None:
    """A quarter of weights, θ0 and Adam: 7 + 7 + 14 GB. Whole are the embeddings and the head, 2 ·
    32,000 · 4,096 numbers (1.05 GB in fp32), and two layers of 32 in bf16 with the gradient of one.
    A model that is measured is whole: 56 GB, and that is the most; in a step it would be less."""
    n = 7_000_000_000
    mixed = Precision(torch.float32, products=torch.bfloat16)
    at = load("7B", Sizes(n, n, own=n), precision=mixed, spread=4)
    held = at.memory()
    assert (held.weights, held.base_copy, held.optimizer) == (28, 28, 0)
    step = at._shares(at._step())
    layer = (n - 2 * 32_000 * 4096) / 32
    assert step.weights * 1e9 == pytest.approx(n + 4 * 2 * 32_000 * 4096 + 2 * 2 * layer)
    assert (step.base_copy, step.optimizer) == (7, 14)
    assert step.gradients * 1e9 == pytest.approx(n + 4 * layer)


def test_65b_in_four_bits_fits_48_gigabytes_with_checkpointing(shapes: dict[str, Path]) -> None:
    """One row of 512 tokens keeps 80 · 512 · 169,984 numbers in bf16: 13.9 GB beside 34 of weights;
    with each layer's input alone 0.7. A run that may choose its rows begins with 16."""
    without = planned(shapes["65B"], "method=qlora", "plan.device_gb=48")
    assert not without.fit.fits
    assert without.memory.weights == pytest.approx(34.7, abs=1.0)
    first = without.fit.proposals[0]
    # The tiny data's longest path has 5 tokens: shorter rows alone are enough.
    assert first.overrides == ["data.row_tokens=128"]
    checkpointed = planned(
        shapes["65B"], "method=qlora", "plan.device_gb=48", "trainer.gradient_checkpointing=true"
    )
    assert checkpointed.fit.fits and checkpointed.fit.rows_wanted == 16
    assert checkpointed.fit.rows > 1


def test_7b_in_four_bits_fits_16_gigabytes(shapes: dict[str, Path]) -> None:
    made = planned(shapes["7B"], "method=qlora", "plan.device_gb=16")
    assert made.fit.fits
    assert made.memory.weights == pytest.approx(3.6 + 0.5 + 0.1, abs=0.3)
    assert made.precision == "bfloat16"  # of a GPU, though none is here


@pytest.mark.parametrize("name", [n for n in options("method") if n not in OTHER_DATA])
def test_what_is_proposed_fits_for_every_method(name: str, shapes: dict[str, Path]) -> None:
    """Each proposal, given as overrides, makes a plan that fits the same device. The model has two
    layers of 7B's: 667 million numbers, 1.3 GB in bf16."""
    words = [f"method={name}", "plan.device_gb=2"]
    words += ["reward=length"] if name in POLICIES else []
    small = planned(shapes["shallow"], *words)
    assert small.fit.proposals or (small.fit.fits and name == "qlora")
    for one in small.fit.proposals:
        again = planned(shapes["shallow"], *words, *one.overrides)
        assert again.fit.fits, one
        assert again.memory.total == pytest.approx(one.gb)


def test_nothing_makes_it_fit_a_watch(shapes: dict[str, Path]) -> None:
    made = planned(shapes["7B"], "plan.device_gb=2")
    assert not made.fit.fits and not made.fit.proposals
    assert "a smaller model is needed" in dict_of(made)


def test_a_run_that_chooses_its_rows_halves_them(tiny_model: Path) -> None:
    whole = planned(tiny_model, "plan.device_gb=80")
    assert whole.fit.fits and whole.fit.rows == 16
    # What does not go through: context, block of logits, weights; and 16 rows are 21 MB.
    room = whole.memory.total - whole.memory.activations / 2
    half = planned(tiny_model, f"plan.device_gb={room + 1e-6}")
    assert half.fit.fits and half.fit.rows == 8 and half.fit.rows_wanted == 16
    assert "8 rows at a time" in dict_of(half) and "with little to spare" in dict_of(half)
    fixed = planned(tiny_model, f"plan.device_gb={room + 1e-6}", "trainer.rows_at_once=16")
    assert not fixed.fit.fits
    assert fixed.fit.proposals[0].overrides == ["trainer.rows_at_once=1"]


def test_the_device_at_hand_is_the_default(tiny_model: Path) -> None:
    made = planned(tiny_model, "trainer.accelerator=cpu")
    assert made.fit.device.here and made.fit.fits and made.fit.rows == 1
    assert made.speed is not None and made.seconds is not None
    here = planned(tiny_model, "trainer.accelerator=cpu", "plan.device_gb=0.05")
    assert here.fit.device.name == "a machine of 0.05 GB" and not here.fit.fits
    assert "more devices" not in dict_of(here)


def test_a_device_has_some_memory(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=r"plan\.device_gb=0(\.0)? is out of range"):
        planned(tiny_model, "plan.device_gb=0")


def dict_of(made: plan.Plan) -> str:
    return "\n".join(f"{name} {text}" for name, text in plan.rows(made))


def test_the_time_is_of_an_idle_machine_and_says_how_sure_it_is(tiny_model: Path) -> None:
    """600 GFLOP at 100 a second, of which training reaches .6: 10 s, between 6.7 and 15."""
    made = replace(planned(tiny_model), teraflops=0.6, speed=Speed(100e9))
    assert made.seconds == pytest.approx(10)
    said = plan.time_of(made)
    assert "about 10 s" in said and "(6.7 s to 15 s" in said and "busy" not in said
    busy = plan.time_of(replace(made, speed=Speed(100e9, share=0.25)))
    assert "about 10 s" in busy and "4.0 times as long" in busy


def test_a_cold_start_and_others_work_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock under which the first round is slow, and the core is ours a third of the time."""
    from myosotis.training import work_estimate

    class Clock:
        wall = own = 0.0
        rounds = 0

        def perf_counter(self) -> float:
            return self.wall

        def thread_time(self) -> float:
            return self.own

    clock = Clock()

    def product(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        cold = clock.wall < 1
        clock.own += 1.0 if cold else 0.001
        clock.wall += 3.0 if cold else 0.003
        return torch.zeros(1, 1)

    monkeypatch.setattr(work_estimate, "time", clock)
    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    found = measured_speed("cpu", num_threads=2)
    assert found.share == pytest.approx(1 / 3)
    assert found.flops == pytest.approx(2 * 2 * 512**3 / 0.001)
