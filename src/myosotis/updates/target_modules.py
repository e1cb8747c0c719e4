"""Which layers of a model an adapter is put on.

One function turns what a person writes (`attention`, a list, a regex) into the names of modules,
the same for every adapter method and every architecture.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.bounded import TooMuch, rendered
from myosotis.utils.errors import ConfigError

GROUPS = {
    "all-linear": re.compile(r".*"),
    "attention": re.compile(r".*\b\w*(attn|attention)\w*\.\w+"),
    "mlp": re.compile(r".*\b\w*(mlp|ffn|feed_forward|experts?)\w*\b.*"),
}


def linear_names(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers (GPT-2's `Conv1D` included) without the output head."""
    head = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]


def layer_stack(model: PreTrainedModel) -> tuple[str, int]:
    """Name of the list of transformer layers, and how many there are: the largest `ModuleList`."""
    stacks = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    if not stacks:
        raise ConfigError(f"{type(model).__name__} has no list of layers")
    name, stack = max(stacks, key=lambda s: sum(p.numel() for p in s[1].parameters()))
    return name, len(stack)


def resolve(model: PreTrainedModel, spec: str | Sequence[str]) -> list[str]:
    """Names of the modules that `spec` means.

    `spec` is a group (`all-linear`, `attention`, `mlp`), a list of name endings (`q_proj`,
    `layers.0.mlp.up_proj`), or a regex that must match a whole name. Raises `ConfigError` when it
    matches nothing, or something that is not a linear layer below the output head.
    """
    linear = linear_names(model)
    if isinstance(spec, str):
        try:
            return rendered(lambda: _by_pattern(model, spec, linear))
        except TooMuch as error:  # an adapter from elsewhere may bring a pattern that never ends
            raise ConfigError(f"update.target_modules={spec[:80]}: {error}") from None
    if not isinstance(spec, Sequence):
        raise ConfigError(f"update.target_modules={spec}", "a group, a pattern or a list of names")
    modules: set[str] = set()
    for ending in spec:
        matches = {n for n, _ in model.named_modules() if n == ending or n.endswith(f".{ending}")}
        if not matches:
            leaves = {n.rpartition(".")[2] for n in linear}
            raise ConfigError(
                f"update.target_modules: no module is named {ending}",
                did_you_mean(ending, leaves, f"There is {', '.join(sorted(leaves))}."),
            )
        modules |= matches
    if not modules:
        raise ConfigError("update.target_modules is empty", "name at least one layer")
    return _only_linear(model, modules, linear)


def _by_pattern(model: PreTrainedModel, spec: str, linear: list[str]) -> list[str]:
    if spec in GROUPS:
        modules = [n for n in linear if GROUPS[spec].fullmatch(n)]
        if not modules:
            raise ConfigError(
                f"update.target_modules={spec}: no layer of this model looks like one",
                f"list their names instead; it has {', '.join(linear[:12])} …",
            )
        return modules
    try:
        pattern = re.compile(spec)
    except re.error as error:
        raise ConfigError(f"update.target_modules={spec} is not a regex: {error}") from None
    modules = [n for n, _ in model.named_modules() if n and pattern.fullmatch(n)]
    if not modules:
        raise ConfigError(
            f"update.target_modules={spec} matches no whole module name",
            did_you_mean(spec, GROUPS, f"To mean a name ending write [{spec}]."),
        )
    return _only_linear(model, modules, linear)


def _only_linear(model: PreTrainedModel, modules: Iterable[str], linear: list[str]) -> list[str]:
    head = model.get_output_embeddings()
    for name in sorted(set(modules) - set(linear)):
        if model.get_submodule(name) is head:
            raise ConfigError(
                f"update.target_modules: {name} is the output head, which is never a target",
                "it may share its weights with the embeddings, and they would drift apart",
            )
        raise ConfigError(f"update.target_modules: {name} is not a linear layer")
    return [n for n in linear if n in set(modules)]


def shortest_suffixes(wanted: Sequence[str], names: Iterable[str]) -> list[str]:
    """Endings that match exactly `wanted` among all module `names`, as short as can be.

    What an adapter file stores: `q_proj` rather than thirty whole names, but `attn.c_proj` where
    `mlp.c_proj` exists and is not wanted.
    """
    others = set(names) - set(wanted)

    def shortest(name: str) -> str:
        parts = name.split(".")
        endings = (".".join(parts[i:]) for i in range(len(parts) - 1, -1, -1))
        free = (e for e in endings if not any(o == e or o.endswith(f".{e}") for o in others))
        return next(free, name)

    return sorted({shortest(name) for name in wanted})
