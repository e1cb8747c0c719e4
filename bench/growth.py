"""How cost grows: examples, runs, suites, rows; and what a start costs.

    python bench/growth.py                                  the small sizes, some minutes
    python bench/growth.py --only examples --sizes 1000 10000 100000 1000000

Every figure is one fresh process: processor seconds (user and system, children included), wall
seconds, and the largest resident memory. Between two sizes stands the exponent: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import common  # noqa: E402

SIZES = {"examples": [1_000, 10_000], "runs": [20, 200], "suites": [200, 2_000]}
SIZES["rows"] = [512, 2_048, 8_192]


@dataclass(frozen=True)
class Cost:
    """What one process took; `note` is what else it said."""

    what: str
    size: int | None
    cpu_seconds: float
    wall_seconds: float
    peak_gb: float
    note: str = ""


def measured(
    what: str, size: int | None, words: Sequence[str], place: Path, **variables: str
) -> Cost:
    """`python WORDS` in `place`, to its end. Raises `SystemExit` with its words if it fails."""
    env = {**os.environ, "MYOSOTIS_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1", **variables}
    out = place / "said.txt"
    began = time.perf_counter()
    with out.open("wb") as file:
        to_file = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        command = [sys.executable, *words]
        old = Path.cwd()
        os.chdir(place)
        try:
            child = os.posix_spawn(sys.executable, command, env, file_actions=to_file)
        finally:
            os.chdir(old)
        _, status, used = os.wait4(child, 0)
    said = out.read_text(errors="replace")
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{what} ({size}) failed:\n{said[-3000:]}")
    note = said.rsplit("NOTE ", 1)[1].strip() if "NOTE " in said else ""
    wall = time.perf_counter() - began
    return Cost(what, size, used.ru_utime + used.ru_stime, wall, used.ru_maxrss / 1e6, note)


def myosotis(*words: object) -> list[str]:
    return ["-m", "myosotis.cli", *map(str, words)]


def script(text: str, *words: object) -> list[str]:
    return ["-c", text, *map(str, words)]


WORLD = """
import json, sys
from pathlib import Path
from tests.world import build, settings
world = build(Path("world"))
print("NOTE", json.dumps(settings(world, Path("it"))))
"""


def world(place: Path, **changes: object) -> list[str]:
    """A tiny model in `place`, and the settings of a run of it. Made in a process of its own: what
    this one holds would count as memory of those it measures."""
    env = {"PYTHONPATH": str(ROOT)}
    given = json.loads(measured("the world", None, script(WORLD), place, **env).note)
    return [*given, *(f"{key}={value}" for key, value in changes.items())]


# ------------------------------------------------------------------ what is measured


def starts(place: Path, sizes: Sequence[int]) -> Iterator[Cost]:
    """What a command takes before it does anything of size."""
    given = world(place, **NONE)
    yield measured("--help", None, myosotis("--help"), place)
    yield measured("train --help", None, myosotis("train", "--help"), place)
    plan = [word for word in given if not word.startswith("out=")]
    yield measured("plan, tiny model", None, myosotis("plan", *plan), place)
    train = myosotis("train", *given, "trainer.max_steps=4")
    yield measured("train, 4 steps of a tiny model", None, train, place)


NONE = {"retention.suite": "[]", "retention.on_breach": "warn", "tracking": "none"}
WORDS = ["time", "river", "answer", "many", "house", "write", "light", "under", "paper", "stone"]


def examples(place: Path, sizes: Sequence[int]) -> Iterator[Cost]:
    """`plan` of a file of `size` examples of about 200 tokens, the first time and again."""
    rows = {"data.row_tokens": 512, "data.max_length": 512}
    given = [word for word in world(place, **NONE, **rows) if not word.startswith("out=")]
    for size in sizes:
        path = place / f"{size}.jsonl"
        with path.open("w") as file:
            for i in range(size):
                prompt = " ".join(WORDS[(i * k + k) % len(WORDS)] for k in range(1, 15))
                answer = " ".join(WORDS[(i + k * k) % len(WORDS)] for k in range(1, 18))
                file.write(json.dumps({"prompt": f"{i} {prompt}", "completion": answer}) + "\n")
        for what in ("plan", "plan again"):
            words = myosotis("plan", *given, f"data.path={path}")
            yield measured(f"{what}, examples", size, words, place)


RUNS = """
import sys
from pathlib import Path
from myosotis.report.scorecard import scorecard
from myosotis.records.load import read_folder
page = scorecard(read_folder(Path("multirun/it")), Path("page.html"))
print("NOTE", round(page.stat().st_size / 1e6, 2), "MB")
"""

LAST = """
from pathlib import Path
from myosotis.records.find import find_run
find_run("last")
"""

LEDGER = """
from pathlib import Path
from myosotis.commands.sweep import best_of, trials_of
from myosotis.records.run_folder import SweepFolder
import time
folder = SweepFolder(Path("multirun/it"))
trials = trials_of(folder)
began = time.process_time()
best_of(trials_of(folder, trials))
print("NOTE a look", round(time.process_time() - began, 2), "s")
"""


def runs(place: Path, sizes: Sequence[int]) -> Iterator[Cost]:
    """A sweep's folder of `size` records: the published ones again and again, with other ranks."""
    lines = (ROOT / "reports/rank_lr/records.jsonl").read_text().splitlines()
    for size in sizes:
        inside = place / str(size)
        for i in range(size):
            record = json.loads(lines[i % len(lines)])
            copy, seed = divmod(i // len(lines), 3)
            record |= {"run_id": f"{i:032x}", "run_name": f"{record['run_name']}-{i}"}
            record["config"]["seed"] = seed
            record["config"]["update"]["r"] = 2 + copy
            record["command"] += [f"update.r={2 + copy}", f"seed={seed}"]
            folder = inside / "multirun" / "it" / str(i)
            folder.mkdir(parents=True)
            (folder / "record.json").write_text(json.dumps(record))
        yield measured("page of runs", size, script(RUNS), inside)
        yield measured("ledger of a sweep", size, script(LEDGER), inside)
        yield measured("last", size, script(LAST), inside)
        yield measured("runs list", size, myosotis("runs", "list"), inside)


def suites(place: Path, sizes: Sequence[int]) -> Iterator[Cost]:
    """`plan` with HellaSwag alone, `size` items of it; the embedded model."""
    for size in sizes:
        words = ["retention.suite=[hellaswag]", f"retention.items={size}", "retention.settle=false"]
        words += ["tracking=none", "data.train_items=50", "data.val_items=8", "data.test_items=8"]
        for what in ("plan", "plan again"):
            yield measured(f"{what}, HellaSwag", size, myosotis("plan", *words), place)


ROWS = """
import sys, time, torch, transformers as hf
from myosotis.trees.packing_check import probe
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
size = int(sys.argv[1])
torch.set_num_threads(1)
torch.manual_seed(0)
config = hf.LlamaConfig(vocab_size=512, hidden_size=128, intermediate_size=256,
    num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=8192)
model = hf.LlamaForCausalLM(config).eval()
scorer = Scorer(model, probe(model), row_tokens=size)
trees = [Tree.fork([1 + k % 500] * 80, [[k % 499] * 24, [k % 498] * 24]) for k in range(64)]
def step():
    for batch in scorer.batches(trees):
        scorer.score(batch).logp_B.sum().backward()
step()
began = time.process_time()
step()
tokens = sum(map(len, trees))
print("NOTE", round((time.process_time() - began) / tokens * 1e6), "us a token")
"""


def rows(place: Path, sizes: Sequence[int]) -> Iterator[Cost]:
    """64 pairs of 128 tokens, forward and backward, in rows of `size` tokens; a small Llama."""
    for size in sizes:
        yield measured("pairs in rows", size, script(ROWS, size), place)


PARTS: dict[str, Callable[[Path, Sequence[int]], Iterator[Cost]]] = {
    "start": starts,
    "examples": examples,
    "runs": runs,
    "suites": suites,
    "rows": rows,
}


def exponent(costs: Sequence[Cost], one: Cost) -> str:
    """How processor time grew since the next smaller size of the same; empty for the first."""
    smaller = [c for c in costs if c.what == one.what and c.size and one.size and c.size < one.size]
    if not smaller:
        return ""
    last = smaller[-1]
    grew = math.log(one.cpu_seconds / last.cpu_seconds) / math.log(one.size / last.size)
    return f"{grew:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--sizes", nargs="*", type=int, help="of all parts; default: small ones")
    parser.add_argument("--json", type=Path, help="keep every figure here")
    asked = parser.parse_args()
    print(common.machine(os.cpu_count() or 1))
    costs: list[Cost] = []
    for name in asked.only:
        with tempfile.TemporaryDirectory(prefix="myosotis-growth-") as folder:
            for cost in PARTS[name](Path(folder), asked.sizes or SIZES.get(name, [])):
                costs.append(cost)
                common.console.print(f"  {cost}", highlight=False, soft_wrap=True)
    rows = [
        (
            cost.what,
            f"{cost.size:,}" if cost.size else "",
            f"{cost.cpu_seconds:.1f}",
            exponent(costs, cost),
            f"{cost.wall_seconds:.1f}",
            f"{cost.peak_gb:.2f}",
            cost.note,
        )
        for cost in costs
    ]
    head = ("what", "size", "processor s", "exponent", "wall s", "peak GB", "")
    common.show("How cost grows", head, rows)
    common.save(asked.json, {"costs": [vars(cost) for cost in costs]})


if __name__ == "__main__":
    main()
