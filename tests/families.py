"""Every method on a tiny random model of every family: what works, what is refused and why, and
whether what was exported loads in plain transformers with the same logits.

    python -m tests.families          writes docs/reference/families.md
    python -m tests.families --check  fails when the page is not what would be written

A model has two layers of width 32 and is loaded from a folder as any other. Packed or padded is
what the packing check finds; each method takes a few steps on trees, is switched off, saved,
loaded and exported. The exports are loaded in a process of its own that cannot import myosotis.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from safetensors.torch import save_file

from myosotis import updates
from myosotis.commands.components import tuned_scorer
from myosotis.models.dropouts import zero_dropouts
from myosotis.models.load import BaseModel, ModelSource, load_base_model
from myosotis.trees.packing_check import probe
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Path as Tokens
from myosotis.trees.tree import Target, Tree
from myosotis.updates.base import Update
from myosotis.updates.target_modules import expert_parameters
from myosotis.utils.errors import MyosotisError
from tests.tiny import SIZE, VOCAB

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "families.md"


def _size(*left_out: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in SIZE.items() if key not in left_out} | more


SLIDING = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4}

FAMILIES: dict[str, Callable[[], hf.PretrainedConfig]] = {
    "Llama": lambda: hf.LlamaConfig(**SIZE, tie_word_embeddings=True),
    "Mistral": lambda: hf.MistralConfig(**SIZE, sliding_window=6),
    "Qwen2": lambda: hf.Qwen2Config(**SIZE),
    "Qwen3": lambda: hf.Qwen3Config(**SIZE, head_dim=8),
    "Gemma 2": lambda: hf.Gemma2Config(**SIZE, head_dim=8, sliding_window=6),
    "Gemma 3": lambda: hf.Gemma3TextConfig(**SIZE, head_dim=8, **SLIDING),
    "Phi-3": lambda: hf.Phi3Config(**SIZE, sliding_window=None),
    "SmolLM3": lambda: hf.SmolLM3Config(**SIZE, no_rope_layers=[1, 0]),
    "OLMo 2": lambda: hf.Olmo2Config(**SIZE),
    "Granite": lambda: hf.GraniteConfig(**SIZE, logits_scaling=2.0, residual_multiplier=0.5),
    "Cohere": lambda: hf.CohereConfig(**SIZE, logit_scale=0.5),
    "GLM-4": lambda: hf.GlmConfig(**SIZE, head_dim=8),
    "GPT-2": lambda: hf.GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3
    ),
    "GPT-NeoX": lambda: hf.GPTNeoXConfig(**_size("num_key_value_heads")),
    "OPT": lambda: hf.OPTConfig(
        **_size("intermediate_size", "num_key_value_heads"), ffn_dim=48, word_embed_proj_dim=32
    ),
    "BLOOM": lambda: hf.BloomConfig(
        vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3
    ),
    "Mixtral": lambda: hf.MixtralConfig(**SIZE, **EXPERTS),
    "Qwen3-MoE": lambda: hf.Qwen3MoeConfig(
        **SIZE, head_dim=8, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2
    ),
    "gpt-oss": lambda: hf.GptOssConfig(
        **SIZE, **EXPERTS, **SLIDING, head_dim=8, rope_parameters={"rope_type": "default"}
    ),
    "Mamba": lambda: hf.MambaConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.3
    ),
    "Jamba": lambda: hf.JambaConfig(
        **_size("max_position_embeddings"), attn_layer_period=2, attn_layer_offset=1,
        expert_layer_period=2, expert_layer_offset=1, num_experts=2, num_experts_per_tok=1,
        mamba_d_state=8, mamba_dt_rank=4,
    ),
    "Falcon-H1": lambda: hf.FalconH1Config(
        **SIZE, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8
    ),
    "Qwen3-Next": lambda: hf.Qwen3NextConfig(
        **SIZE, head_dim=8, layer_types=["linear_attention", "full_attention"],
        num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=8,
        linear_value_head_dim=8,
    ),
    "LFM2": lambda: hf.Lfm2Config(**SIZE, layer_types=["conv", "full_attention"]),
}  # fmt: skip

METHODS: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "lora": {"name": "lora", "r": 4},
    "experts": {"name": "lora", "r": 4, "target_modules": None, "target_parameters": "experts"},
    "qlora": {"name": "qlora", "r": 4, "quantization": "nf4"},
    "adapter": {"name": "adapter", "bottleneck": 8},
    "prefix": {"name": "prefix", "peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3},
    "prompt": {"name": "prompt", "peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3},
    "ia3": {"name": "ia3", "peft_type": "IA3"},
    "vera": {"name": "vera", "peft_type": "VERA", "r": 8, "target_modules": "all-linear"},
    "probe": {"name": "probe", "labels": ["a", "b"]},
}
RATE = {"full": 1e-3, "prefix": 3e-1, "prompt": 1e-1, "ia3": 3e-1, "vera": 1e-1}

BOUND = 2e-5  # of an exported model's logits, as a share of the largest
TREES = [
    Tree.fork(list(range(3, 3 + n)), [[40 + n, 50, 60 + n, 2], [70 + n, 2]]) for n in (4, 6, 9)
]
LABELS = [Tree.of([Tokens([5 + n, 20, 40 + n], [0.0] * 3, Target.LABEL, n % 2)]) for n in range(4)]
IDS = torch.arange(3, 27).reshape(2, 12)


@dataclass
class Cell:
    """What one method does on one family."""

    refused: str = ""  # in which words
    form: str = ""  # what is exported: merged, adapter, or nothing
    remarks: list[str] = field(default_factory=list)  # what is said of how it was attached
    logits: float | None = None  # of the export in plain transformers, off by so many at most


@dataclass
class Row:
    """One family."""

    name: str
    packing: str
    reason: str
    cells: dict[str, Cell] = field(default_factory=dict)


def matrix(
    names: Iterable[str] = FAMILIES, methods: Iterable[str] = METHODS, place: Path | None = None
) -> list[Row]:
    """The rows of these families. A method that does what it should not raises."""
    with tempfile.TemporaryDirectory() as temporary:
        place = place or Path(temporary)
        rows = [_row(name, list(methods), place) for name in names]
        for export, off in _reloaded(place).items():
            name, method = export.split("/")
            next(row for row in rows if row.name == name).cells[method].logits = off
            assert off < BOUND, f"the export of {export} is off by {off} of the largest logit"
        return rows


def written(name: str, folder: Path) -> ModelSource:
    """A model of the family with a tokenizer, as a folder."""
    from tests.models.test_load import tokenizer

    torch.manual_seed(0)
    hf.AutoModelForCausalLM.from_config(FAMILIES[name]()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return ModelSource("local", None, str(folder))


def _row(name: str, methods: list[str], place: Path) -> Row:
    source = written(name, place / name / "base")
    base = load_base_model(source)
    zero_dropouts(base.model)
    mode = probe(base.model)
    row = Row(name, mode.name, mode.reason)
    scorer = Scorer(base.model, mode, row_tokens=64)
    for method in methods:
        if method == "experts" and not expert_parameters(base.model):
            continue
        model = copy.deepcopy(base.model)
        if method == "qlora":
            model = load_base_model(source, quantization="nf4").model
            zero_dropouts(model)
        row.cells[method] = _cell(METHODS[method], model, base, scorer, place / name / method)
    return row


def _cell(
    settings: dict[str, Any], model: Any, base: BaseModel, scorer: Scorer, place: Path
) -> Cell:
    torch.manual_seed(1)
    update = updates.build(settings)
    fresh = copy.deepcopy(model) if settings["name"] != "qlora" else None
    try:
        update.attach(model, base.tokenizer)
    except MyosotisError as error:
        return Cell(refused=f"{error.message.rstrip('.')}. {error.hint}".strip())
    on = tuned_scorer(scorer, update)
    trees = LABELS if update.reads_labels else TREES
    with update.disabled():
        before = _scores(on, trees)
    _train(update, on, trees, RATE.get(str(settings["name"]), 2e-2))
    with update.disabled():
        assert torch.equal(_scores(on, trees), before), "switched off it is not the base"
    update.fingerprint_base()
    tuned = _scores(on, trees)
    assert (tuned - before).abs().max() > 1e-3, "it does not train"
    update.save(place / "update", base_id="owner/tiny")
    if fresh is not None:
        again = updates.from_folder(place / "update")
        again.attach(fresh, base.tokenizer)
        again.load(place / "update")
        apart = (_scores(tuned_scorer(scorer, again), trees) - tuned).abs().max()
        assert apart < 1e-5, f"loaded anew it is {apart} nats away"
    return _exported(update, place)


def _train(update: Update, scorer: Scorer, trees: list[Tree], lr: float) -> None:
    optimizer = torch.optim.AdamW([p for _, p in update.parameters()], lr=lr)
    update.verify(optimizer)
    losses: list[float] = []
    update.model.train()
    for _ in range(3):
        optimizer.zero_grad()
        total = 0.0
        for batch in scorer.batches(trees):
            loss = -scorer.score(batch).logp_B.sum() / len(trees)
            loss.backward()
            total += loss.item()
        optimizer.step()
        losses.append(total)
    update.model.eval()
    assert losses[-1] < losses[0], f"the loss does not fall: {losses}"


def _scores(scorer: Scorer, trees: list[Tree]) -> torch.Tensor:
    return torch.cat([torch.from_numpy(score.logp) for score in scorer.evaluate(trees)])


def _exported(update: Update, place: Path) -> Cell:
    """The merged model, or PEFT's folder; beside it what the logits should be."""
    cell = Cell(remarks=update.remarks())
    with torch.no_grad():
        logits = update.model(input_ids=IDS).logits.contiguous()
    if update.capabilities.mergeable:
        cell.form = "merged"
        update.merged().save_pretrained(place / "merged")
    elif (place / "update" / "adapter_config.json").is_file():
        cell.form = "adapter"
    if cell.form:
        save_file({"logits": logits, "ids": IDS}, place / "wanted.safetensors")
    return cell


