"""What can only be known on a GPU, in one call of at most ten minutes: is it right, and how fast.

    python bench/gpu_check.py --out check.json            # on a GPU
    python bench/gpu_check.py --out check.json --rehearse # tiny shapes on a CPU, two minutes

Every part has its share of the time and writes what it found before the next begins; a part that
fails is red and the others go on. It imports what training, scoring and updates need, and nothing
of configuration, tracking or lm-eval; models are initialised at random. Leaves with 1 where a line
of correctness is red.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, MistralConfig

from myosotis import updates
from myosotis.models.dtype import Precision, resolve
from myosotis.objectives.preference import DPO
from myosotis.objectives.reference_logprobs import live
from myosotis.objectives.sft import SFT
from myosotis.training.activation_checkpointing import checkpoint_activations
from myosotis.training.memory_estimate import Sizes, StepLoad
from myosotis.training.module import FineTuning
from myosotis.training.optim import Schedule, for_device
from myosotis.training.work_estimate import Work, mfu
from myosotis.trees.attention import PackingMode, text_config
from myosotis.trees.packing_check import candidates, fault_of, probe
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Path as TreePath
from myosotis.trees.tree import Tree
from myosotis.updates.tensors import num_parameters
from myosotis.utils import memory
from myosotis.utils.device import device_for, hardware, peak_flops

Found = dict[str, Any]
LORA = {"name": "lora", "r": 16, "lora_alpha": 32}
PADDED = PackingMode("padded", "reference", fast_head=False)


@dataclass(frozen=True)
class Scale:
    """How large everything is: as on an H200, or for a rehearsal."""

    product: int  # rows of the square matrices that are multiplied
    one_billion: LlamaConfig
    eight_billion: LlamaConfig
    rows: tuple[int, ...]  # tokens of a row
    long: int
    items: int
    batches: tuple[int, ...]  # of generation
    new_tokens: int
    timed: int  # steps


def llama(hidden: int, inner: int, layers: int, heads: int, kv: int, words: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=words,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv,
        max_position_embeddings=65_536,
        tie_word_embeddings=layers < 32,
        pad_token_id=0,
    )


FULL = Scale(
    product=8192,
    one_billion=llama(2048, 8192, 16, 32, 8, 128_256),
    eight_billion=llama(4096, 14_336, 32, 32, 8, 128_256),
    rows=(4096, 8192, 32_768),
    long=32_768,
    items=600,
    batches=(8, 64, 256),
    new_tokens=32,
    timed=4,
)
SMALL = Scale(
    product=256,
    one_billion=llama(64, 128, 2, 4, 2, 512),
    eight_billion=llama(96, 192, 2, 4, 2, 512),
    rows=(128, 256),
    long=384,
    items=12,
    batches=(2, 4),
    new_tokens=3,
    timed=2,
)
FAMILIES: dict[str, Any] = {
    "llama": llama(64, 128, 2, 4, 2, 512),
    "mistral": MistralConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=24,
        head_dim=16,
    ),
    "gemma3": Gemma3TextConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=24,
        head_dim=16,
        layer_types=["sliding_attention", "full_attention"],
    ),
}
SHAPE_135M = llama(576, 1536, 30, 9, 3, 49_152)


@dataclass
class Bench:
    """What the parts share."""

    scale: Scale
    device: torch.device
    rehearsed: bool

    @property
    def accelerator(self) -> str:
        return "gpu" if self.device.type == "cuda" else "cpu"

    def model(self, config: Any, dtype: torch.dtype = torch.bfloat16) -> Any:
        """At random, the same each time, straight on the device."""
        torch.manual_seed(0)
        with self.device:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        return model.to(self.device, dtype).eval()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def tuned(self, config: Any, method: str, **words: Any) -> tuple[updates.Update, Precision]:
        """An update on a new model, in the precision that `auto` means on a GPU."""
        precision = precision_of(method)
        update = updates.build({"name": "full"} if method == "full" else LORA)
        update.attach(self.model(config, precision.weights))
        update.model.train()
        checkpoint_activations(update.model, words.get("checkpointing", False))
        return update, precision


def precision_of(method: str) -> Precision:
    """What `auto` means on a GPU."""
    name = "bf16-mixed" if method == "full" else "bf16-true"
    return resolve(name, update=method, accelerator="cpu")


def draw(seed: int, words: int) -> Callable[[int], list[int]]:
    rng = np.random.default_rng(seed)
    return lambda count: rng.integers(1, words, count).tolist()


def chains(tokens: int, words: int, mean: int = 600) -> list[Tree]:
    """Instructions of log-normal lengths, of so many tokens together; a quarter is scored."""
    rng, write = np.random.default_rng(1), draw(2, words)
    found, left = [], tokens
    while left > 8:
        length = int(min(left, max(8, rng.lognormal(math.log(mean), 0.7))))
        weights = [0.0] * (length - length // 4) + [1.0] * (length // 4)
        found.append(Tree.of([TreePath(write(length), weights)]))
        left -= length
    return found


def pairs(count: int, words: int, prompt: int, answer: int) -> list[Tree]:
    write = draw(3, words)
    return [Tree.fork(write(prompt), [write(answer), write(answer + 3)]) for _ in range(count)]


# -------------------------------------------------------------------------------- the parts


def versions(bench: Bench) -> Found:
    """Part 1: what is installed, and what a product of matrices reaches."""
    names = ("torch", "triton", "transformers", "peft", "lightning")
    installed = {name: _version(name) for name in names}
    size = bench.scale.product
    a = torch.randn(size, size, device=bench.device, dtype=torch.bfloat16)
    seconds = timed(bench, lambda: a @ a, repeats=10)
    return {
        "versions": installed,
        "device": hardware(bench.device),
        "product_tflops": 2 * size**3 / seconds / 1e12,
        "branches": [mode.description for mode in candidates(bench.model(FAMILIES["llama"]))],
        "linear_cross_entropy": hasattr(torch.nn.functional, "linear_cross_entropy"),
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def correctness(bench: Bench) -> Found:
    """Part 2: the device against the CPU in fp32, then bf16 against fp32; every branch of attention
    against padded rows and for leaks; what must be exact is exact."""
    found: Found = {}
    for name, config in FAMILIES.items():
        words = config.vocab_size
        for objective, trees in ((SFT(), chains(900, words, 60)), (DPO(), pairs(6, words, 40, 20))):
            kind = f"{name} {type(objective).__name__}"
            exact = _gradient(bench, config, objective, trees, torch.float32, torch.device("cpu"))
            here = _gradient(bench, config, objective, trees, torch.float32, bench.device)
            short = _gradient(bench, config, objective, trees, torch.bfloat16, bench.device)
            off = float((here - exact).norm() / exact.norm())
            alike = float(torch.cosine_similarity(short, exact, dim=0))
            found[f"{kind}: gradient in fp32"] = judged(off, off <= 1e-5)
            found[f"{kind}: cosine of the gradient in bf16"] = judged(alike, alike > 0.999)
    for name, config in {**FAMILIES, "135M": SHAPE_135M}.items():
        if bench.rehearsed and name == "135M":
            continue
        for method in ("lora", "full"):
            found |= _attention(bench, name, config, method)
    return found | _exactness(bench)


def _attention(bench: Bench, name: str, config: Any, method: str) -> Found:
    """Every branch in the numbers in which that method runs, and which of them is chosen."""
    found: Found = {}
    precision = precision_of(method)
    model, products = bench.model(config, precision.weights), precision.products
    for mode in candidates(model, products):
        fault = fault_of(model, mode, products)
        found[f"{name} {method}: {mode.description}"] = judged(fault or "right", not fault)
    found[f"{name} {method}: chosen"] = judged(probe(model, products).description, True)
    return found


def _gradient(
    bench: Bench, config: Any, objective: Any, trees: list[Tree], dtype: Any, device: torch.device
) -> torch.Tensor:
    update = updates.build(LORA)
    model = replace(bench, device=torch.device("cpu")).model(config, torch.float32)
    torch.manual_seed(0)
    update.attach(model.to(device, dtype))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in update.parameters():
            noise = 0.05 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise.to(device))
    scorer = Scorer(update.model, probe(update.model), row_tokens=256, rows_at_once=4)
    if objective.needs_reference:
        with update.disabled():
            trees = live(trees, scorer)
    from myosotis.objectives.total import total

    total(
        scorer,
        objective,
        trees,
        scorer.batches(trees),
        normalizer=len(trees),
        kl_estimate=0.0,
        each=lambda _, share: share.backward(),
    )
    gradients = [p.grad for _, p in update.parameters() if p.grad is not None]
    return torch.cat([g.flatten().double().cpu() for g in gradients])


def _exactness(bench: Bench) -> Found:
    """Off is the base to the bit, no log-prob is above 0, DPO begins at ln 2, and the model stays
    where it trained."""
    config = FAMILIES["llama"]
    update, precision = bench.tuned(config, "lora")
    scorer = scorer_of(update, precision, 256)
    trees = pairs(6, config.vocab_size, 40, 20)
    plain = Scorer(bench.model(config), scorer.backend, row_tokens=256, rows_at_once=4)
    with update.disabled():
        before = scorer.evaluate(trees)
        referenced = live(trees, scorer)
    base = plain.evaluate(trees)
    same = all((a.logp == b.logp).all() for a, b in zip(before, base, strict=True))
    losses = steps(bench, update, scorer, DPO(beta=0.1), [referenced] * 3)
    with update.disabled():
        after = scorer.evaluate(trees)
    off = all((a.logp == b.logp).all() for a, b in zip(after, base, strict=True))
    words = Tree.fork([5, 6, 7], [[word] for word in range(1, 400)])  # each log-prob of a place
    highest = max(float(score.logp.max()) for score in scorer.evaluate([words]))
    places = {parameter.device.type for parameter in update.model.parameters()}
    return {
        "off before training is the base": judged(same, same),
        "off after training is the base": judged(off, off),
        "highest log-prob": judged(highest, highest <= 0),
        "loss of DPO at step 0": judged(losses[0], abs(losses[0] - math.log(2)) <= 1e-6),
        "where the model is after training": judged(sorted(places), places == {bench.device.type}),
    }


def host(bench: Bench) -> Found:
    """Part 3: how often a step waits for the device, how many kernels it starts, how long the
    device has nothing to do."""
    config = bench.scale.one_billion
    update, precision = bench.tuned(config, "lora")
    scorer = scorer_of(update, precision, bench.scale.rows[0])
    trees = chains(bench.scale.rows[0] * 2, config.vocab_size)
    work = functools.partial(one_step, bench, update, scorer, SFT(), trees)
    work()
    batches = len(scorer.batches(trees))
    if bench.device.type != "cuda":
        return {"batches": batches, "syncs": "not counted on a CPU"}
    few, more = (_waits(bench, update, scorer, [trees] * n) for n in (2, 6))
    syncs = (more - few) / 4  # what is waited for before and after the steps falls out
    from torch.profiler import ProfilerActivity, profile

    began = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as seen:
        work()
        bench.wait()
    wall = time.perf_counter() - began
    kernels = [e for e in seen.events() or [] if e.device_type.name == "CUDA"]
    busy = sum(e.device_time for e in kernels) / 1e6
    return {
        "batches": batches,
        "syncs a step": judged(syncs, syncs <= 1),
        "kernels": len(kernels),
        "idle_share": max(0.0, 1 - busy / wall),
    }


def _waits(bench: Bench, update: updates.Update, scorer: Scorer, batches: list[list[Tree]]) -> int:
    """How often a training of these steps waits for the device, Lightning's part included."""
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        steps(bench, update, scorer, SFT(), batches)
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in told)


