"""Studies as a sweep leaves them: the numbers are made up, their relations are not.

LoRA's best learning rate does not depend on its rank; what is forgotten grows with the rate.
"""

from __future__ import annotations

import math
import random

from myosotis.records.schema import (
    Baseline,
    CurvePoint,
    DataInfo,
    DialChoice,
    DialPoint,
    Flip,
    GitState,
    HalfResult,
    ModelInfo,
    RetentionRow,
    RunRecord,
    SuiteVerdict,
    TaskQuality,
    UpdateInfo,
)

BENCHMARKS = {"hellaswag": 0.42, "arc_easy": 0.51, "piqa": 0.67}
RANKS, RATES, SEEDS = (4, 16, 64), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), (0, 1, 2)
BASE = -3.551


def rank_lr() -> list[RunRecord]:
    """Rank by learning rate by seed, LoRA; r=64 at 1e-2 fails, r=4 at 1e-4 lacks a seed."""
    records = []
    for r in RANKS:
        for lr in RATES:
            for seed in SEEDS:
                if (r, lr, seed) == (4, 1e-4, 1):
                    continue
                record = trial("lora", r, lr, seed)
                if (r, lr) == (64, 1e-2):
                    record = failed(record)
                records.append(record)
    return records


def failed(record: RunRecord) -> RunRecord:
    return RunRecord(
        record.run_id, record.run_name, status="FAILED", error="Loss infinite at step 43.",
        started=record.started, ended=record.ended, command=record.command, config=record.config,
        update=record.update, model=record.model, data=record.data, config_hash=record.config_hash,
    )  # fmt: skip


def preferences(*, held_out: bool = False) -> list[RunRecord]:
    """DPO over beta: the margin grows, and with a small beta the chosen answers fall, too."""
    records = []
    for beta in (0.05, 0.1, 0.3):
        record = trial("lora", 16, 5e-5, 0)
        record.run_id, record.run_name = f"d{beta}", f"dpo-beta{beta:g}"
        record.config |= {"objective": {"name": "dpo", "beta": beta}}
        grown = [1 - math.exp(-step / 20) for step in range(1, 61)]
        kept = 40 * (beta - 0.1)
        for step, share in enumerate(grown, 1):
            chosen, rejected = beta * share * kept, -beta * share * 30
            values = {
                "reward_margin": chosen - rejected, "reward_accuracy": 0.5 + 0.4 * share,
                "chosen_reward": chosen, "rejected_reward": rejected,
                "chosen_logp": -60 + share * kept, "rejected_logp": -58 - share * 30,
                "chosen_tokens": 31.0, "rejected_tokens": 22.0,
            }  # fmt: skip
            record.curves += [CurvePoint(step, f"train/{n}", v) for n, v in values.items()]
            if held_out and step % 15 == 0:
                lower = {n: 0.8 * v for n, v in values.items()}
                record.curves += [CurvePoint(step, f"val/{n}", v) for n, v in lower.items()]
        records.append(record)
    return records


def methods() -> list[RunRecord]:
    """One trial a method, each at its own rate."""
    rates = {"full": 5e-5, "lora": 5e-4, "adapter": 1e-3, "ia3": 5e-3, "prompt": 1e-2}
    return [trial(name, 16, lr, 0) for name, lr in rates.items()]


_TRAINABLE = {"full": 134_515_008, "adapter": 2_525_040, "ia3": 57_600, "prompt": 11_520}
_STRENGTH = {"full": 1.6, "lora": 1.0, "adapter": 0.9, "ia3": 0.45, "prompt": 0.3}


