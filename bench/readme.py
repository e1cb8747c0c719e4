"""The README's commands in the README's order, from an empty folder.

    make readme

Reads them from README.md. What a person is asked to have is put there first: `mine.jsonl`, an
adapter and a model that were tuned elsewhere. What is changed, and nothing else:

- a random model of two layers stands for SmolLM2-135M and for a model of the hub;
- settings that make a run short are added to commands that train or measure (`SHORT`);
- `make …` and `pip install …` are not run: they are how this came to run at all;
- the two `lm_eval run` lines are run on that model, by tests/retention/logs/real.py;
- `myosotis ui` is stopped once it answers;
- `dial` may answer that no benchmark can decide: only general text is asked of that model.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests import warm  # noqa: E402
from tests.test_docs import README, in_blocks  # noqa: E402
from tests.world import build  # noqa: E402

SHORT = {
    "model": "local",
    "data.row_tokens": 64,
    "data.max_length": 64,
    "trainer.max_steps": 4,
    "trainer.accelerator": "cpu",
    "trainer.num_threads": 1,
    "retention.suite": "[prose]",
    "retention.items": 30,
    "retention.settle": "false",
    "retention.every": "null",
    "task.generate": 2,
    "task.shots": 0,
    "task.max_new_tokens": 4,
}
MEASURES = ("plan", "audit", "check", "train", "sweep", "evaluate")
VERDICTS = {"dial": (0, 3, 4)}
"""Exit codes that are answers: of a random model nothing need be kept."""
NOTHING_TO_GO_BY = "no benchmark that a verdict can rest on"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="myosotis-readme-") as name:
        place = Path(name) / "empty"
        world = build(Path(name) / "world")
        place.mkdir()
        failed = [line for line in commands() if not told(line, place, world)]
    print(f"{len(commands())} commands, {len(failed)} failed")
    return 1 if failed else 0


def commands() -> list[list[str]]:
    return [words for words in in_blocks(README) if words[0] not in ("make", "pip")]


def told(words: list[str], place: Path, world: Path) -> bool:
    """Run one; whether it did what it says."""
    began = time.monotonic()
    print(f"$ {shlex.join(words)}", flush=True)
    try:
        said = run(words, place, world)
    except subprocess.TimeoutExpired:
        said = "it does not end"
    print(f"  {said or 'ok'} ({time.monotonic() - began:.0f} s)", flush=True)
    return not said


def run(words: list[str], place: Path, world: Path) -> str:
    """What went wrong; empty where nothing did."""
    prepare(place, world)
    if words[0] == "lm_eval":
        return logs(place, words[-1])
    command, *rest = words[1:]
    rest = [one for word in rest for one in _expanded(word, place)]
    rest = [str(world / "model") if w in ("smollm2-135m", "owner/name") else w for w in rest]
    process = warm.start([command, *rest, *short(command, rest, world)], place, environment(place))
    if command == "ui":
        return until_it_answers(process)
    _, err = process.communicate(timeout=900)
    if command == "dial" and process.returncode == 2 and NOTHING_TO_GO_BY in err:
        return ""
    if process.returncode not in VERDICTS.get(command, (0,)) or "Traceback" in err:
        return f"exit {process.returncode}: {err[-800:]}"
    return ""


def _expanded(word: str, place: Path) -> list[str]:
    """As a shell does."""
    named = sorted(str(path.relative_to(place)) for path in place.glob(word)) if "*" in word else []
    return named or [word]


def short(command: str, rest: list[str], world: Path) -> list[str]:
    if command not in MEASURES or "--help" in rest or "resume=last" in rest:
        return []
    given = {**SHORT, "model.path": world / "model"}
    if not any(word.startswith("data=") for word in rest) and command != "evaluate":
        given |= {"data": "jsonl", "data.path": world / "mine.jsonl"}
    if command == "evaluate":
        del given["model"], given["model.path"]
    return [f"{key}={value}" for key, value in given.items()]


def environment(place: Path) -> dict[str, str]:
    env = {**os.environ, "MYOSOTIS_CACHE": str(place.parent / "cache"), "OMP_NUM_THREADS": "1"}
    env |= {"HF_HUB_OFFLINE": "1", "XDG_CONFIG_HOME": str(place.parent / "home")}
    env.pop("MLFLOW_TRACKING_URI", None)
    return env


def prepare(place: Path, world: Path) -> None:
    """What the README takes for given: data, and what was tuned elsewhere."""
    if not (place / "mine.jsonl").exists():
        shutil.copy(world / "mine.jsonl", place / "mine.jsonl")
        shutil.copytree(world / "model", place / "my-model")
    adapters = sorted(place.glob("runs/*/*/update"))
    if adapters and not (place / "my-adapter").exists():
        shutil.copytree(adapters[0], place / "my-adapter")


def logs(place: Path, out: str) -> str:
    if not (place / out).exists():
        from tests.retention.logs.real import pair

        made = pair(place / "lm-eval")
        (place / "logs").mkdir(exist_ok=True)
        for name, log in zip(("base", "tuned"), made, strict=True):
            shutil.copytree(log, place / "logs" / name)
    return "" if (place / out).exists() else f"{out} was not written"


def until_it_answers(process: subprocess.Popen[str]) -> str:
    import socket

    for _ in range(1200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 5000)) == 0:
                break
        if process.poll() is not None:
            return f"exit {process.returncode}: {process.communicate()[1][-800:]}"
        time.sleep(0.1)
    else:
        return "it does not answer"
    os.kill(process.pid, signal.SIGINT)
    process.communicate(timeout=120)
    return "" if process.returncode in (0, 130) else f"exit {process.returncode}"


if __name__ == "__main__":
    sys.exit(main())
