"""The curves of a run on disk: one JSON line a measurement, written as it is taken.

MLflow shows the curves; this file is where they are kept, so that nothing is lost when the server
is away, and a resumed run can drop what it is about to measure again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from myosotis.records.schema import CurvePoint
from myosotis.utils.atomic_write import write_text
from myosotis.utils.read_file import json_of, read_bytes


class JsonlLogger(Logger):
    """A Lightning logger that appends to `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return "lightning"  # where Lightning's own callbacks write by default, in the run's folder

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration has a file of its own."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._append({"step": step or 0, **{k: _finite(float(v)) for k, v in metrics.items()}})

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drop what was measured after `step`: a resumed run measures it again."""
        earlier = [line for line in self._lines() if line["step"] <= step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in earlier))

    def log_values(self, step: int, values: Mapping[str, Sequence[Any]]) -> None:
        """What a measurement at `step` found item by item, by name: no curve, but what two points
        of one are compared by."""
        self._append({"step": step, **{name: list(found) for name, found in values.items()}})

    def values(self) -> dict[int, dict[str, list[Any]]]:
        """The same, read, by step."""
        found: dict[int, dict[str, list[Any]]] = {}
        for line in self._lines():
            lists = {name: value for name, value in line.items() if isinstance(value, list)}
            if lists:
                found.setdefault(line["step"], {}).update(lists)
        return found

    def points(self) -> list[CurvePoint]:
        """All measurements in the order they were taken; the last of a (name, step) counts."""
        latest = {
            (name, line["step"]): value
            for line in self._lines()
            for name, value in line.items()
            if name != "step" and not isinstance(value, list)
        }
        return [CurvePoint(step, name, value) for (name, step), value in latest.items()]

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        lines: list[dict[str, Any]] = []
        for text in read_bytes(self.path).decode("utf-8", "replace").splitlines():
            try:
                line = json_of(text)
            except ValueError:  # a kill in the middle of a line
                continue
            if isinstance(line, dict) and type(line.get("step")) is int:
                lines.append(line)
        return lines


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
