"""The learning rate of a run that names none: it belongs to the pair (update, objective)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from myosotis.utils.errors import ConfigError


@dataclass(frozen=True)
class Rate:
    """The default, the range practice stays in, and where both come from."""

    value: float
    low: float
    high: float
    source: str


RATES: dict[tuple[str, str], Rate] = {
    ("lora", "sft"): Rate(
        5e-4,
        5e-5,
        3e-3,
        "measured on SmolLM2-135M, r=16; larger models take 1e-4 to 2e-4",
    ),
    ("qlora", "sft"): Rate(5e-4, 5e-5, 3e-3, "the same as LoRA's"),
    ("adapter", "sft"): Rate(1e-3, 5e-5, 1e-2, "measured on SmolLM2-135M (docs/log.md)"),
    ("ia3", "sft"): Rate(5e-3, 5e-4, 5e-2, "few parameters, large steps (Liu et al. 2022: 3e-3)"),
    ("vera", "sft"): Rate(
        2e-2, 5e-4, 1e-1, "measured on SmolLM2-135M (docs/log.md); Kopiczko et al. 2024: 10x LoRA's"
    ),
    ("oft", "sft"): Rate(1e-3, 5e-5, 1e-2, "for rotation angles that start at zero"),
    ("osf", "sft"): Rate(
        5e-5,
        1e-6,
        3e-4,
        "as full tuning's: the directions of the weights that are left; not measured",
    ),
    ("probe", "sft"): Rate(1e-3, 1e-5, 1e-1, "for a linear classifier on normalised hidden states"),
    ("prefix", "sft"): Rate(1e-2, 5e-4, 1e-1, "measured on SmolLM2-135M (docs/log.md)"),
    ("prompt", "sft"): Rate(1e-2, 1e-3, 5e-1, "for trained embeddings in front of the prompt"),
    ("full", "sft"): Rate(
        5e-5,
        1e-6,
        3e-4,
        "a tenth of LoRA's, as in LoRA Without Regret (2025) and Biderman et al. (2024)",
    ),
}


PREFERENCES = ("dpo", "ipo", "hinge", "dpop", "simpo", "orpo", "kto", "reward")
PREFERENCES += ("grpo", "dr_grpo", "rloo", "ppo", "online_dpo")


def _of_pairs(update: str, objective: str) -> Rate | None:
    """Preference losses push two answers apart: a tenth of the rate for learning one is usual."""
    sft = RATES.get((update, "sft"))
    if sft is None or objective not in PREFERENCES:
        return None
    # SimPO: Meng et al. 2024 take 3e-7 to 1e-6 for full tuning. A value head begins at zero.
    share = {"simpo": 0.02, "reward": 0.5}.get(objective, 0.1)
    return Rate(
        share * sft.value, 0.001 * sft.low, sft.high / 3, f"{share:g} times the rate for sft"
    )


@dataclass(frozen=True)
class LearningRate:
    """The rate a run uses; `origin` and `warning` (or "") are sentences for a person."""

    value: float
    origin: str
    warning: str = ""


def learning_rate(cfg: Any) -> LearningRate:
    """optimizer.lr if given, else the default of the pair (update, objective).

    Raises `ConfigError` when none is given and the pair has no default.
    """
    pair = (str(cfg["update"].get("name", "")), str(cfg.objective.get("name", "")))
    rate, given = RATES.get(pair) or _of_pairs(*pair), cfg.optimizer.get("lr")
    names = " with ".join(pair)
    if given is None:
        if rate is None:
            known = ", ".join(" with ".join(p) for p in RATES)
            raise ConfigError(
                f"There is no default learning rate for {names}.",
                f"Give one with optimizer.lr=NUMBER. Defaults exist for {known}.",
            )
        return LearningRate(rate.value, f"default for {names}: {rate.source}")
    value = float(given)
    if rate is None or rate.low <= value <= rate.high:
        return LearningRate(value, "given")
    side = "above" if value > rate.high else "below"
    return LearningRate(
        value,
        "given",
        f"optimizer.lr={value:g} lies far {side} the usual range for {names} "
        f"({rate.low:g} to {rate.high:g}).",
    )
