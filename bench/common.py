"""What the measurements share: each side in a process of its own, alternated, medians, a table.

A script here is its own worker: `main` starts `python SCRIPT --worker CONFIG.json`, which runs one
side once and writes a JSON document. So no side sees the other's caches, allocator or threads, and
peak memory is that of one side. Times are taken inside the worker, after loading and a warm-up.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Result = dict[str, Any]
Job = dict[str, Any]

console = Console(stderr=True)


def run_worker(script: str, job: Job, threads: int) -> Result:
    """Run one side once in a fresh process with `threads` threads; returns what it measured."""
    variables = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    variables["THP_MEM_ALLOC_ENABLE"] = "1"  # as `myosotis` sets it; every side has it
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        ask, answer = Path(folder, "job.json"), Path(folder, "result.json")
        ask.write_text(json.dumps({**job, "threads": threads, "result": str(answer)}))
        done = subprocess.run(
            [sys.executable, script, "--worker", str(ask)],
            env={**os.environ, **variables, **quiet},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode or not answer.exists():
            raise SystemExit(f"{job} failed with code {done.returncode}:\n{done.stdout[-4000:]}")
        return json.loads(answer.read_text())


def worker(work: Callable[[Job], Result]) -> bool:
    """In a worker process: do the job, write the result, return True. Elsewhere: False."""
    if len(sys.argv) != 3 or sys.argv[1] != "--worker":
        return False
    import torch

    from myosotis.utils import memory

    job = json.loads(Path(sys.argv[2]).read_text())
    torch.set_num_threads(job["threads"])
    result = work(job) | {"peak_memory_gb": memory.peak_gb(), "threads": torch.get_num_threads()}
    Path(job["result"]).write_text(json.dumps(result))
    return True


def alternate(
    script: str, sides: Mapping[str, Job], threads: int, repeats: int
) -> dict[str, list[Result]]:
    """Each side `repeats` times, in turns, every other round in reverse order."""
    found: dict[str, list[Result]] = {name: [] for name in sides}
    for turn in range(repeats):
        names = list(sides) if turn % 2 == 0 else list(sides)[::-1]
        for name in names:
            began = time.perf_counter()
            found[name].append(run_worker(script, sides[name], threads))
            seconds, whole = found[name][-1]["seconds"], time.perf_counter() - began
            console.print(f"  round {turn + 1}, {name}: {seconds:.1f} s (process {whole:.0f} s)")
    return found


def median(results: Sequence[Result], key: str) -> float:
    """Median of one number over the repeats of a side."""
    return statistics.median(result[key] for result in results)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout; numbers come formatted."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*map(str, row))
    # A fixed width where there is no terminal, so that what is pasted elsewhere keeps its columns.
    Console(width=None if sys.stdout.isatty() else 110).print(table)


def machine(threads: int) -> str:
    """One line on where figures come from."""
    from importlib.metadata import version

    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    load = os.getloadavg()[0]
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads, Python "
        f"{platform.python_version()}, {versions}; load before the start {load:.1f}"
    )


def save(path: Path | None, document: Mapping[str, Any]) -> None:
    """Keep every figure behind the tables, where a file was asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1))
        console.print(f"all figures: {path}")