Lines = Iterator[tuple[str, Callable[[], Found]]]
"""Of a part: what each is called, and how it is found."""


def branches(bench: Bench, method: str) -> list[PackingMode]:
    """Of attention, that can be tried in the numbers in which that method runs."""
    precision = precision_of(method)
    return candidates(bench.model(FAMILIES["llama"], precision.weights), precision.products)


def one_billion(bench: Bench) -> Lines:
    """Part 4: the 1B shape; LoRA and full, lengths of rows, branches of attention."""
    config = bench.scale.one_billion
    for method in ("lora", "full"):
        for tokens in bench.scale.rows:
            for mode in branches(bench, method):
                if mode.name == "dense" and tokens > 8192:
                    continue  # a mask of two gigabytes a row
                name = f"{method}, rows of {tokens}, {mode.description}"
                yield name, functools.partial(speed, bench, config, method, tokens, mode)


def eight_billion(bench: Bench) -> Lines:
    """Part 5: the 8B shape with LoRA, with MLPs and, for long rows, whole layers recomputed."""
    fastest = branches(bench, "lora")[0]
    line = functools.partial(speed, bench, bench.scale.eight_billion, "lora", mode=fastest)
    middle = bench.scale.rows[min(1, len(bench.scale.rows) - 1)]
    yield f"lora, rows of {middle}", functools.partial(line, middle)
    for tokens, level in ((middle, "mlp"), (bench.scale.long, True)):
        name = f"lora, rows of {tokens}, {'MLPs' if level == 'mlp' else 'layers'} recomputed"
        yield name, functools.partial(line, tokens, checkpointing=level)


