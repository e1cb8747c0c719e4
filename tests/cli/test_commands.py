"""The command line: help without torch, messages without traceback, exit codes, JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from myosotis.cli import COMMANDS, main
from myosotis.cli.exit_codes import Gated, report
from myosotis.tracking import mlflow_client
from myosotis.utils.errors import DataError, RunError

HEAVY = ("torch", "transformers", "lightning", "mlflow", "peft", "lm_eval", "datasets", "pandas")


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "myosotis.cli", *args],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


# Help.


@pytest.mark.parametrize(
    "args",
    [["--help"], ["train", "--help"], ["train", "--cfg", "job"], ["--version"]]
    + [[name, "--help"] for name in COMMANDS if name != "train"],
    ids=" ".join,
)
def test_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys; from myosotis.cli import main\n"
        f"try: main({args!r})\nexcept SystemExit: pass\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.rstrip().endswith("HEAVY []"), done.stdout[-500:] + done.stderr[-500:]


def test_overview_names_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capfd.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert max(map(len, shown.splitlines())) <= 80


def test_no_command_is_an_error_with_the_overview() -> None:
    done = run()
    assert done.returncode == 2
    assert "Usage: myosotis COMMAND" in done.stdout


def test_train_help_shows_choices_made(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "update=full", "seed=5", "--help"]) == 0
    shown = capfd.readouterr().out
    assert "seed=5" in shown
    assert "lora_alpha" not in shown
    assert "update        adapter, full, ia3, lora" in shown
    assert "share of the base's score" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_documented_flags_of_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    flags = {
        "evaluate": ["MODEL", "--base"],
        "generate": ["RUN", "--prompt", "--compare", "--temperature", "--top-k", "--top-p"],
        "compare": ["LOG", "--budget", "--metric", "--cluster", "--common", "--gate", "--out"],
        "scorecard": ["RUN|SWEEP|FOLDER|FILE", "--out", "--format", "--figures"],
        "sweep": ["NAME", "methods"],
        "export": ["RUN", "--to", "--rank", "--alpha", "--out"],
        "ui": ["--port"],
    }
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        shown = capfd.readouterr().out
        assert "--json" in shown
        for flag in flags.get(name, []):
            assert flag in shown, (name, flag)


# Hydra's own command line.


def test_cfg_job_prints_the_config(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "job", "update.r=3", "experiment=quick"]) == 0
    shown = capfd.readouterr().out
    assert "  r: 3\n" in shown
    assert "  max_steps: 10\n" in shown


def test_cfg_package_and_info(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--cfg", "job", "--package", "schedule"]) == 0
    assert "name: cosine" in capfd.readouterr().out
    assert main(["train", "--info", "defaults"]) == 0
    assert "update/lora" in "".join(capfd.readouterr())


def test_own_folder_and_primary_config(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text("defaults: [train, _self_]\nseed: 11\n")
    assert main(["train", "-cd", str(tmp_path), "-cn", "study", "--cfg", "job"]) == 0
    assert "seed: 11" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("myosotis tr", {"train"}),
        ("myosotis com", {"compare"}),
        ("myosotis train objective=dp", {"objective=dpo", "objective=dpop"}),
        ("myosotis plan schedule.w", {"schedule.warmup="}),
    ],
)
def test_tab_completion(line: str, wanted: set[str]) -> None:
    done = run("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert set(done.stdout.split()) == wanted, done.stderr


def test_completion_script() -> None:
    assert "complete -o nospace" in run("-sc", "install=bash").stdout


# Errors.

MESSAGES = [
    (["tran"], "no command 'tran'", "train"),
    (["train", "update.rr=4"], "update (lora) has no key 'rr'", "update.r?"),
    (["train", "update=full", "update.r=4"], "update (full) has no key 'r'", "update=lora"),
    (["train", "metod=lora"], "no key 'metod'", "method"),
    (["train", "method=lorra"], "no method 'lorra'", "lora"),
    (["train", "data=jsonll"], "no data 'jsonll'", "jsonl"),
    (["train", "trainer.max_steps=many"], "takes a whole number, not 'many'", ""),
    (["train", "retention.gate=maybe"], "takes true or false", ""),
    (["train", "retention.suite=piqa"], "takes a list", "retention.suite=[piqa]"),
    (["train", "trainer.max_steps=1,2"], "could be a list or a sweep", "-m"),
    (["train", "trainer.max_steps"], "Cannot read", "key=value"),
    (["train", "x=[1"], "Cannot read", ""),
    (["train", "learning_rate=3"], "no key 'learning_rate'", "optimizer.lr"),
    (["train", "trainer.accumulate_grad_batches=4"], "accumulate_grad", "data.batch_size"),
    (["train", "+method=lora"], "method is given twice", "method=NAME"),
    (["train", "-cn", "nope"], "no config named 'nope'", "-cd"),
    (["train", "-cd", "/nowhere/at/all"], "/nowhere/at/all", ""),
    (["train", "--cfg", "job", "-m"], "Only one of", ""),
    (["train", "callbacks=early"], "no callbacks 'early'", "none"),
    (["plan", "optimizer.lr=-1"], "optimizer.lr=-1 is out of range", "above 0"),
    (["plan", "optimzer.lr=1"], "optimzer", "optimizer"),
    (["plan", "-cd", "/nowhere/at/all"], "/nowhere/at/all", ""),
    (["plan", "whatever"], "does not know what 'whatever' is", "key=value"),
    (["audit", "data=jsonl", "data.path=/nowhere.jsonl"], "nowhere.jsonl", ""),
    (["generate", "last"], "needs a prompt", "--prompt"),
    (["generate", "last", "--prompt", " "], "A prompt is empty", ""),
]


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    MESSAGES,
    ids=lambda v: " ".join(v)[:50] if isinstance(v, list) else "",
)
def test_error_is_one_message(
    args: list[str],
    message: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = main([*args, "--json"])
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert code == document["exit_code"] == 2
    assert message in document["error"]
    assert hint in document["hint"]
    assert "Traceback" not in err
    assert err.count("error:") == 1
    assert max(map(len, err.splitlines())) <= 80
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize(
    "args",
    [["train", "--no-such"], ["plan", "--no-such"], ["ui", "--port", "zero"], ["evaluate"]],
    ids=" ".join,
)
def test_unknown_flags_are_usage_errors(args: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    assert "usage: myosotis" in capfd.readouterr().err


def test_unwritable_run_folder(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "out=/proc/nowhere"]) == 2
    assert "Cannot write the run folder" in capfd.readouterr().err


def test_malformed_own_yaml(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "bad.yaml").write_text("a: [1\n")
    assert main(["train", "-cd", str(tmp_path), "experiment=bad"]) == 2
    err = capfd.readouterr().err
    assert "not valid YAML" in err
    assert "Traceback" not in err


def test_a_sweep_whose_first_trial_is_refused_stops_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One message instead of one a trial; no trial is on record, and MLflow has the sweep alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    args = ["train", "-m", "data=jsonl", "data.path=none.jsonl", "seed=1,2", "--json"]
    assert main(args) == 2
    said = capfd.readouterr()
    document = json.loads(said.out)
    assert document["error"] == "data.path: there is no data file none.jsonl"
    assert document["hint"] == "No other trial was started."
    assert " ".join(said.err.split()).count("there is no data file") == 1
    assert not list(tmp_path.glob("multirun/**/record.json"))
    client = mlflow_client.client(mlflow_client.open_store(str(tmp_path / "mlflow.db")))
    (sweep,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert sweep.info.status == "FAILED"


# How commands end.


def ended(command: Any, capfd: pytest.CaptureFixture[str], json: bool = True) -> tuple[int, str]:
    code = report(command, json=json)
    return code, capfd.readouterr().out


def test_result_alone_on_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    def noisy() -> dict[str, Any]:
        print("from Python")
        os.write(1, b"from C\n")
        subprocess.run(["echo", "from a child"], check=True)
        return {"value": float("nan"), "path": Path("a"), "list": (1, 2)}

    code, out = ended(noisy, capfd)
    assert code == 0
    assert json.loads(out) == {"value": None, "path": "a", "list": [1, 2]}
    print("stdout is back")
    assert capfd.readouterr().out == "stdout is back\n"


def raising(error: BaseException) -> Any:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("line 3"), 2),
        (RunError("no room"), 1),
        (Gated({"verdict": "forgotten"}, 3), 3),
        (Gated({"verdict": "slipped"}, 4), 4),
        (KeyboardInterrupt(), 130),
        (SystemExit(5), 5),
        (ZeroDivisionError("a bug"), 1),
    ],
    ids=repr,
)
def test_exit_codes(error: BaseException, code: int, capfd: pytest.CaptureFixture[str]) -> None:
    found, out = ended(raising(error), capfd)
    assert found == code
    assert json.loads(out)


def test_only_bugs_show_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    report(raising(ZeroDivisionError()), json=False)
    assert "Traceback" in capfd.readouterr().err
    report(raising(DataError("line 3", "write it anew")), json=False)
    err = capfd.readouterr().err
    assert err == "error: line 3\nwrite it anew\n"


@pytest.mark.parametrize(
    ("verdict", "accept", "code"),
    [
        ("retained", "retained", 0),
        ("inconclusive", "retained", 4),
        ("slipped", "retained", 4),
        ("slipped", "not_forgotten", 0),
        ("forgotten", "not_forgotten", 3),
        (None, "retained", 4),
    ],
)
def test_gate(verdict: str | None, accept: str, code: int) -> None:
    from myosotis.cli.hydra_app import gated
    from myosotis.config import compose
    from myosotis.records.schema import SuiteVerdict

    suite = None if verdict is None else SuiteVerdict(verdict=verdict)
    assert gated("run", suite, compose([f"retention.accept={accept}"])) == "run"
    cfg = compose(["retention.gate=true", f"retention.accept={accept}"])
    if code == 0:
        assert gated("run", suite, cfg) == "run"
    else:
        with pytest.raises(Gated) as caught:
            gated("run", suite, cfg)
        assert caught.value.exit_code == code


def test_ui_without_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main(["ui"]) == 2
    assert "no runs to show yet" in capfd.readouterr().err


# Whole runs, on a tiny model.


@pytest.fixture
def tiny_run(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides of a run that takes seconds; the current folder is a fresh one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return [
        *("model=local", f"model.path={tiny_model}", "trainer.max_steps=3", "retention=none"),
        *("data=jsonl", f"data.path={tiny_model / 'data.jsonl'}", "data.template=none"),
        *("tracking=none", "task.generate=1", "task.max_new_tokens=2", "trainer.accelerator=cpu"),
    ]


def test_train_prints_its_record(
    tiny_run: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *tiny_run, "--json"]) == 0
    out, err = capfd.readouterr()
    record = json.loads(out)
    assert record["status"] == "FINISHED"
    assert record["command"] == ["myosotis", "train", *tiny_run]
    assert "Traceback" not in err
    (folder,) = (path.parent for path in tmp_path.rglob("record.json"))
    assert (folder / "scorecard.html").exists()
    assert folder.is_relative_to(tmp_path / "runs")


def test_own_config_folder_is_part_of_the_command(
    tiny_run: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own" / "experiment"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    args = ["train", "-cd", str(own.parent), "experiment=mine", *tiny_run, "--json"]
    assert main(args) == 0
    first = json.loads(capfd.readouterr().out)
    assert main([*first["command"][1:], "--json"]) == 0
    again = json.loads(capfd.readouterr().out)
    assert again["config"]["seed"] == 7
    assert again["config_hash"] == first["config_hash"]


def test_gate_without_a_verdict_is_not_settled(
    tiny_run: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    """retention.gate needs a suite; without one the config is refused, not run."""
    assert main(["train", *tiny_run, "retention.gate=true", "--json"]) == 2
    assert "retention.suite is empty" in json.loads(capfd.readouterr().out)["error"]


def test_sweep_runs_every_value(
    tiny_run: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A job that fails does not stop the others; its neighbours' results are told."""
    args = ["train", "-m", *tiny_run, "optimizer.lr=1e-3,-1,1e-2", "--json"]
    assert main(args) == 1
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["error"] == "1 of 3 trials failed."
    status = {job["overrides"][-1]: job["status"] for job in document["runs"]}
    assert status == {
        "optimizer.lr=0.001": "FINISHED",
        "optimizer.lr=-1": "FAILED",
        "optimizer.lr=0.01": "FINISHED",
    }
    qualities = [job["quality"] for job in document["runs"] if job["quality"] is not None]
    assert len(set(qualities)) == 2
    assert "Traceback" not in err
    records = [json.loads(p.read_text()) for p in (tmp_path / "multirun").rglob("record.json")]
    assert len(records) == 3
    (failed,) = (record for record in records if record["status"] == "FAILED")
    assert "optimizer.lr" in failed["error"]


def test_stopped_job_stops_the_sweep(capfd: pytest.CaptureFixture[str]) -> None:
    from myosotis.cli.multirun import Stopped

    code, out = ended(raising(Stopped(143)), capfd)
    assert code == json.loads(out)["exit_code"] == 143


@pytest.mark.slow
def test_interrupted_run_says_how_to_go_on(tiny_run: list[str], tmp_path: Path) -> None:
    """SIGINT finishes the step, keeps a checkpoint, marks the run and names the command."""
    steps = [word for word in tiny_run if not word.startswith("trainer.max_steps")]
    process = subprocess.Popen(
        [sys.executable, "-m", "myosotis.cli", "train", *steps, "trainer.max_steps=100000"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        began = time.monotonic()
        while not list(tmp_path.rglob("metrics.jsonl")) and time.monotonic() - began < 120:
            time.sleep(0.2)
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, err[-2000:]
    assert "Traceback" not in err
    assert "resume=" in err
    (path,) = tmp_path.rglob("record.json")
    assert json.loads(path.read_text())["status"] == "KILLED"
