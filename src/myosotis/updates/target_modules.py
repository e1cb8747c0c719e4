"""Which layers of a model an adapter is put on.

One function turns what a person writes (`attention`, a list, a regex) into the names of modules,
the same for every adapter method and every architecture; another does so for the experts of a
mixture that are fused into one tensor and are no modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from myosotis.utils.bounded import TooMuch, rendered
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError

GROUPS = {
    "all-linear": re.compile(r".*"),
    "attention": re.compile(r".*\b\w*(attn|attention)\w*\.\w+"),
    "mlp": re.compile(r".*\b\w*(mlp|ffn|feed_forward|experts?)\w*\b.*"),
}

EXPERTS = re.compile(r"(.*\.)?\w*experts\.\w+")


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
    `layers.0.mlp.up_proj`), or a regex that must match a whole name. The output head is in no
    group, and is a target where it is named and has weights of its own. Raises `ConfigError` when
    it matches nothing, something that is not a linear layer, or a head that is tied.
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


def read_past(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers whose weights fused kernels take without calling the layer.

    Of a state-space mixer (Mamba and its kin in hybrids) only `in_proj` is always called; the
    reference code of the first Mamba takes `dt_proj.weight` alone, too. What is put on the others
    is ignored, depending on which kernels are installed.
    """
    signs = ("A_log", "ssm_state_size")  # as transformers writes such a mixer
    mixers = {n for n, m in model.named_modules() if all(hasattr(m, sign) for sign in signs)}
    return [
        name
        for name in linear_names(model)
        if name.rpartition(".")[0] in mixers and not name.endswith(".in_proj")
    ]


def expert_parameters(model: PreTrainedModel) -> list[str]:
    """Names of the weights of fused experts: (experts, d, d) in one tensor, biases left out."""
    return [n for n, p in model.named_parameters() if p.ndim == 3 and EXPERTS.fullmatch(n)]


def resolve_parameters(model: PreTrainedModel, spec: str | Sequence[str]) -> list[str]:
    """The tensors that `update.target_parameters` means (`experts`, or a list of endings), by
    endings that only they have: `experts.down_proj`, or longer.

    Raises `ConfigError` where this model has none that is called so.
    """
    fused = expert_parameters(model)
    endings = [] if isinstance(spec, str) else spec
    chosen = fused if spec == "experts" else [n for n in fused if n.endswith(tuple(endings))]
    if not chosen:
        said = ", ".join(sorted({two_endings(n) for n in fused}))
        raise ConfigError(
            f"update.target_parameters={spec}: this model has no fused experts that are called so",
            f"It is experts, or a list of these: {said}."
            if fused
            else "Its layers are all modules: update.target_modules names them.",
        )
    names = [n for n, _ in model.named_parameters()]
    whole = {name.rpartition(".")[2]: two_endings(name) for name in chosen}
    return sorted({whole.get(ending, ending) for ending in shortest_suffixes(chosen, names)})


def two_endings(name: str) -> str:
    """`experts.down_proj` of a tensor's whole name."""
    return ".".join(name.split(".")[-2:])


IA3_OUTPUTS = (["k_proj", "v_proj"], ["qkv_proj"], ["query_key_value"], ["key", "value"])
IA3_INPUTS = ("down_proj", "dense_4h_to_h", "fc2", "feed_forward.w2")


def ia3_targets(model: PreTrainedModel) -> dict[str, list[str]]:
    """What IA3 multiplies, where PEFT does not know the architecture: keys and values, and what
    enters the last layer of the MLP (Liu et al. 2022, section 3.3). Empty where there are none.
    """
    linear = linear_names(model)
    there = lambda ending: any(n.endswith(f".{ending}") for n in linear)  # noqa: E731
    outputs = next((names for names in IA3_OUTPUTS if all(map(there, names))), [])
    inputs = [name for name in IA3_INPUTS if there(name)]
    if not outputs:
        return {}
    return {"target_modules": [*outputs, *inputs], "feedforward_modules": inputs}