def speed(
    bench: Bench,
    config: Any,
    method: str,
    tokens: int,
    mode: PackingMode,
    *,
    checkpointing: bool | str = False,
) -> Found:
    """Tokens a second, utilisation, and peak memory beside what a plan says."""
    update, precision = bench.tuned(config, method, checkpointing=checkpointing)
    scorer = Scorer(
        update.model, mode, row_tokens=tokens, rows_at_once=1, products=precision.products
    )
    trees = chains(tokens, config.vocab_size)
    make = for_device(functools.partial(torch.optim.AdamW, lr=1e-5), bench.device)
    optimizer = make([parameter for _, parameter in update.parameters()])
    work = functools.partial(one_step, bench, update, scorer, SFT(), trees, optimizer)
    memory.forget_peak()
    read = work()
    seconds = timed(bench, work, repeats=bench.scale.timed)
    total, trained = num_parameters(update.model), update.count()
    flops = read.flops(total, trained, text_config(update.model))
    own = trained if method == "full" else 0
    planned = StepLoad(
        sizes=Sizes(total - (trained if method == "lora" else 0), trained, own),
        text=text_config(update.model),
        precision=precision,
        optimizer_bytes=8,
        rows=1,
        row_tokens=tokens,
        checkpointing=checkpointing,
        on_gpu=bench.device.type == "cuda",
    ).memory()
    peak = peak_flops(hardware(bench.device), torch.bfloat16)
    return {
        "tokens_per_second": read.tokens / seconds,
        "tflop_per_second": flops / seconds / 1e12,
        "mfu": mfu(flops, seconds, peak),
        "peak_gb": memory.peak_gb(),
        "planned_gb": planned.total - planned.program,
    }