# A process in which `import myosotis` fails, with transformers and PEFT as anyone has them.
_PLAIN = """
import json, sys, torch
from pathlib import Path
sys.modules["myosotis"] = None
import transformers
from peft import PeftModel
from safetensors.torch import load_file
transformers.logging.set_verbosity_error()
found = {}
for file in sorted(Path(sys.argv[1]).glob("*/*/wanted.safetensors")):
    place, wanted = file.parent, load_file(file)
    load = transformers.AutoModelForCausalLM.from_pretrained
    models, off = [], []
    if (place / "merged").is_dir():
        models.append(load(place / "merged", dtype=torch.float32))
    if (place / "update" / "adapter_config.json").is_file() and place.name != "qlora":
        models.append(PeftModel.from_pretrained(load(place.parent / "base"), place / "update"))
    for model in models:
        with torch.no_grad():
            logits = model.eval()(input_ids=wanted["ids"]).logits
        off.append((logits[:, -wanted["logits"].shape[1]:] - wanted["logits"]).abs().max().item())
    found[f"{place.parent.name}/{place.name}"] = max(off) / wanted["logits"].abs().max().item()
print(json.dumps(found))
"""


def _reloaded(place: Path) -> dict[str, float]:
    """By family and method: how far the logits of the export are off, as a share of the largest."""
    command = [sys.executable, "-c", _PLAIN, str(place)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1])


