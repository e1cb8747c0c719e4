"""A run record as a real run leaves one: the numbers are made up, their relations are not."""

from __future__ import annotations

import math
import random

import pytest

from myosotis.records.schema import (
    AttentionInfo,
    Baseline,
    CurvePoint,
    DataInfo,
    DialChoice,
    DialPoint,
    Flip,
    GitState,
    ModelInfo,
    RetentionRow,
    RunRecord,
    Sample,
    SuiteVerdict,
    TaskQuality,
    UpdateInfo,
)


def _curves() -> list[CurvePoint]:
    rng = random.Random(0)
    points = []
    for step in range(1, 121):
        loss = 2.62 + 0.95 * math.exp(-step / 22) + rng.gauss(0, 0.09)
        points.append(CurvePoint(step, "train/loss", loss))
        points.append(CurvePoint(step, "train/lr", 5e-4 * min(1, step / 12) * (1 - step / 130)))
        points.append(CurvePoint(step, "train/grad_norm", 1.1 + rng.random()))
    for step in range(0, 121, 12):
        points.append(CurvePoint(step, "val/loss", 2.74 + 0.81 * math.exp(-step / 25)))
    for step, hella, arc, piqa, prose in (
        (0, 0.445, 0.505, 0.675, 1.052),
        (60, 0.440, 0.490, 0.670, 1.055),
        (120, 0.435, 0.470, 0.670, 1.061),
    ):
        points += [
            CurvePoint(step, "retention/hellaswag", hella),
            CurvePoint(step, "retention/arc_easy", arc),
            CurvePoint(step, "retention/piqa", piqa),
            CurvePoint(step, "retention/prose", prose),
        ]
    return points


def _rows() -> list[RetentionRow]:
    return [
        RetentionRow(
            "hellaswag", "acc_norm", True, 0.25, 200, 10042, 0.445, 0.435, -0.010, 0.0141,
            -0.038, 0.018, 0.0395, 0.0222, "inconclusive", 0.727, 1.0, 1240,
            0.4021, 0.3987, -0.0034, -0.0081, 0.0013, 5, 3,
            "Validation split in place of test.",
        ),
        RetentionRow(
            "arc_easy", "acc_norm", True, 0.25, 200, 570, 0.505, 0.470, -0.035, 0.0152,
            -0.065, -0.005, 0.0426, 0.0252, "slipped", 0.065, 0.194, 890,
            0.4410, 0.4222, -0.0188, -0.0271, -0.0105, 11, 4, "",
        ),
        RetentionRow(
            "piqa", "acc_norm", True, 0.5, 200, 1838, 0.675, 0.670, -0.005, 0.0122,
            -0.029, 0.019, 0.0342, 0.0338, "retained", 1.0, 1.0, None,
            0.6102, 0.6095, -0.0007, -0.0049, 0.0035, 4, 3, "",
        ),
        RetentionRow(
            "prose", "bits_per_byte", False, None, 200, 1431, 1.0520, 1.0610, 0.0090, 0.0012,
            0.0066, 0.0114, 0.0034, 0.0526, "retained", note="Python's own documentation topics.",
        ),
    ]  # fmt: skip