def retention(bench: Bench) -> Found:
    """Part 6: questions of four choices against padded forward passes, and written answers."""
    config = bench.scale.one_billion
    model, write = bench.model(config), draw(4, config.vocab_size)
    items = [
        Tree.fork(write(60 + 2 * (n % 40)), [write(6 + n % 9) for _ in range(4)])
        for n in range(bench.scale.items)
    ]
    ours = Scorer(model, probe(model), row_tokens=min(8192, bench.scale.long), rows_at_once=1)
    mine = timed(bench, lambda: ours.evaluate(items), repeats=1)
    theirs = timed(bench, lambda: _padded(bench, model, items), repeats=1)
    found: Found = {
        "items_per_second": len(items) / mine,
        "times_padded": theirs / mine,
    }
    prompts = [write(64) for _ in range(max(bench.scale.batches))]
    for size in bench.scale.batches:
        seconds = timed(bench, functools.partial(_write, bench, model, prompts, size), repeats=1)
        found[f"written tokens a second, {size} at a time"] = (
            len(prompts) * bench.scale.new_tokens / seconds
        )
    return found


@torch.no_grad()
def _padded(bench: Bench, model: Any, items: list[Tree], rows: int = 32) -> None:
    """As evaluation harnesses do it: a row a choice, sorted by length, padded, all logits."""
    paths = sorted((p.ids for item in items for p in item.paths()), key=len, reverse=True)
    for start in range(0, len(paths), rows):
        some = paths[start : start + rows]
        width = max(map(len, some))
        ids = torch.tensor([[*p, *[0] * (width - len(p))] for p in some], device=bench.device)
        seen = torch.tensor([[1] * len(p) + [0] * (width - len(p)) for p in some])
        logits = model(input_ids=ids, attention_mask=seen.to(bench.device)).logits
        logits.float().log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None]).sum().item()


@torch.no_grad()
def _write(bench: Bench, model: Any, prompts: list[list[int]], size: int) -> None:
    count = bench.scale.new_tokens
    for start in range(0, len(prompts), size):
        ids = torch.tensor(prompts[start : start + size], device=bench.device)
        words = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
        model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **words)


