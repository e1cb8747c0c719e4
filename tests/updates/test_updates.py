"""What every update promises, over a matrix of updates and model families."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from myosotis import updates
from myosotis.updates import Update
from myosotis.updates import base as base_module
from myosotis.updates.base import portable
from myosotis.utils.errors import AssetError, ConfigError, RunError
from tests.tiny import tiny

SETTINGS = {
    "full": {"name": "full"},
    "lora": {"name": "lora", "r": 4, "lora_alpha": 8},
    "adapter": {"name": "adapter", "bottleneck": 8},
}


@pytest.fixture(params=SETTINGS)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


def attached(family: str, method: str, dtype: torch.dtype = torch.float32) -> Update:
    update = updates.build(SETTINGS[method])
    update.attach(tiny(family, dtype))
    return update


def logits(model: torch.nn.Module, ids: Tensor) -> Tensor:
    model.eval()
    with torch.no_grad():
        return model(input_ids=ids).logits


def train(update: Update, ids: Tensor, steps: int = 3, lr: float = 1e-2) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW([p for _, p in update.parameters()], lr=lr)
    update.verify(optimizer)
    update.model.train()
    for _ in range(steps):
        update.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    update.model.eval()
    return optimizer


@pytest.fixture
def tuned(family: str, method: str, ids: Tensor) -> tuple[Update, Tensor, Tensor]:
    """An update after three real steps, the base's logits and its own; they differ."""
    base = logits(tiny(family), ids)
    update = attached(family, method)
    assert torch.equal(logits(update.model, ids), base), "not the identity at the start"
    train(update, ids)
    now = logits(update.model, ids)
    assert (now - base).abs().max() > 1e-2
    return update, base, now


def test_off_scaled_and_on_are_exact(tuned: tuple[Update, Tensor, Tensor], ids: Tensor) -> None:
    update, base, now = tuned
    with update.disabled():
        assert torch.equal(logits(update.model, ids), base)
    with update.scaled(0):
        assert torch.equal(logits(update.model, ids), base)
    with update.scaled(1):
        assert torch.equal(logits(update.model, ids), now)
    with update.scaled(0.5):
        half = logits(update.model, ids)
    assert not torch.equal(half, base)
    assert not torch.equal(half, now)
    # Nearer to both than they are to each other.
    apart = (now - base).norm()
    assert (half - base).norm() < apart > (half - now).norm()
    assert torch.equal(logits(update.model, ids), now)
    update.verify()
    update.fingerprint_base()


def test_a_base_kept_on_the_host_is_the_same_base(ids: Tensor) -> None:
    """θ0 and θ change places, to the bit; between, merged and as differences it is the same."""
    found = []
    for place in ("device", "host"):
        update = updates.build({"name": "full", "base_on": place})
        update.attach(tiny("llama"))
        base = logits(update.model, ids)
        train(update, ids)
        now = logits(update.model, ids)
        where = [p.data_ptr() for _, p in update.parameters()]
        with update.disabled():
            assert torch.equal(logits(update.model, ids), base)
            same = where == [p.data_ptr() for _, p in update.parameters()]
            assert same == (place == "host")  # nothing lies beside what is there
        assert torch.equal(logits(update.model, ids), now) and not torch.equal(now, base)
        with update.scaled(0.4):
            half = logits(update.model, ids)
        merged = logits(update.merged(), ids)
        update.fingerprint_base()
        found.append((now, half, merged, [t for _, t in update.delta()]))  # type: ignore[attr-defined]
    for one, other in zip(found[0][:3], found[1][:3], strict=True):
        assert torch.equal(one, other)
    assert all(torch.equal(a, b) for a, b in zip(found[0][3], found[1][3], strict=True))
    with pytest.raises(ConfigError, match="device or host"):
        updates.build({"name": "full", "base_on": "disk"})


