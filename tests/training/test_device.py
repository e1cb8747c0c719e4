"""What a GPU would see, without one: fake tensors on `cuda` have shapes and a device and no values,
so that mixed devices raise, and so does whoever waits for a value."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import myosotis
from myosotis import updates
from myosotis.objectives.preference import DPO
from myosotis.objectives.sft import SFT
from myosotis.objectives.total import total
from myosotis.trees.attention import PackingMode
from myosotis.trees.kl import _at_positions
from myosotis.trees.scorer import Scorer, evaluating
from myosotis.trees.tree import Tree
from tests.tiny import tiny
from tests.trees.test_scorer import shapes
from tests.updates.test_methods import SMALL

CUDA = torch.device("cuda", 0)


class Copies(TorchDispatchMode):
    """Counts copies from the host to the device, and values read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        before = next((a for a in args if isinstance(a, Tensor)), None)
        out = func(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_") and isinstance(out, Tensor) and before is not None:
            source = args[1] if name == "copy_" else before
            self.copies += source.device.type == "cpu" and out.device.type == "cuda"
            self.reads += source.device.type == "cuda" and out.device.type == "cpu"
        self.reads += name in ("_local_scalar_dense", "nonzero", "equal")
        return out


class Indexed(TorchFunctionMode):
    """`x[…]`, `~x` and `contiguous` by operators of their own: Python's way asks for a device that
    this torch may not be built for. (Backward passes and autocast ask for it, too, and cannot be
    tried.)"""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__:
            return part(*args)
        if func is Tensor.__setitem__:
            return fill(*args)
        if func is Tensor.contiguous:
            return torch.ops.aten.clone(args[0], memory_format=torch.contiguous_format)
        if func is Tensor.__invert__:
            return torch.logical_not(args[0])
        return func(*args, **(kwargs or {}))


def part(x: Tensor, index: Any) -> Tensor:
    x, tensors = _view(x, index)
    return torch.ops.aten.index.Tensor(x, tensors) if any(t is not None for t in tensors) else x


def fill(x: Tensor, index: Any, value: Any) -> None:
    x, tensors = _view(x, index)
    if not isinstance(value, Tensor):
        value = torch.full((), value, dtype=x.dtype).to(x.device)
    if any(t is not None for t in tensors):
        torch.ops.aten.index_put_(x, tensors, value)
    else:
        x.copy_(value)


def _view(x: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """What slices, numbers and new axes leave of `x`, and the index tensors of its dimensions."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [p for p in parts if not isinstance(p, Tensor)]:
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        given = sum(p is not None and p is not Ellipsis for p in parts)
        parts[at : at + 1] = [slice(None)] * (x.dim() - given)
    tensors: list[Tensor | None] = []
    for p in parts:
        dim = len(tensors)
        if p is None:
            x = x.unsqueeze(dim)
        elif isinstance(p, slice):
            x = torch.ops.aten.slice.Tensor(x, dim, p.start, p.stop, p.step or 1)
        elif not isinstance(p, Tensor):
            x = x.select(dim, p)
            continue
        tensors.append(p if isinstance(p, Tensor) else None)
    return x, tensors


@contextmanager
def on_cuda(update: updates.Update) -> Iterator[Copies]:
    """All tensors of an attached update are fake ones on `cuda` inside."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def there(tensor: Tensor) -> Tensor:
        with mode:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device=CUDA)

    known: dict[int, nn.Parameter] = {}
    for module in update.model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in known:
                moved = nn.Parameter(there(parameter), requires_grad=parameter.requires_grad)
                known[id(parameter)] = moved
            if parameter is not None:
                module._parameters[name] = known[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = there(buffer)
    update._trainable = {n: known[id(p)] for n, p in update._trainable.items()}
    if (kept := getattr(update, "_theta0", None)) is not None:
        update._theta0 = {n: there(t) for n, t in kept.items()}  # type: ignore[attr-defined]
    with mode, Copies() as counted, Indexed():
        yield counted


def setting(method: str, family: str = "llama", packing: str = "dense", **words: Any) -> Any:
    torch.manual_seed(0)
    update = updates.build(SMALL[method])
    update.attach(tiny(family))
    name = packing if update.capabilities.packs else "padded"
    backend = PackingMode(name, "test", fast_head=update.capabilities.packs)
    return update, Scorer(update.model, backend, row_tokens=64, rows_at_once=4, **words)


PACKED = [name for name in SMALL if updates.build(SMALL[name]).capabilities.packs]


@pytest.mark.parametrize("method", PACKED)
def test_no_device_is_mixed_in_scoring(method: str) -> None:
    """Every method, both heads; one copy and no read a batch."""
    update, scorer = setting(method)
    batches = scorer.batches(shapes()["choices"] + shapes()["many"])
    with on_cuda(update) as counted, torch.no_grad():
        for batch in batches:
            scores = scorer.score(batch, uniform=True)
            assert scores.logp_B.device == scores.tree_B.device == CUDA
    assert counted.copies == len(batches) and counted.reads == 0


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "gpt2"])
@pytest.mark.parametrize("packing", ["dense", "flex"])
def test_no_device_is_mixed_in_masks(family: str, packing: str) -> None:
    """Also in block masks: they are made on the device, and nobody waits for it."""
    update, scorer = setting("lora", family)
    batches = scorer.batches(shapes()["choices"] + shapes()["many"])
    if packing == "flex":
        scorer.backend = PackingMode("flex", "test")
        batches = scorer.batches(shapes()["choices"] + shapes()["many"])
    with on_cuda(update) as counted, torch.no_grad():
        for batch in batches:
            if packing == "flex":
                made = scorer_inputs(scorer, batch.to(CUDA))
                assert all(tensor.device == CUDA for tensor in made)
            else:
                scorer.score(batch)
    assert counted.copies == len(batches) and counted.reads == 0