# ------------------------------------------------------------------------------------ the page


HEADS = {
    "full": "full", "lora": "LoRA", "experts": "LoRA on experts", "qlora": "QLoRA",
    "adapter": "adapter", "prefix": "prefix", "prompt": "prompt", "ia3": "IA3", "vera": "VeRA",
    "probe": "probe",
}  # fmt: skip
FORMS = {"merged": "merged", "adapter": "PEFT", "": "yes"}
ABOUT = """\
# Families of models

<!-- Written by `python -m tests.families`; do not edit. To write it anew, run that. -->

Every method was tried on a random model of two layers of every family, loaded from a folder as any
other model: a few training steps, switched off (the base's scores bit for bit), saved, loaded anew,
and exported. Each export was then loaded in a process of its own by plain transformers (and PEFT),
without myosotis, and gave the same logits: none was off by more than {bound:g} of the largest.

**Rows** are *packed* where the packing check at the start of a run finds that trees can share a
row and keep the scores of padded rows, and *padded* (one path per row, slower) where they cannot;
the reason stands below. The weights of these models are random, so the table says what runs and is
computed right, not how well it learns.

What a cell says: **merged**, the update is exported as plain weights (and, but for full tuning, as
an adapter of PEFT, too); **PEFT**, it is exported as an adapter that PEFT loads; **yes**, it works
and is kept beside its base in a format of our own; **–**, it is refused before weights load, in the
words below; **·**, there is nothing to put it on. QLoRA's adapter is loaded on a base in four bits,
which this table does not try; its merged weights are.
"""


SAID = "`update.target_modules=all-linear` does not reach everything everywhere, and a run says so:"


def page(rows: list[Row]) -> str:
    """The table of families in Markdown."""
    parts = [
        ABOUT.format(bound=BOUND),
        "\n".join([*_head(), *map(line, rows)]),
        "## Why rows are padded",
        "\n".join(f"- **{r.name}**: {_steady(r.reason)}." for r in rows if r.packing == "padded"),
        "## Refused",
        "\n".join(text for row in rows for text in refused(row)),
        "## What a group of layers leaves out",
        SAID,
        "\n".join(text for row in rows for text in remarks(row)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _head() -> list[str]:
    return [f"| family | rows | {' | '.join(HEADS.values())} |", "|---" * (2 + len(HEADS)) + "|"]


def line(row: Row) -> str:
    """A family's line of the table."""
    rows = "packed" if row.packing == "dense" else row.packing
    cells = [_shown(row.cells.get(method)) for method in HEADS]
    return f"| {' | '.join([row.name, rows, *cells])} |"


def _shown(cell: Cell | None) -> str:
    if cell is None:
        return "·"
    return "–" if cell.refused else FORMS[cell.form]


def refused(row: Row) -> list[str]:
    """What is refused of a family, in the words that a run says."""
    return [
        f"- **{row.name}**, {HEADS[method]}: {cell.refused}"
        for method, cell in row.cells.items()
        if cell.refused
    ]


def remarks(row: Row) -> list[str]:
    """What a run with LoRA says of a family."""
    return [f"- **{row.name}**: {text}." for text in row.cells["lora"].remarks]


def _steady(reason: str) -> str:
    """The reason without numbers and words that differ between machines and releases."""
    reason = re.sub(r"( \(\w+Error.*|packing check failed: )", "", reason)
    return re.sub(r" by up to .*", " in packed rows", reason)


def main(arguments: list[str]) -> int:
    hf.logging.set_verbosity_error()
    hf.logging.disable_progress_bar()
    text = page(matrix())
    if arguments == ["--check"]:
        return int(PAGE.read_text("utf-8") != text)
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
