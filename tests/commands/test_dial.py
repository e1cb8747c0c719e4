"""The dial: chosen on one half, claimed on the other; and the command, on whole runs.

The runs are of a random model on forty questions a half, which it answers right by definition. A
budget of 90 % is hard to breach, and one of 0.1 % cannot be shown to hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import myosotis
from myosotis.cli import main
from myosotis.data.kinds import Answers, TaskKind
from myosotis.evaluation.evaluator import EvalResult
from myosotis.evaluation.interpolation import turn
from myosotis.evaluation.task_metrics import TaskScore
from myosotis.records.schema import RunRecord
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Half
from myosotis.retention.budget import Budget
from tests.evaluation.test_results import loglik, scores
from tests.retention.small import right_by_definition
from tests.world import call, settings

ITEMS = 400  # two hundred a half, always of two choices


class Exam:
    """Knows by heart what every strength scores on either half."""

    def __init__(
        self,
        lost: dict[tuple[Half, float], int],
        learned: dict[float, float],
        *,
        suite: bool = True,
    ) -> None:
        self.lost, self.learned, self.suite = lost, learned, suite
        self.asked: list[tuple[Half, float]] = []
        self.alpha = 1.0
        half = SimpleNamespace(items=[None] * (ITEMS // 2))
        self.halves = {"selection": [half], "report": [half]}

    @contextmanager
    def scaled(self, alpha: float) -> Iterator[None]:
        self.alpha = alpha
        yield

    def whole(self, alpha: float) -> EvalResult:
        """Of each half's 200 items, all right but the lost ones."""
        right = np.ones((ITEMS // 2, 2), int)  # columns: selection, report
        right[: self.lost.get(("selection", alpha), 0), 0] = 0
        right[: self.lost.get(("report", alpha), 0), 1] = 0
        measured = scores(right.ravel().tolist(), [2] * ITEMS)
        tasks = {"quiz": measured} if self.suite else {}
        return EvalResult(Measurement(tasks), {"loglik": self._task("report", alpha)})

    def half_of_task(self, half: Half) -> tuple[TaskKind, list[Any]]:
        return Answers(), []

    def sit_half(self, _: Any, half: Half, what: str, known: Measurement | None) -> EvalResult:
        self.asked.append((half, self.alpha))
        kept = (known or self.whole(self.alpha).retention).half(half)
        return EvalResult(kept, {"loglik": self._task(half, self.alpha)})

    def _task(self, half: Half, alpha: float) -> TaskScore:
        gain = self.learned.get(alpha, 0.0) * (1.0 if half == "selection" else 0.9)
        return loglik(*[-3.0 + gain, -2.9 + gain] * 20)


def turned(exam: Exam, **words: Any) -> Any:
    given: dict[str, Any] = {"metric": "loglik", "budget": Budget(0.1), "refine": False, **words}
    scorer: Any = None
    return turn(exam, scorer, exam, exam.whole(0.0), exam.whole(1.0), **given)  # type: ignore[arg-type]


def test_chosen_on_one_half_and_reported_on_the_other() -> None:
    """Budget 20 of 200. α=1 loses 40 on both halves; 0.5 loses 4, and gains 0.8 (0.72 reported)."""
    lost: dict[tuple[Half, float], int] = {
        ("selection", 1.0): 40, ("report", 1.0): 40, ("selection", 0.5): 4, ("report", 0.5): 6
    }  # fmt: skip
    exam = Exam(lost, {0.5: 0.8, 1.0: 1.0})
    points, choice = turned(exam, strengths=[0.5])
    assert [p.alpha for p in points] == [0.5, 1.0]
    assert [p.verdict for p in points] == ["retained", "forgotten"]
    assert [p.retention for p in points] == pytest.approx([-0.02, -0.2])
    assert (choice.alpha, choice.confirmed) == (0.5, True)
    assert choice.reported.task == pytest.approx(0.72)
    assert choice.reported.retention == pytest.approx(-0.03)
    assert choice.full.retention == pytest.approx(-0.2)
    assert choice.items == 200
    reported = [alpha for half, alpha in exam.asked if half == "report"]
    assert sorted(reported) == [0.5, 1.0], "the other half is asked about the choice alone"


def test_a_choice_that_flattered_itself_is_not_confirmed() -> None:
    """0.5 loses nothing on the half that chooses and 60 of 200 on the other."""
    exam = Exam(
        {("selection", 1.0): 60, ("report", 1.0): 60, ("report", 0.5): 60}, {0.5: 0.8, 1.0: 1}
    )
    _, choice = turned(exam, strengths=[0.5])
    assert (choice.alpha, choice.confirmed) == (0.5, False)
    assert choice.reported.verdict == "forgotten"


def test_no_strength_inside_means_no_choice_and_the_other_half_stays_unasked() -> None:
    exam = Exam({("selection", a): 60 for a in (0.25, 0.5, 1.0)}, {0.25: 0.3, 0.5: 0.8, 1.0: 1.0})
    points, choice = turned(exam, strengths=[0.25, 0.5])
    assert choice.alpha is None and choice.reported is None
    assert not choice.confirmed
    assert len(points) == 3
    assert not [half for half, _ in exam.asked if half == "report"]


def test_what_counts_as_inside_is_the_budget_s_own_rule() -> None:
    """20 lost of 200 at a budget of 20: a real loss of unsettled size."""
    halves: tuple[Half, Half] = ("selection", "report")
    exam = Exam({(half, a): 20 for half in halves for a in (0.5, 1.0)}, {0.5: 0.8, 1.0: 1.0})
    _, strict = turned(exam, strengths=[0.5])
    _, loose = turned(exam, strengths=[0.5], budget=Budget(0.1, "not_forgotten"))
    assert strict.alpha is None
    assert (loose.alpha, loose.confirmed) == (1.0, True)


def test_without_a_verdict_nothing_is_chosen() -> None:
    exam = Exam({}, {1.0: 1.0}, suite=False)
    points, choice = turned(
        exam, strengths=[0.5], metric="rougeL", budget=Budget(0.1, "not_forgotten")
    )
    assert [p.verdict for p in points] == ["", ""]
    assert choice.metric == "loglik", "texts are not written at every strength"
    assert choice.alpha is None


# Whole runs.


@pytest.fixture(scope="module")
def bench(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return right_by_definition(world / "model", tmp_path_factory.mktemp("right"), 80)


def benchmarks(bench: Path) -> dict[str, Any]:
    return {
        "retention.suite": "[arc_easy]",
        "retention.data_dir": bench,
        "retention.items": 80,
        "data.row_tokens": 512,
        "retention.budget": 0.9,
        "task.generate": 0,
    }


@pytest.fixture(scope="module")
def tuned(world: Path, bench: Path) -> Path:
    """A finished run of LoRA."""
    out = world / "runs" / "dialled"
    tracked = {"tracking": "mlflow", "tracking.uri": f"sqlite:///{world}/dialled.db"}
    call(["train", *settings(world, out, **benchmarks(bench), **tracked)], world)
    return out


def digest(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.slow
def test_the_command_chooses_confirms_records_and_writes(
    world: Path, tuned: Path, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    before, kept = RunRecord.load(tuned), digest(tuned / "update")
    out = tmp_path / "model"
    printed, err = call(["dial", str(tuned), "--out", str(out), "--json"], world)
    found = json.loads(printed)
    assert found["confirmed"] and 0 < found["alpha"] <= 1
    assert found["form"] == "adapter" and found["folder"] == str(out)
    assert {0.25, 0.5, 0.75, 1.0} <= {p["alpha"] for p in found["points"]}
    assert "confirms it" in err
    assert digest(tuned / "update") == kept, "the run's own update was touched"
    record = RunRecord.load(tuned)
    assert record.dial_choice is not None and record.dial_choice.alpha == found["alpha"]
    assert record.retention == before.retention and record.task == before.task
    assert "Turning it down" in (tuned / "scorecard.html").read_text()
    client = MlflowClient(f"sqlite:///{world}/dialled.db")
    assert client.get_run(record.run_id).info.status == "FINISHED"
    logged = client.download_artifacts(record.run_id, "record.json", str(tmp_path))
    assert RunRecord.load(logged).dial_choice == record.dial_choice
    whole = load_file(tuned / "update" / "adapter_model.safetensors")
    for name, tensor in load_file(out / "adapter_model.safetensors").items():
        factor = found["alpha"] if "lora_B" in name else 1.0
        assert torch.equal(tensor, whole[name] * factor)


@pytest.mark.slow
def test_without_a_strength_inside_nothing_is_written(
    tuned: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No interval of forty items is as narrow as 0.1 %."""
    out = tmp_path / "model"
    assert main(["dial", str(tuned), "--budget", "0.001", "--out", str(out), "--json"]) == 4
    printed = capfd.readouterr()
    found = json.loads(printed.out)
    assert found["alpha"] is None and found["folder"] is None
    assert "No strength" in found["said"] and "Nothing was written" in printed.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["optimizer.lr=1"], "dial cannot change optimizer.lr=1"),
        (["retention.budget=2"], "retention.budget=2"),
        (["--out", "."], "not empty"),
        (["retention.suite=[prose]"], "no benchmark that a verdict can rest on"),
    ],
)
@pytest.mark.slow
def test_what_the_command_refuses(
    tuned: Path, words: list[str], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["dial", str(tuned), *words]) == 2
    assert says in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"status": "KILLED"}, "no finished update"),
        ({"update": "prefix"}, "update=prefix cannot be scaled"),
        ({"model": "another"}, "is no longer the model"),
        ({"data": "others"}, "is no longer what the run was trained on"),
    ],
)
@pytest.mark.slow
def test_runs_that_cannot_be_dialled(
    tuned: Path,
    tmp_path: Path,
    change: dict[str, str],
    says: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from omegaconf import OmegaConf

    from myosotis.config import compose

    record = RunRecord.load(tuned)
    cfg = OmegaConf.load(tuned / "config.yaml")
    if change.get("status"):
        record.status = "KILLED"
    if change.get("model"):
        record.model.content_hash = "another"
    if change.get("data"):
        record.data.hash = "others"
    if change.get("update"):
        cfg["update"] = compose(["method=prefix"])["update"]  # type: ignore[index]
    record.save(tmp_path / "record.json")
    OmegaConf.save(cfg, tmp_path / "config.yaml")
    monkeypatch.setenv("MYOSOTIS_TRUST", "1")  # a copy is not signed
    assert main(["dial", str(tmp_path)]) == 2
    assert says in " ".join(capfd.readouterr().err.split())


@pytest.mark.slow
def test_a_full_run_is_dialled_by_interpolation_and_written_whole(
    world: Path, bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dial after training and the command find the same; what is written is the lerp."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MYOSOTIS_CACHE", str(world / "cache"))
    changes = {
        **benchmarks(bench),
        "method": "full",
        "tracking": "none",
        "retention.dial": "[0.25,0.5,0.75]",
        "optimizer.lr": 0.003,
        "trainer.max_steps": 4,
    }
    out = tmp_path / "run"
    record = myosotis.train(settings(world, out, **changes))
    assert [p.alpha for p in record.dial] == [0.25, 0.5, 0.75, 1.0]
    assert record.dial_choice is not None and record.dial_choice.confirmed
    alpha = record.dial_choice.alpha
    written = tmp_path / "written"
    assert main(["dial", str(out), "--out", str(written)]) == 0
    again = RunRecord.load(out)
    assert {p.alpha: p for p in record.dial}.items() <= {p.alpha: p for p in again.dial}.items()
    assert again.dial_choice is not None
    if again.dial_choice.alpha == alpha:
        assert again.dial_choice == record.dial_choice
    at = again.dial_choice.alpha
    assert at is not None
    theta0 = load_file(world / "model" / "model.safetensors")
    theta = load_file(out / "update" / "update.safetensors")
    found = load_file(written / "model.safetensors")
    for name, tensor in theta.items():
        assert torch.allclose(found[name], torch.lerp(theta0[name], tensor, at), atol=1e-7)