def trial(method: str, r: int, lr: float, seed: int) -> RunRecord:
    """A finished run: quality peaks near its method's rate, loss grows with the rate."""
    rng = random.Random(f"{method} {r} {lr} {seed}")
    best = {"full": 1e-4, "lora": 1.2e-3, "adapter": 1e-3, "ia3": 5e-3, "prompt": 1e-2}[method]
    strength = _STRENGTH[method]
    off = math.log10(lr / best)
    gain = (0.86 + 0.03 * math.log2(r / 4)) * min(1, 0.3 + 0.7 * strength) * math.exp(-0.9 * off**2)
    gain += rng.gauss(0, 0.012)
    loss = 0.008 * strength * (lr / best) ** 0.7 * (1 + 0.06 * math.log2(r / 4)) + rng.gauss(
        0, 0.002
    )
    trainable = 305_280 * r if method == "lora" else _TRAINABLE[method]
    update = {"name": method, **({"r": r, "lora_alpha": 2 * r} if method == "lora" else {})}
    rows = [_row(name, base, -loss * weight, rng) for (name, base), weight in zip(
        BENCHMARKS.items(), (1.5, 1.0, 0.5), strict=True)]  # fmt: skip
    delta = sum(row.delta or 0 for row in rows) / len(rows)
    rank = f"-r{r}" if method == "lora" else ""
    given = [f"update.r={r}"] if method == "lora" else []
    curve = [
        (k, -BASE - gain * (1 - math.exp(-k / 15)) + rng.gauss(0, 0.05)) for k in range(1, 61, 3)
    ]
    dialled = [_dialled(a, gain * a * (2 - a), delta * a) for a in (0.25, 0.5, 0.75, 1.0)]
    inside = [point for point in dialled if point.verdict == "retained"]
    number = f"{rng.getrandbits(128):032x}"
    seconds = 262 + 0.35 * r + rng.random() * 9
    return RunRecord(
        run_id=number,
        run_name=f"{method}{rank}-lr{lr:.0e}-s{seed}".replace("e-0", "e-"),
        status="FINISHED",
        started=f"2026-03-02T{9 + seed:02d}:14:07+00:00",
        ended=f"2026-03-02T{9 + seed:02d}:25:41+00:00",
        command=["myosotis", "train", f"method={method}", *given, f"optimizer.lr={lr:g}",
                 f"seed={seed}"],
        config={
            "seed": seed, "out": f"multirun/{number[:6]}", "update": update,
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": lr},
            "objective": {"name": "sft"}, "trainer": {"max_steps": 60},
        },
        config_hash=number[:16],
        versions={"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        git=GitState("0a08646e0c1d4c2b9be2f9d6f5c37d1f3f8c9a11"),
        host={"platform": "Linux x86_64", "cpu_count": 2, "accelerator": "none"},
        model=ModelInfo("sample", "its numbers are made up", 134_515_008, "float32", "b179"),
        data=DataInfo("docstrings", {"train": 4000, "test": 200}, {}, "c0ffee12"),
        update=UpdateInfo(method, trainable, 134_515_008, dict(update), True, 1.9e-6),
        suite={"seed": 0, "hash": "5e1f77aa90cd", "tasks": []},
        task=_task(gain, 200, 0.05),
        retention=[*rows, _prose(0.012 + 0.9 * loss)],
        suite_verdict=_suite(delta, 0.0085),
        halves={
            name: HalfResult(_task(gain + rng.gauss(0, 0.02), 100, 0.07),
                       _suite(delta + rng.gauss(0, 0.002), 0.012))
            for name in ("selection", "report")
        },
        curves=[CurvePoint(step, "train/loss", value) for step, value in curve],
        flips=[_flip(k) for k in range(12) if rng.random() < 6 * loss + 0.25 * (k < 3)],
        dial=dialled if lr == 1e-3 else [],
        dial_choice=DialChoice(
            "loglik", "nats per token", True, 0.05, "retained", inside[-1].alpha, True,
            inside[-1], dialled[-1], 300,
        ) if lr == 1e-3 and inside else None,
        baselines=[Baseline("the base with 3 solved examples in its prompt", "loglik", -2.92,
                            gain + BASE + 2.92, gain + BASE + 2.87, gain + BASE + 2.97, 200)],
        cost={
            "total_seconds": seconds + 140, "train_seconds": seconds,
            "tokens_per_second": 30_000 / seconds,
            "peak_memory_gb": 1.9 + trainable / 6e7, "update_bytes": 4.0 * trainable,
        },
    )  # fmt: skip


def _dialled(alpha: float, up: float, down: float) -> DialPoint:
    verdict = "retained" if down - 0.0085 > -0.0267 else "slipped"
    kept = (down, down - 0.0085, down + 0.0085, 0.0267)
    return DialPoint(alpha, up, up - 0.05, up + 0.05, *kept, verdict)


def _task(gain: float, n: int, half: float) -> TaskQuality:
    return TaskQuality(
        "loglik", True, BASE, BASE + gain, n, gain, gain - half, gain + half, "nats per token"
    )


def _verdict(lo: float, hi: float, epsilon: float) -> str:
    if lo > -epsilon:
        return "retained"
    if hi < -epsilon:
        return "forgotten"
    return "slipped" if hi < 0 else "inconclusive"


def _suite(delta: float, half: float) -> SuiteVerdict:
    base, epsilon = 0.5333, 0.0267
    lo, hi = delta - half, delta + half
    return SuiteVerdict(
        delta, lo, hi, epsilon, _verdict(lo, hi, epsilon), base, base + delta, 0.012, None,
        list(BENCHMARKS), 0.05, "retained",
    )  # fmt: skip


def _row(name: str, base: float, delta: float, rng: random.Random) -> RetentionRow:
    delta += rng.gauss(0, 0.002)
    half, epsilon = 0.0145, 0.05 * base
    lo, hi = delta - half, delta + half
    lost = round(40 + max(-delta, 0) * 500)
    return RetentionRow(
        name, "acc_norm", True, 0.25, 1000, 10042, base, base + delta, delta, half / 1.96, lo, hi,
        0.0207, epsilon, _verdict(lo, hi, epsilon), 0.04, 0.12, None, 0.40, 0.40 + delta, delta,
        delta - 0.004, delta + 0.004, lost, 40,
    )  # fmt: skip


def _prose(delta: float) -> RetentionRow:
    lo, hi = delta - 0.004, delta + 0.004
    return RetentionRow(
        "prose", "bits_per_byte", False, None, 200, 1431, 0.952, 0.952 + delta, delta, 0.002,
        lo, hi, 0.0057, 0.0476, _verdict(-hi, -lo, 0.0476),
    )  # fmt: skip


def _flip(k: int) -> Flip:
    return Flip(
        list(BENCHMARKS)[k % 3], f"item-{k}",
        f"Question {k}: which of these conducts heat best at room temperature?\nAnswer:",
        ["a wooden spoon", "a copper rod", "a glass jar", "a plastic cup"], 1, 1, (2, 0, 3)[k % 3],
    )  # fmt: skip
