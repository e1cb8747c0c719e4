"""A real pair of logs: lm-eval's own command line on two tiny models, with tasks of every kind.

`python -m tests.retention.logs.real FOLDER` makes them by hand. No network and no benchmark: the
questions are made here, and lm-eval reads them from files.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml

from tests.retention.small import byte_tokenizer, tiny_model, write

SUBJECTS = ("sums", "letters", "colours")
TASKS = ("facts", "quiz", "reading", "spelling", "stories")
"""Choices of unlike lengths; a group of three subjects; questions on shared passages; answers in
words, read by two filters; running text."""

_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "answer",
    "doc_to_choice": "choices",
    "metadata": {"version": 1.0},
}
_ACC = [{"metric": "acc"}]


def pair(place: Path, *, items: int = 40) -> tuple[Path, Path]:
    """The folders of the base's and the tuned model's log; `place` also holds models and tasks."""
    data(place, items)
    found = []
    for name, noise in (("base", 0.0), ("tuned", 0.08)):
        model(place / "models" / name, noise)
        found.append(log(place, name))
    return found[0], found[1]


def data(place: Path, items: int) -> None:
    """The tasks' files, and their rows."""
    colours = ("red", "green", "light blue", "a very dark grey")

    def choices(question: str, answers: list[str], n: int, **more: Any) -> dict[str, Any]:
        return {"question": question, "choices": answers, "answer": n % len(answers), **more}

    tasks: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
        "facts": (
            {**_CHOICE, "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]},
            [choices(f"Which colour is car {n}?", list(colours), 3 * n + 1) for n in range(items)],
        ),
        "reading": (
            {
                **_CHOICE,
                "doc_to_text": "{{passage}}\nQuestion: {{question}}\nAnswer:",
                "metric_list": _ACC,
            },
            [
                choices(f"Is it {n}?", ["yes", "no"], n, passage=f"There are {n // 4} dogs.")
                for n in range(items // 2)
            ],
        ),
        "spelling": (
            {
                "output_type": "generate_until",
                "doc_to_text": "Spell {{word}}:",
                "doc_to_target": "{{answer}}",
                "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4, "do_sample": False},
                "metric_list": [{"metric": "exact_match"}],
                "filter_list": [_reading("first", r"([a-z])"), _reading("whole", r"^(\w+)$")],
                "metadata": {"version": 2.0},
            },
            [{"word": f"w{n}", "answer": "abcdefgh"[n % 8]} for n in range(items // 4)],
        ),
        "stories": (
            {
                "output_type": "loglikelihood_rolling",
                "doc_to_text": "",
                "doc_to_target": "{{text}}",
                "metric_list": [{"metric": "bits_per_byte"}, {"metric": "word_perplexity"}],
                "metadata": {"version": 1.0},
            },
            [{"text": "A river runs by the house. " * (1 + n)} for n in range(6)],
        ),
    }
    for place_of, subject in enumerate(SUBJECTS):
        rows = [
            choices(f"{subject} {n}?", ["A", "B", "C"], n + place_of) for n in range(items // 2)
        ]
        tasks[f"quiz_{subject}"] = {**_CHOICE, "metric_list": _ACC, "num_fewshot": 0}, rows
    for name, (config, rows) in tasks.items():
        write(place / "data" / f"{name}.jsonl", rows)
        files = {"test": str(place / "data" / f"{name}.jsonl")}
        config = {
            "task": name,
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files, "cache_dir": str(place / "cache")},
            "test_split": "test",
            **config,
        }
        (place / "tasks").mkdir(parents=True, exist_ok=True)
        (place / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(config))
    group = {
        "group": "quiz",
        "task": [f"quiz_{subject}" for subject in SUBJECTS],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
        "metadata": {"version": 1},
    }
    (place / "tasks" / "quiz.yaml").write_text(yaml.safe_dump(group))


def _reading(name: str, pattern: str) -> dict[str, Any]:
    """A filter that takes what a pattern finds first, and says [invalid] where it finds nothing."""
    found = {"function": "regex", "regex_pattern": pattern}
    return {"name": name, "filter": [found, {"function": "take_first"}]}


def model(folder: Path, noise: float) -> None:
    """A random Llama over bytes, in a folder; `noise` moves every weight a little."""
    made = tiny_model(dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight += noise * torch.randn_like(weight) * weight.std()
    made.save_pretrained(folder)
    byte_tokenizer(chat=True).save_pretrained(folder)


def log(place: Path, name: str, *more: str, tasks: tuple[str, ...] = TASKS) -> Path:
    """Run `lm_eval … --log_samples` in this process; the folder of the log."""
    from lm_eval.__main__ import cli_evaluate
    from lm_eval.tasks import TaskManager

    words = [
        *("lm_eval", "run", "--model", "hf", "--device", "cpu", "--batch_size", "16"),
        *("--model_args", f"pretrained={place / 'models' / name},dtype=float32"),
        *("--tasks", ",".join(tasks), "--include_path", str(place / "tasks")),
        *("--output_path", str(place / "logs" / name), "--log_samples", *more),
    ]
    # The index of lm-eval's own tasks takes seconds, and none of them is asked.
    own = partialmethod(TaskManager.__init__, include_defaults=False)
    with (
        patch.object(sys, "argv", words),
        patch.object(TaskManager, "__init__", own),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        cli_evaluate()
    return place / "logs" / name


def lines(folder: Path, task: str) -> list[dict[str, Any]]:
    """The lines of one task's samples, as they stand."""
    (path,) = folder.rglob(f"samples_{task}_*.jsonl")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def results(folder: Path) -> dict[str, Any]:
    (path,) = folder.rglob("results_*.json")
    return json.loads(path.read_text("utf-8"))


if __name__ == "__main__":
    print(*pair(Path(sys.argv[1])), sep="\n")
