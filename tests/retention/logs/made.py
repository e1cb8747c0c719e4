"""Logs of lm-eval's form with answers that are given: what a test changes is what it is about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DATE = "2026-01-02T03-04-05.678901"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sample(number: int, right: float, **changes: Any) -> dict[str, Any]:
    """A question of three choices, the first of which is right; the model takes it or the last."""
    question = f"What is {number}?"
    logps = ["-1.0", "-3.0", "-2.0"] if right else ["-2.0", "-3.0", "-1.0"]
    asked = {
        f"gen_args_{i}": {"arg_0": f"Q: {question}\nA:", "arg_1": f" {word}"}
        for i, word in enumerate(("yes", "no", "who"))
    }
    return {
        "doc_id": number,
        "doc": {"question": question, "subject": f"s{number % 4}"},
        "target": "0",
        "arguments": asked,
        "resps": [[[logp, "False"]] for logp in logps],
        "filtered_resps": [[logp, "False"] for logp in logps],
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": sha(question),
        "prompt_hash": sha(f"Q: {question}\nA:"),
        "target_hash": sha("0"),
        "acc": float(right),
        **changes,
    }


def log(
    folder: Path,
    right: Sequence[float] | Sequence[dict[str, Any]],
    *,
    task: str = "quiz",
    date: str = DATE,
    results: dict[str, Any] | None = None,
) -> Path:
    """A folder with one task's samples, given by what was right or line by line, and results."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [one if isinstance(one, dict) else sample(n, one) for n, one in enumerate(right)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"samples_{task}_{date}.jsonl").write_text(text)
    path = folder / f"results_{date}.json"
    about = json.loads(path.read_text()) if path.exists() else {}
    about |= {"results": {}, "configs": {}, "model_name": f"us/{folder.name}"}
    for key, value in {
        "versions": 1.0,
        "n-shot": 0,
        "higher_is_better": {"acc": True},
        "n-samples": {"original": 1000, "effective": len(lines)},
    }.items():
        about[key] = {**about.get(key, {}), task: value}
    path.write_text(json.dumps(about | (results or {})))
    return folder


def table(lost: int, gained: int, right: int, wrong: int) -> tuple[list[float], list[float]]:
    """What two models answered rightly, from the four counts of their table."""
    base = [1.0] * (lost + right) + [0.0] * (gained + wrong)
    tuned = [0.0] * lost + [1.0] * (right + gained) + [0.0] * wrong
    return base, tuned