def test_what_merges_to_another_model_samples_unmerged(
    ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that samples goes on where an export would stop."""
    update = attached("llama", "lora")
    train(update, ids)
    assert update.to_sample() is not update.model
    monkeypatch.setitem(base_module.MERGE_TOLERANCE, torch.float32, -1.0)
    with pytest.raises(RunError, match="merged"):
        update.merged()
    assert update.to_sample() is update.model


def test_merged_is_a_new_model_with_the_same_logits(
    tuned: tuple[Update, Tensor, Tensor], ids: Tensor, family: str, tmp_path: Path
) -> None:
    update, base, now = tuned
    if not update.capabilities.mergeable:
        with pytest.raises(ConfigError, match="bottleneck"):
            update.merged()
        return
    merged = update.merged()
    assert (logits(merged, ids) - now).abs().max() <= 1e-5 * max(1.0, now.abs().max().item())
    with update.scaled(0.4):
        dialled = logits(update.model, ids)
    assert (logits(update.merged(0.4), ids) - dialled).abs().max() <= 1e-5 * dialled.abs().max()
    assert torch.equal(logits(update.model, ids), now), "merging changed the tuned model"
    with update.disabled():
        assert torch.equal(logits(update.model, ids), base), "merging changed the base"
    plain = tiny(family)
    assert [n for n, _ in merged.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert not {p.data_ptr() for p in merged.parameters()} & {
        p.data_ptr() for p in update.model.parameters()
    }
    merged.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.equal(logits(again, ids), logits(merged, ids))


def test_save_then_load_into_a_new_object(
    tuned: tuple[Update, Tensor, Tensor], ids: Tensor, family: str, tmp_path: Path
) -> None:
    update, base, now = tuned
    update.save(tmp_path, base_id="owner/tiny")
    assert not [f for f in tmp_path.iterdir() if f.suffix not in (".json", ".safetensors")]
    assert "owner/tiny" in "".join(f.read_text() for f in tmp_path.glob("*.json"))
    again = updates.from_folder(tmp_path)
    again.attach(tiny(family))
    again.load(tmp_path)
    assert torch.equal(logits(again.model, ids), now)
    with again.disabled():
        assert torch.equal(logits(again.model, ids), base)


def test_saved_at_a_strength_it_is_the_scaled_update(
    tuned: tuple[Update, Tensor, Tensor], ids: Tensor, family: str, tmp_path: Path
) -> None:
    update, _, now = tuned
    with update.scaled(0.3):
        dialled = logits(update.model, ids)
    update.save(tmp_path, base_id="owner/tiny", alpha=0.3)
    assert torch.equal(logits(update.model, ids), now), "saving changed the tuned model"
    again = updates.from_folder(tmp_path)
    again.attach(tiny(family))
    again.load(tmp_path)
    assert torch.equal(logits(again.model, ids), dialled)
    with pytest.raises(ConfigError, match="no update left"):
        update.save(tmp_path, alpha=0.0)


def test_checkpoint_goes_on_bit_for_bit(method: str, ids: Tensor) -> None:
    """Two steps, checkpoint into a new object, one step = three steps."""
    whole = attached("llama", method)
    train(whole, ids, steps=3)
    first = attached("llama", method)
    optimizer = train(first, ids, steps=2)
    second = attached("llama", method)
    second.load_state_dict({n: t.clone() for n, t in first.state_dict().items()})
    rest = torch.optim.AdamW([p for _, p in second.parameters()], lr=1e-2)
    rest.load_state_dict(optimizer.state_dict())
    with second.disabled():  # between steps, as a retention measurement would
        pass
    second.model.train()
    second.model(input_ids=ids, labels=ids).loss.backward()
    rest.step()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_a_checkpoint_that_does_not_fit_is_named(method: str) -> None:
    update = attached("llama", method)
    state = dict(update.state_dict())
    lost, wide = list(state)[:2]
    before = {n: t.clone() for n, t in state.items()}
    state["stranger"] = state.pop(lost)
    state[wide] = torch.zeros(3)
    with pytest.raises(RunError) as error:
        update.load_state_dict(state)
    assert f"missing: {lost}" in str(error.value)
    assert "unknown: stranger" in str(error.value)
    assert f"{wide} (3,)" in str(error.value)
    assert all(torch.equal(before[n], t) for n, t in update.state_dict().items())


def test_state_is_restored_when_something_raises_deep_inside(
    tuned: tuple[Update, Tensor, Tensor], ids: Tensor
) -> None:
    update, _, now = tuned
    pointers = {n: p.data_ptr() for n, p in update.model.named_parameters()}

    def fail(*_: object) -> None:
        raise KeyError("deep inside")

    for context in (update.disabled, lambda: update.scaled(0), lambda: update.scaled(0.3)):
        hook = update.model.get_output_embeddings().register_forward_hook(fail)
        with pytest.raises(KeyError), context():
            logits(update.model, ids)
        hook.remove()
        assert torch.is_grad_enabled()
        assert {n: p.data_ptr() for n, p in update.model.named_parameters()} == pointers
        assert torch.equal(logits(update.model, ids), now)
        update.verify()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_backward_inside(method: str, ids: Tensor, alpha: float, checkpointing: bool) -> None:
    update = attached("llama", method)
    if checkpointing:
        update.model.gradient_checkpointing_enable({"use_reentrant": False})
    train(update, ids)
    update.model.train()
    outside = update.model(input_ids=ids, labels=ids).loss
    with update.scaled(alpha):
        inside = update.model(input_ids=ids, labels=ids).loss
        assert not inside.requires_grad
        # Without LoRA in it the recomputed layer has fewer tensors, and torch notices first.
        with pytest.raises(RuntimeError, match=r"inside disabled|recomputation"):
            outside.backward()
    update.model.zero_grad()
    # Gradients of a graph that was made before and left alone are those of the tuned model.
    loss = update.model(input_ids=ids, labels=ids).loss
    expected = torch.autograd.grad(loss, [p for _, p in update.parameters()])
    loss = update.model(input_ids=ids, labels=ids).loss
    with update.scaled(alpha):
        pass
    loss.backward()
    for (name, parameter), gradient in zip(update.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient), name


def test_contexts_work_under_inference_mode(method: str, ids: Tensor) -> None:
    """Lightning validates under `torch.inference_mode`; training must be able to go on."""
    update = attached("llama", method)
    train(update, ids)
    with torch.inference_mode():
        for alpha in (0.0, 0.5, 1.0):
            with update.scaled(alpha):
                update.model(input_ids=ids)
        with update.disabled():
            update.model(input_ids=ids)
    train(update, ids, steps=1)


def test_contexts_do_not_nest_and_nothing_is_saved_inside(method: str, tmp_path: Path) -> None:
    update = attached("llama", method)
    with update.scaled(0.5):
        for forbidden in (
            lambda: update.disabled().__enter__(),
            lambda: update.save(tmp_path / "x"),
            update.merged,
            update.state_dict,
        ):
            with pytest.raises(RuntimeError, match=r"nest|inside"):
                forbidden()
    assert not (tmp_path / "x").exists()
    with pytest.raises(ConfigError), update.scaled(float("nan")):
        pass


def test_verify_names_every_fault(method: str, family: str) -> None:
    update = attached(family, method)
    names = [n for n, _ in update.parameters()]
    good = [p for _, p in update.parameters()]
    update.verify(torch.optim.SGD(good, lr=0.1))
    with pytest.raises(RunError, match="missing in the optimizer") as error:
        update.verify(torch.optim.SGD(good[1:], lr=0.1))
    assert error.value.hint == f"missing in the optimizer: {names[0]}"
    with pytest.raises(RunError, match="foreign"):
        update.verify(torch.optim.SGD([*good, torch.nn.Parameter(torch.ones(1))], lr=0.1))
    good[-1].requires_grad_(False)
    with pytest.raises(RunError) as error:
        update.verify()
    assert error.value.hint == f"frozen, but should train: {names[-1]}"


def test_verify_catches_a_base_tensor_left_trainable(family: str) -> None:
    update = attached(family, "lora")
    name, tensor = next((n, p) for n, p in update.model.named_parameters() if "lora_" not in n)
    tensor.requires_grad_(True)
    optimizer = torch.optim.SGD([p for p in update.model.parameters() if p.requires_grad], lr=0.1)
    with pytest.raises(RunError) as error:
        update.verify(optimizer)
    assert f"trainable, but should be frozen: {name}" in error.value.hint
    assert f"in the optimizer, but should not be: {name}" in error.value.hint


def test_a_base_that_moved_is_noticed(method: str) -> None:
    update = attached("llama", method)
    assert update.fingerprint_base() == update.fingerprint_base()
    name, tensor = next(iter(update._frozen()))
    with torch.no_grad():
        tensor.view(-1)[3] += 1e-3
    with pytest.raises(RunError, match=name):
        update.fingerprint_base()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(method: str, ids: Tensor, dtype: torch.dtype) -> None:
    """Half precision trains in fp32 (the adapter, or all of the weights); merging goes back."""
    update = attached("llama", method, dtype)
    base = logits(update.model, ids)
    at_least = torch.float32 if dtype == torch.bfloat16 else dtype
    assert {p.dtype for _, p in update.parameters()} == {at_least}
    train(update, ids)
    with update.disabled():
        assert torch.equal(logits(update.model, ids), base)
    with update.scaled(0):
        assert torch.equal(logits(update.model, ids), base)
    if not update.capabilities.mergeable:
        return
    assert {p.dtype for p in update.merged().parameters()} == {dtype}
    merged = dict(update.merged(0.0).named_parameters())
    for name, parameter in tiny("llama", dtype).named_parameters():
        assert torch.equal(parameter, merged[name]), name


# Plain PEFT, in a process that cannot import myosotis; the bases come as folders of their own.
_PLAIN = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
assert not any("myosotis" in p for p in sys.path), sys.path
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder + "/base", dtype=torch.float32)
    model = PeftModel.from_pretrained(model, folder + "/adapter").eval()
    with torch.no_grad():
        torch.save(model(input_ids=torch.load("ids.pt")).logits, folder + "/logits.pt")
assert "myosotis" not in sys.modules
"""


@pytest.mark.slow  # imports PEFT in a second process
def test_plain_peft_loads_the_adapter(ids: Tensor, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    want = {}
    for family in ("llama", "gpt2"):
        tiny(family).save_pretrained(here / family / "base")
        update = updates.build({"name": "lora", "r": 4, "use_rslora": True, "lora_alpha": 3})
        base = AutoModelForCausalLM.from_pretrained(here / family / "base", dtype=torch.float32)
        update.attach(base.eval())
        train(update, ids)
        want[family] = logits(update.model, ids)
        update.save(here / family / "adapter")
    torch.save(ids, here / "ids.pt")
    here.rename(there)
    arguments = [sys.executable, "-I", "-S", "-c", _site() + _PLAIN, *want]
    subprocess.run(arguments, check=True, timeout=300, cwd=there)
    for family, expected in want.items():
        adapter = there / family / "adapter"
        config = (adapter / "adapter_config.json").read_text()
        assert json.loads(config)["base_model_name_or_path"] is None
        assert str(tmp_path) not in config + (adapter / "update.json").read_text()
        assert {f.name for f in adapter.iterdir()} == {
            "adapter_config.json",
            "adapter_model.safetensors",
            "update.json",  # what is ours of the settings
        }
        # PEFT sums in another order than our layer (updates/lora_kernel.py): equal but for
        # rounding.
        found = torch.load(there / family / "logits.pt")
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def _site() -> str:
    """Put the installed packages on the path without running .pth files (editable installs)."""
    folder = next(p for p in sys.path if (Path(p) / "peft").is_dir())
    return f"import sys; sys.path.append({folder!r})\n"


def test_tied_weights_are_one_tensor(ids: Tensor) -> None:
    update = attached("llama", "full")
    model = update.model
    assert update.count() == sum(p.numel() for p in tiny("llama").parameters())
    train(update, ids)
    with update.scaled(0.5):
        tied = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        assert tied[0].data_ptr() == tied[1].data_ptr()
    merged = update.merged()
    assert merged.get_input_embeddings().weight is merged.get_output_embeddings().weight


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "lara"}, "Did you mean lora"),
        ({"name": "lora", "rank": 4}, "update.rank"),
        ({"name": "lora", "lora_alhpa": 4}, "Did you mean lora_alpha"),
        ({"name": "lora", "r": 0}, "update.r=0"),
        ({"name": "lora", "r": 2.5}, "update.r=2.5"),
        ({"name": "lora", "lora_alpha": 0}, "lora_alpha"),
        ({"name": "lora", "lora_dropout": 1.0}, "lora_dropout"),
        ({"name": "full", "r": 4}, "update.r"),
        ({}, "update.name=None"),
    ],
)
def test_bad_settings_are_refused_before_any_model(settings: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        updates.build(settings)


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="no saved update"):
        updates.from_folder(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "POLY"}))
    with pytest.raises(AssetError, match="POLY"):
        updates.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("owner/model", True),
        ("smollm2-135m", True),
        (None, False),
        ("", False),
        ("/home/someone/model", False),
        ("~/model", False),
        ("./model", False),
        ("runs/a/model", False),
        ("C:\\models\\x", False),
    ],
)
def test_what_is_a_portable_name(name: str | None, kept: bool) -> None:
    assert portable(name) == (name if kept else None)


def test_every_method_is_tested() -> None:
    assert set(SETTINGS) | {"qlora", "probe"} == set(updates.NAMES)  # those: test_methods.py