def beside(bench: Bench) -> Found:
    """Part 7: a plain loop of transformers and PEFT on the same tokens, padded; and a step whose
    memory runs out, which must end in the gradient of one whose does not."""
    config = bench.scale.one_billion
    tokens = bench.scale.rows[min(1, len(bench.scale.rows) - 1)]
    trees = chains(tokens, config.vocab_size)
    update, precision = bench.tuned(config, "lora")
    scorer = scorer_of(update, precision, tokens)
    ours = timed(bench, functools.partial(one_step, bench, update, scorer, SFT(), trees), repeats=2)
    del update, scorer
    theirs = timed(bench, _plain_loop(bench, config, trees), repeats=2)
    return {
        "tokens_per_second": tokens / ours,
        "plain_padded_tokens_per_second": tokens / theirs,
        "times_plain": theirs / ours,
        "gradient after running out of memory": _out_of_memory(bench),
    }


def _plain_loop(bench: Bench, config: Any, trees: list[Tree], rows: int = 8) -> Callable[[], None]:
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(bench.model(config), settings).train()
    paths = [tree.paths()[0] for tree in trees]

    def step() -> None:
        for start in range(0, len(paths), rows):
            some = paths[start : start + rows]
            width = max(len(p.ids) for p in some)
            ids = torch.zeros(len(some), width, dtype=torch.long)
            labels, seen = torch.full_like(ids, -100), torch.zeros_like(ids)
            for r, p in enumerate(some):
                ids[r, : len(p.ids)] = torch.tensor(p.ids)
                asked = torch.tensor(p.weights) > 0
                labels[r, : len(p.ids)][asked] = torch.tensor(p.ids)[asked]
                seen[r, : len(p.ids)] = 1
            there = [x.to(bench.device) for x in (ids, seen, labels)]
            model(input_ids=there[0], attention_mask=there[1], labels=there[2]).loss.backward()

    return step


def _out_of_memory(bench: Bench) -> Found:
    """Of the step's weights after one step of SGD, with and without."""
    config, found = FAMILIES["llama"], []
    trees = chains(600, config.vocab_size, 60)
    for fails in (False, True):
        update, precision = bench.tuned(config, "lora")
        scorer = replace_rows(scorer_of(update, precision, 96), 4)
        if fails:
            score, calls = scorer.score, [0]

            def failing(*args: Any, score: Any = score, calls: Any = calls, **words: Any) -> Any:
                calls[0] += 1
                if calls[0] == 2:
                    raise torch.OutOfMemoryError("CUDA out of memory (planted)")
                return score(*args, **words)

            scorer.score = failing  # type: ignore[method-assign]
        steps(bench, update, scorer, SFT(), [trees])
        found.append(torch.cat([p.detach().flatten().cpu() for _, p in update.parameters()]))
    off = float((found[0] - found[1]).norm() / found[0].norm())
    return judged(off, off <= 1e-3)


# -------------------------------------------------------------------------------- how


def scorer_of(update: updates.Update, precision: Precision, row_tokens: int) -> Scorer:
    mode = probe(update.model, precision.products)
    return Scorer(
        update.model, mode, row_tokens=row_tokens, rows_at_once=4, products=precision.products
    )


def replace_rows(scorer: Scorer, rows: int) -> Scorer:
    scorer.rows_at_once = rows
    return scorer


def one_step(
    bench: Bench,
    update: updates.Update,
    scorer: Scorer,
    objective: Any,
    trees: list[Tree],
    optimizer: torch.optim.Optimizer | None = None,
) -> Work:
    """Forward and backward over all rows, as the training step does it, and the step of an
    optimiser, if there is one; what was read."""
    from myosotis.objectives.total import total

    batches = scorer.batches(trees)
    loss, _ = total(
        scorer,
        objective,
        trees,
        batches,
        normalizer=sum(objective.normalizer(tree) for tree in trees),
        kl_estimate=0.0,
        each=lambda _, share: share.backward(),
    )
    loss.item()
    if optimizer is not None:
        optimizer.step()
    for _, parameter in update.parameters():
        parameter.grad = None
    layouts = [batch.layout for batch in batches]
    return Work(sum(x.tokens for x in layouts), sum(x.pairs for x in layouts))