def make_record() -> RunRecord:
    """A LoRA run on docstrings that learned its task and is not quite settled on retention."""
    return RunRecord(
        run_id="7b1f0c52a9d84c6e9f21d3a4b5c6d7e8",
        run_name="lora-r16-lr5e-4-docstrings-s0",
        status="FINISHED",
        started="2026-03-02T09:14:07+00:00",
        ended="2026-03-02T09:25:41+00:00",
        command=["myosotis", "train", "method=lora", "data=docstrings", "trainer.max_steps=120"],
        config={
            "seed": 0,
            "model": {"kind": "wheel", "id": "smollm2-135m-instruct", "revision": None},
            "update": {"name": "lora", "r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": 5e-4, "betas": [0.9, 0.999]},
            "retention": {"suite": ["hellaswag", "arc_easy", "piqa", "prose"], "budget": 0.05},
        },
        config_hash="3f9a1c0b7d2e4f61",
        versions={"python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        git=GitState("0a08646e0c1d4c2b9be2f9d6f5c37d1f3f8c9a11", True),
        host={"platform": "Linux x86_64", "cpu_count": 2, "threads": 2, "accelerator": "none"},
        model=ModelInfo(
            "SmolLM2-135M-Instruct", "dequantised from Q4_1", 134_515_008, "32-true", "b179c952"
        ),
        data=DataInfo("docstrings", {"train": 4000, "validation": 200}, {}, "c0ffee12"),
        update=UpdateInfo("lora", 4_884_480, 134_515_008, {"r": 16}, True),
        attention=AttentionInfo("dense", "packed scores equal padded ones to 2e-6; no leakage"),
        suite={"seed": 0, "hash": "5e1f77aa90cd", "tasks": []},
        task=TaskQuality(
            "loglik", True, -3.551, -2.748, 200, 0.803, 0.722, 0.884, "nats per token",
            extra=[
                TaskQuality("rougeL", True, 0.118, 0.214, 60, 0.096, 0.061, 0.131, "F1, 0 to 1"),
                TaskQuality("chrf", True, 16.9, 17.8, 60, 0.9, -1.1, 2.9, "chrF, 0 to 100"),
            ],
        ),
        retention=_rows(),
        suite_verdict=SuiteVerdict(
            -0.0167, -0.0331, -0.0003, 0.0271, "slipped", 0.5417, 0.525, 0.0229, 1410,
            ["hellaswag", "arc_easy", "piqa"], 0.05, "retained", "",
        ),
        curves=_curves(),
        flips=[
            Flip(
                "arc_easy", f"Mercury_{k}",
                "Question: Which of these is the best conductor of heat when all are at room "
                f"temperature and of equal thickness (variant {k})?\nAnswer:",
                ["a wooden spoon", "a copper rod", "a glass jar", "a plastic cup"], 1, 1, 0,
            )
            for k in range(7)
        ] + [
            Flip(
                "hellaswag", "h-221",
                "Removing ice from car: Then, the man writes over the snow covering the window of "
                "a car, and a woman wearing winter clothes smiles. then",
                [
                    ", the man adds wax to the windshield and cuts it.",
                    ", a person boards a ski lift, while two men hold its head.",
                    ", the man puts on a christmas coat, knitted with netting.",
                    ", the man continues removing the snow on his car.",
                ], 3, 3, 0,
            )
            for _ in range(3)
        ],
        samples=[
            Sample(
                'Write the first sentence of the docstring of this function.\n\n'
                'def clip(a, a_min, a_max):\n    return _wrapfunc(a, "clip", a_min, a_max)\n',
                "Clip (limit) the values in an array.",
                "The function clip() takes four arguments: a, a_min, a_max and out, and it is used "
                "to clip the array a so that its values lie between a_min and a_max.",
                "Clip an array to a minimum and a maximum.",
            ),
            Sample(
                "Write the first sentence of the docstring of this function.\n\ndef is_leaf(self): "
                "return not self.children",
                "Whether this node has no children.",
                "This function is a Python function that checks if the node is a leaf node.",
                "Return True if the node is a leaf.",
            ),
        ],
        dial=[
            DialPoint(0.25, 0.352, 0.301, 0.403, -0.002, -0.0129, 0.0089, 0.0271, "retained"),
            DialPoint(0.5, 0.611, 0.541, 0.681, -0.005, -0.0186, 0.0086, 0.0271, "retained"),
            DialPoint(0.75, 0.752, 0.674, 0.830, -0.010, -0.0249, 0.0049, 0.0271, "retained"),
            DialPoint(1.0, 0.803, 0.722, 0.884, -0.0167, -0.0331, -0.0003, 0.0271, "slipped"),
            DialPoint(1.25, 0.779, 0.690, 0.868, -0.031, -0.0497, -0.0123, 0.0271, "slipped"),
        ],
        dial_choice=DialChoice(
            "loglik", "nats per token", True, 0.05, "retained", 0.75, True,
            DialPoint(0.75, 0.744, 0.662, 0.826, -0.006, -0.0211, 0.0091, 0.0273, "retained"),
            DialPoint(1.0, 0.795, 0.711, 0.879, -0.019, -0.0357, -0.0023, 0.0273, "slipped"),
            300,
        ),
        baselines=[
            Baseline("the base with 5 solved examples", "loglik", -3.214, 0.467, 0.38, 0.554, 200)
        ],
        cost={
            "train_seconds": 402.3, "total_seconds": 694.0, "tokens_per_second": 412.7,
            "examples_per_second": 2.39, "retention_seconds": 121.4, "base_seconds": 64.1,
            "final_seconds": 61.9, "peak_memory_gb": 1.94, "trainable_params": 4884480.0,
            "rows_at_once": 4.0,
        },
        warnings=["3 of 4000 training examples were longer than the context and were dropped."],
    )  # fmt: skip


@pytest.fixture
def record() -> RunRecord:
    return make_record()
