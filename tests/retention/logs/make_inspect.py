"""The Inspect logs in `data/inspect`: made by Inspect itself, with answers that are given here.

`python make_inspect.py FOLDER`, in an environment with `inspect-ai` (0.3.285 wrote those here).
It is no dependency of ours, so that no test imports it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tiktoken
from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, get_model
from inspect_ai.scorer import choice, match
from inspect_ai.solver import generate, multiple_choice, system_message

ITEMS = 10
WRONG = {"base": {9}, "tuned": {2, 3, 5}}
"""Numbers of the samples that each model answers wrongly; everything else is right."""

LONG = "x" * 200  # beyond the 100 characters from which Inspect keeps a text as an attachment


class NoTokens:
    """In place of an encoding that would be fetched: how many tokens there are is no matter."""

    def encode(self, text: str, **_: object) -> list[int]:
        return [0] * len(text)


def numbers() -> Task:
    samples = [
        Sample(
            input=f"Which of these is {i}?",
            choices=[str(i), str(i + 1), str(i + 2)],
            target="A",
            id=i,
            metadata={"subject": "odd" if i % 2 else "even"},
        )
        for i in range(ITEMS)
    ]
    return Task(
        name="numbers",
        dataset=MemoryDataset(samples),
        solver=[multiple_choice()],
        scorer=choice(),
        version=1,
    )


def spoken() -> Task:
    """In two epochs, the second of which is always right."""
    samples = [Sample(input=f"{LONG} Say {i}.", target=str(i), id=f"w{i}") for i in range(4)]
    return Task(
        name="spoken",
        dataset=MemoryDataset(samples),
        solver=[system_message("Be brief."), generate()],
        scorer=match(),
    )


def run(folder: Path, model: str, form: str, compressed: bool = True) -> None:
    wrong = WRONG[model]
    chosen = [f"ANSWER: {'B' if i in wrong else 'A'}" for i in range(ITEMS)]
    said = [str(i) if epoch or i not in wrong else "no" for epoch in (0, 1) for i in range(4)]
    for task, answers in ((numbers(), chosen), (spoken(), said)):
        name = f"mockllm/{model}"
        outputs = [ModelOutput.from_content(name, answer) for answer in answers]
        (log,) = eval(
            task,
            model=get_model(name, custom_outputs=outputs, memoize=False),
            log_dir=str(folder / form / model),
            log_format=form,  # pyright: ignore[reportArgumentType]
            epochs=2 if task.name == "spoken" else 1,
            max_samples=1,
            max_connections=1,
            display="none",
        )
        print(log.status, log.results and [s.metrics for s in log.results.scores])


if __name__ == "__main__":
    tiktoken.get_encoding = lambda _: NoTokens()  # type: ignore[assignment,return-value]
    tiktoken.encoding_for_model = lambda _: NoTokens()  # type: ignore[assignment,return-value]
    for form in ("eval", "json"):
        for model in WRONG:
            run(Path(sys.argv[1]), model, form)