def steps(
    bench: Bench,
    update: updates.Update,
    scorer: Scorer,
    objective: Any,
    batches: list[list[Tree]],
) -> list[float]:
    """Through Lightning, as a run does it; the loss of each step."""
    module = FineTuning(
        update,
        objective,
        scorer,
        optimizer=functools.partial(torch.optim.AdamW, lr=1e-3),
        schedule=Schedule("constant", 0, len(batches)),
    )
    losses: list[float] = []
    step = module.training_step

    def watched(batch: Any, batch_idx: int) -> Any:
        metrics = step(batch, batch_idx)
        losses.append(metrics["train/loss"])
        return metrics

    module.training_step = watched  # type: ignore[method-assign]
    trainer = lightning.Trainer(
        accelerator=bench.accelerator,
        devices=1,
        max_steps=len(batches),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, Steps(batches))
    return losses


@dataclass(frozen=True)
class Steps:
    """A data loader in Lightning's eyes: a list would be several."""

    batches: list[list[Tree]]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Tree]]:
        return iter(self.batches)


def timed(bench: Bench, work: Callable[[], object], repeats: int) -> float:
    """Seconds of one, the median of `repeats`, after one that does not count."""
    work()
    bench.wait()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        bench.wait()
        found.append(time.perf_counter() - began)
    return float(np.median(found))


def judged(value: Any, right: bool) -> Found:
    return {"found": value, "right": bool(right)}


PARTS: dict[str, tuple[Callable[[Bench], Any], float]] = {
    "versions": (versions, 20),
    "correctness": (correctness, 120),
    "host": (host, 40),
    "one_billion": (one_billion, 150),
    "eight_billion": (eight_billion, 70),
    "retention": (retention, 50),
    "beside": (beside, 50),
}
"""What is measured, and after how many seconds its next line is not begun any more."""


def run(bench: Bench, out: Path, seconds: float, only: list[str]) -> Found:
    began = time.perf_counter()
    found: Found = {"rehearsed": bench.rehearsed, "parts": {}}
    for name, (part, share) in PARTS.items():
        if only and name not in only:
            continue
        if time.perf_counter() - began > seconds:
            found["parts"][name] = {"skipped": "no time left"}
            continue
        started = time.perf_counter()
        found["parts"][name] = done = {}
        with _kept(done):
            lines = part(bench)
            if isinstance(lines, dict):
                done.update(lines)
                lines = ()
            for line, measured in lines:
                with _kept(done, f"{line}: "):
                    done[line] = measured()
                free(bench)
                if time.perf_counter() - started > share:
                    done["cut"] = f"after {share:g} seconds"
                    break
        done["seconds"] = time.perf_counter() - started
        free(bench)
        out.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {json.dumps(done)}", flush=True)
    found["red"] = red(found["parts"])
    found["seconds"] = time.perf_counter() - began
    out.write_text(json.dumps(found, indent=1) + "\n")
    return found


@contextmanager
def _kept(done: Found, line: str = "") -> Iterator[None]:
    """A part that fails is red, or a line of one, and the others go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a device, a driver or a kernel raises
        done[f"{line}failed"] = judged(f"{type(error).__name__}: {error}"[:500], False)
        done[f"{line}where"] = traceback.format_exc()[-1500:]


def free(bench: Bench) -> None:
    memory.give_back()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()


def red(parts: Found) -> list[str]:
    """The lines that are not as they must be."""
    return [
        f"{part}: {line}: {value['found']}"
        for part, lines in parts.items()
        for line, value in lines.items()
        if isinstance(value, dict) and value.get("right") is False
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--rehearse", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--seconds", type=float, default=450, help="no part begins after these")
    parser.add_argument("--only", nargs="*", default=[], choices=sorted(PARTS), metavar="PART")
    args = parser.parse_args()
    device = device_for("cpu" if args.rehearse else "gpu")
    if device.type != "cuda" and not args.rehearse:
        parser.error("there is no CUDA device here; --rehearse runs tiny shapes on a CPU")
    bench = Bench(SMALL if args.rehearse else FULL, device, args.rehearse)
    found = run(bench, args.out, args.seconds, args.only)
    for line in found["red"]:
        print(f"RED {line}")
    print(f"{len(found['red'])} red, {found['seconds']:.0f} seconds, {args.out}")
    return 1 if found["red"] else 0


if __name__ == "__main__":
    sys.exit(main())