def scorer_inputs(scorer: Scorer, batch: Any) -> list[Tensor]:
    """The tensors of the block masks that a model would be handed."""
    from myosotis.trees.attention import packed_inputs, text_config

    inputs = packed_inputs(batch, text_config(scorer.model), torch.float32, scorer.backend)
    masks = inputs["attention_mask"]
    masks = list(masks.values()) if isinstance(masks, dict) else [masks]
    return [inputs["position_ids"], *(mask.kv_indices for mask in masks)]


def test_a_step_copies_once_a_batch_and_reads_nothing() -> None:
    """The loss and its metrics stay on the device until the whole step is done; a preference step
    copies its references, too."""
    for objective, trees, copies in (
        (SFT(), shapes()["many"], 1),
        (DPO(), [referenced(tree) for tree in shapes()["preference"]], 2),
    ):
        update, scorer = setting("lora")
        batches = scorer.batches(trees)
        with on_cuda(update) as counted, torch.no_grad():
            loss, metrics = total(
                scorer,
                objective,
                trees,
                batches,
                normalizer=1.0,
                kl_estimate=0.0,
                each=lambda batch, share: None,
            )
            assert loss.device == CUDA and all(m.device == CUDA for m in metrics.values())
        assert counted.copies == copies * len(batches) and counted.reads == 0


def referenced(tree: Tree) -> Tree:
    from dataclasses import replace

    import numpy as np

    return replace(tree, reference=np.zeros(len(tree.leaves), np.float32))


@pytest.mark.parametrize("method", ["lora", "full", "houlsby"])
def test_no_device_is_mixed_in_kl_and_in_going_to_the_base(method: str) -> None:
    update, scorer = setting(method)
    (batch,) = scorer.batches(shapes()["preference"])
    with on_cuda(update), evaluating(scorer.model):
        kl_N, other_ND = _at_positions(scorer, batch.to(CUDA), update.disabled)
        assert kl_N.device == CUDA and other_ND is not None and other_ND.device == CUDA


def test_no_device_is_mixed_in_generation() -> None:
    """One step of it: what comes after depends on values."""
    update, scorer = setting("lora")
    with on_cuda(update), torch.no_grad():
        ids = torch.tensor([[5, 6, 7], [0, 5, 6]]).to(CUDA)
        mask = torch.tensor([[1, 1, 1], [0, 1, 1]]).to(CUDA)
        out = scorer.model(input_ids=ids, attention_mask=mask, use_cache=True)
        assert out.logits.device == CUDA


def test_a_batch_moves_whole() -> None:
    """Also its weights, which are no integers, to the bit."""
    _, scorer = setting("lora")
    tree = Tree.of([shapes()["instruction"][0].paths()[0]._replace(weights=[0.0] * 9 + [0.3] * 7)])
    (batch,) = scorer.batches([tree])
    with FakeTensorMode(allow_non_fake_inputs=True):
        moved = batch.to(CUDA)
    for name in ("ids_RL", "weight_S", "start_C", "path_B"):
        before, after = getattr(batch, name), getattr(moved, name)
        assert (before.shape, before.dtype) == (after.shape, after.dtype) and after.device == CUDA
    from myosotis.trees.batch import _as_int64, _as_it_was

    assert torch.equal(_as_it_was(_as_int64(batch.weight_S), batch.weight_S), batch.weight_S)


def test_the_model_is_placed_by_one_function() -> None:
    """`utils/device` alone turns settings into a device; commands reach it through one of theirs,
    and nothing else sends a model anywhere."""
    root = Path(myosotis.__file__).parent
    callers, movers = set[str](), set[str]()
    for path in root.rglob("*.py"):
        name = path.relative_to(root).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called.endswith("device_for"):
                callers.add(name)
            if called.endswith(("model.to", "model.cuda", "set_device")):
                movers.add(name)
    assert callers == {"commands/parts.py"}
    assert movers == {"utils/device.py"}