def are_none(model: PreTrainedModel, spec: str | Sequence[str] | None) -> bool:
    """Whether nothing was asked for, or a group of which this model has no layer."""
    if isinstance(spec, str) and spec in GROUPS:
        return not any(map(GROUPS[spec].fullmatch, linear_names(model)))
    return not spec


def targets_that_exist(model: PreTrainedModel) -> str:
    """What could be written instead, as a sentence."""
    past = set(read_past(model))
    linear = [n for n in linear_names(model) if n not in past]
    groups = [name for name, group in GROUPS.items() if any(map(group.fullmatch, linear))]
    leaves = sorted({n.rpartition(".")[2] for n in linear})
    found = f"Of this model there are update.target_modules={' or '.join(groups)}"
    found += f", or a list of {', '.join(leaves)}."
    if expert_parameters(model):
        found += " Its experts are fused: update=lora reaches them by target_parameters=experts."
    return found


def taken_for_experts(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers that PEFT's LoRA cannot be put on: in families of mixtures it
    takes their last names (`gate_proj` of a shared expert) for those of experts that
    transformers 4 kept apart and transformers 5 fuses."""
    try:
        from peft.utils import transformers_weight_conversion as conversion

        family = conversion._MODEL_TO_CONVERSION_PATTERN.get(model.config.model_type, "")
        names = conversion._MOE_TARGET_MODULE_MAPPING.get(family, {})
    except (ImportError, AttributeError):  # another PEFT, which does not convert
        return []
    return [n for n in linear_names(model) if n.rpartition(".")[2] in names]


def said_of_taken(taken: Iterable[str]) -> str:
    """What a person should know of `taken_for_experts`."""
    names = ", ".join(sorted({name.rpartition(".")[2] for name in taken}))
    return (
        f"LoRA is not put on {names} outside the fused experts of this model: PEFT takes these "
        "names for the experts"
    )


def left_out(model: PreTrainedModel, words: Mapping[str, Any]) -> list[str]:
    """A sentence for each kind of layer that a group stands for and does not reach."""
    return [*_kernels(model, words), *_experts(model, words)]


def _kernels(model: PreTrainedModel, words: Mapping[str, Any]) -> list[str]:
    past = read_past(model)
    if words.get("target_modules") != "all-linear" or not past:
        return []
    names = ", ".join(sorted({n.rpartition(".")[2] for n in past}))
    return [
        f"update.target_modules=all-linear leaves out {names} of the state-space layers: their "
        "kernels read the weights without the adapter"
    ]


def _experts(model: PreTrainedModel, words: Mapping[str, Any]) -> list[str]:
    group = words.get("target_modules")
    fused = expert_parameters(model)
    if not (group is None or group in ("all-linear", "mlp")) or not fused:
        return []
    if words.get("target_parameters"):
        return []
    sizes = dict(model.named_parameters())
    share = sum(sizes[name].numel() for name in fused) / sum(p.numel() for p in sizes.values())
    return [
        f"The experts of this model ({share:.0%} of its parameters) are fused into single tensors, "
        "and update.target_modules does not reach them; update=lora update.target_parameters="
        "experts does"
    ]


def _by_pattern(model: PreTrainedModel, spec: str, linear: list[str]) -> list[str]:
    if spec in GROUPS:
        past = set(read_past(model))
        modules = [n for n in linear if GROUPS[spec].fullmatch(n) and n not in past]
        if not modules:
            raise ConfigError(
                f"update.target_modules={spec}: no layer of this model looks like one",
                targets_that_exist(model),
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
    wanted, head = set(modules), model.get_output_embeddings()
    for name in sorted(wanted - set(linear)):
        if model.get_submodule(name) is not head:
            raise ConfigError(f"update.target_modules: {name} is not a linear layer")
        if is_tied(model):
            raise ConfigError(
                f"update.target_modules: {name} shares its weights with the input embedding",
                "an adapter on one of the two would part them: leave it out, or tune both by "
                "update=full",
            )
    return [n for n, _ in model.named_modules() if n in wanted]


def is_tied(model: PreTrainedModel) -> bool:
    """Whether the output head and the input embedding are one tensor."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


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
