"""`refusals.jsonl` beside a record: each request, what base and tuned model answered, and which of
the answers the rules took for a refusal.

What belongs here: writing it and reading it back. A person can check the classifier by it, and a
judge is asked about it (`refusal_judge.py`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from myosotis.retention.benchmarks.refusals import refuses
from myosotis.retention.benchmarks.safety import NAMES
from myosotis.retention.benchmarks.scores import Measurement
from myosotis.retention.benchmarks.task import Suite
from myosotis.utils.atomic_write import write_text
from myosotis.utils.errors import ConfigError
from myosotis.utils.read_file import MOST_DOCUMENT, read_text


@dataclass(frozen=True)
class Answered:
    """One request of `task`, answered by both models."""

    task: str
    prompt: str
    base: str
    tuned: str
    base_refuses: bool
    tuned_refuses: bool


def write_refusals(path: Path, suite: Suite, base: Measurement, tuned: Measurement) -> None:
    """Write the file, where the suite asks such requests; items are found by their ids."""
    prompts = {(item.task, item.id): item.prompt for item in suite.items if item.task in NAMES}
    found = []
    for name in [name for name in NAMES if name in base.tasks]:
        before = dict(zip(base[name].items, base[name].texts, strict=True))
        after = dict(zip(tuned[name].items, tuned[name].texts, strict=True))
        found += [
            Answered(name, prompts[name, item], text, after[item], refuses(text),
                     refuses(after[item]))
            for item, text in before.items()
        ]  # fmt: skip
    if found:
        lines = (json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found)
        write_text(path, "".join(lines))


def read_refusals(path: Path) -> list[Answered]:
    """Read it back. Raises `ConfigError` where there is none, or it is damaged."""
    try:
        text = read_text(path, MOST_DOCUMENT)
        return [Answered(**json.loads(line)) for line in text.splitlines()]
    except FileNotFoundError:
        raise ConfigError(
            f"{path.parent} has no answers to requests that should be refused.",
            "A run with retention=safety has.",
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None
