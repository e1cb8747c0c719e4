"""`myosotis compare` from the command line: page, table, exit codes, and what it will not do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from myosotis.cli import main
from myosotis.records.schema import RetentionRow, RunRecord
from tests.retention.logs import made
from tests.retention.small import benchmark_folder
from tests.world import call, settings


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """400 items: base 300 right, tuned 40 lost and 10 gained; made in the working folder."""
    monkeypatch.chdir(tmp_path)
    base, tuned = made.table(lost=40, gained=10, right=260, wrong=90)
    return made.log(Path("base"), base), made.log(Path("tuned"), tuned)


def run(*words: object, code: int = 0) -> None:
    assert main(["compare", *map(str, words)]) == code


def test_two_logs_become_a_page_and_a_table(
    pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """75.0 % to 67.5 %, a budget of 3.75 points: -7.5 (Tango's 95 %: below -3.75) is forgotten."""
    run(*pair)
    shown = capfd.readouterr().out
    assert "us/tuned against us/base" in shown
    assert "quiz" in shown and "75.0" in shown and "67.5" in shown
    assert " 40 " in shown and " 10 " in shown and "McNemar p" in shown
    page = Path("compare-base-tuned.html").read_text("utf-8")
    assert "us/tuned against us/base" in page and "Q: What is 0?" in page
    assert "myosotis ui" not in shown, "nothing of it is in MLflow"


def test_json_is_the_record(pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    run(*pair, "--json", "--budget", "0.2", "--metric", "acc")
    said = json.loads(capfd.readouterr().out)
    record = RunRecord.from_json(json.dumps(said))
    (row,) = record.retention
    assert (row.base, row.tuned, row.n) == (0.75, 0.675, 400)
    assert (row.right_to_wrong, row.wrong_to_right) == (40, 10)
    assert row.epsilon == pytest.approx(0.15) and row.verdict == "retained"
    assert said["scorecard"] == "compare-base-tuned.html"
    assert record.config["compare"]["base"]["log"] == "base"
    assert record.command == [
        "myosotis",
        "compare",
        "base",
        "tuned",
        "--budget=0.2",
        "--metric=acc",
    ]
    assert len(record.flips) == 40


@pytest.mark.parametrize(("budget", "code"), [("0.2", 0), ("0.001", 3), ("0.12", 4)])
def test_the_gate_is_that_of_a_run(pair: tuple[Path, Path], budget: str, code: int) -> None:
    run(*pair, "--budget", budget, "--gate", code=code)
    run(*pair, f"retention.budget={budget}", "retention.gate=true", code=code)
    run(*pair, "--budget", budget)


def test_a_task_may_have_a_budget_of_its_own(
    pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    run(*pair, "--json", "retention.budget={quiz: 0.2, others: 0.01}")
    assert json.loads(capfd.readouterr().out)["suite_verdict"]["verdict"] == "retained"


@pytest.mark.parametrize("ending", ["html", "md", "json", "csv"])
def test_formats_by_ending_and_by_name(pair: tuple[Path, Path], ending: str) -> None:
    run(*pair, "--out", f"mine.{ending}")
    run(*pair, "--format", ending)
    assert Path(f"compare-base-tuned.{ending}").exists() and Path(f"mine.{ending}").exists()
    run(*pair, "--out", f"mine.{ending}")  # over what it wrote itself


def test_nothing_foreign_is_written_over(
    pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    Path("compare-base-tuned.html").write_text("my own notes")
    run(*pair, code=2)
    assert "is no scorecard of ours" in capfd.readouterr().err
    assert Path("compare-base-tuned.html").read_text() == "my own notes"
    Path("link.html").symlink_to("compare-base-tuned.html")
    run(*pair, "--out", "link.html", code=2)
    assert Path("compare-base-tuned.html").read_text() == "my own notes"


def test_the_page_names_what_was_left_out(
    pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    made.log(pair[0], [1.0] * 40, task="more")
    run(*pair, code=2)
    err = " ".join(capfd.readouterr().err.split())
    assert "Only A has 1 task: more." in err and "Traceback" not in err
    run(*pair, "--common", "--out", "page.md")
    assert "- Only A has 1 task: more. Left out (--common)." in Path("page.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["base"], "is a log of one model"),
        (["base", "tuned", "third"], "takes two logs or one run, not 3"),
        (["retention.budget=0.1"], "takes two logs or one run, not 0"),
        (["base", "nowhere"], "There is no file nowhere"),
        (["base", "x" * 5000], "cannot be read: File name too long"),
        (["base", "tuned", "retention.bugdet=0.1"], "retention has no key 'bugdet'"),
        (["base", "tuned", "--budget", "2"], "must be above 0 and at most 1"),
        (["base", "tuned", "--metric", "f1"], "quiz has no f1"),
        (["base#tuned", "tuned"], "base is a log of one model: it has no side 'tuned'"),
        (["base", "empty"], "holds no log"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_cannot_be_compared_is_one_message(
    pair: tuple[Path, Path], capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    Path("empty").mkdir()
    assert main(["compare", *words]) == 2
    err = " ".join(capfd.readouterr().err.split())
    assert said in err and "Traceback" not in err
    assert not list(Path().glob("compare-*"))


def test_ten_thousand_items_need_no_framework(tmp_path: Path) -> None:
    """In a process of its own, as a person starts it."""
    base, tuned = made.table(lost=600, gained=500, right=6000, wrong=2900)
    pair = made.log(tmp_path / "base", base), made.log(tmp_path / "tuned", tuned)
    code = (
        "import sys; from myosotis.cli import main\n"
        f"code = main(['compare', {str(pair[0])!r}, {str(pair[1])!r}, '--json'])\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'mlflow', 'lm_eval', 'datasets'} "
        "& set(sys.modules)), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stderr
    (row,) = json.loads(done.stdout)["retention"]
    assert (row["n"], row["right_to_wrong"], row["wrong_to_right"]) == (10_000, 600, 500)


def by_task(record: RunRecord) -> dict[str, RetentionRow]:
    """The rows, but for what takes every choice's log-prob, which the items do not keep."""
    return {
        row.task: replace(row, ece_base=None, ece_tuned=None, note="") for row in record.retention
    }


@pytest.mark.slow
def test_a_real_run_says_of_itself_what_it_said(world: Path, tmp_path: Path) -> None:
    """Trained, then compared by its id: the same rows, verdict and lost items; the same budget."""
    out = tmp_path / "runs" / "one"
    data = benchmark_folder(tmp_path / "data", 40)
    changes = {"retention.suite": "[arc_easy,prose]", "retention.data_dir": data}
    changes |= {"retention.budget": 0.2, "retention.settle": "false"}
    call(["train", *settings(world, out, **changes)], tmp_path)
    told = RunRecord.load(out)
    for words in (["last"], [told.run_id[:8], "--out", "two.html"], [str(out / "record.json")]):
        said, _ = call(["compare", *words, "--json"], tmp_path)
        found = RunRecord.from_json(said)
        assert by_task(found) == by_task(told)
        assert found.suite_verdict == told.suite_verdict
        assert [(f.task, f.item, f.prompt) for f in found.flips] == [
            (f.task, f.item, f.prompt) for f in told.flips
        ]
    # The base answers none of these questions right: no loss of it can be excluded or shown.
    call(["compare", str(out), f"{out}#base", "--gate", "--budget", "0.9"], tmp_path, code=4)
