"""What the audit takes at 100,000 examples: processor seconds and peak memory.

    python bench/audit.py [--examples 100000]

The examples are of random words, 10 to 220 of them, one in twenty almost another; suite and model
are the defaults. Processor seconds are those of the audit and of its child processes; beside other
work the wall clock says little.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import time
from itertools import accumulate
from pathlib import Path


def write(path: Path, count: int) -> None:
    """A file of `count` examples."""
    rng = random.Random(0)
    words = [
        "".join(rng.choices("abcdefghilmnoprstuv", k=rng.randint(2, 9))) for _ in range(20_000)
    ]
    shares = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))
    before = ""
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            asked = " ".join(rng.choices(words, cum_weights=shares, k=rng.randint(5, 60)))
            said = " ".join(rng.choices(words, cum_weights=shares, k=rng.randint(5, 160)))
            if i % 20 == 19:
                said = f"{before} {words[i % len(words)]}"
            before = said
            file.write(json.dumps({"prompt": asked, "completion": said}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000)
    count = parser.parse_args().examples
    from myosotis.commands.audit import audit
    from myosotis.config import compose

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "examples.jsonl"
        write(path, count)
        began, before = time.perf_counter(), os.times()
        audit(
            compose(["data=jsonl", f"data.path={path}", "tracking=none"]), Path(folder) / "a.html"
        )
        spent, after = time.perf_counter() - began, os.times()
    own = after.user + after.system - before.user - before.system
    children = after.children_user + after.children_system
    children -= before.children_user + before.children_system
    peaks = [resource.getrusage(who).ru_maxrss / 1e6 for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    print(
        json.dumps(
            {
                "examples": count,
                "cores": len(os.sched_getaffinity(0)),
                "wall_seconds": round(spent, 1),
                "processor_seconds": round(own, 1),
                "processor_seconds_of_children": round(children, 1),
                "peak_gb": round(peaks[0], 2),
                "peak_gb_of_the_largest_child": round(peaks[1], 2),
            }
        )
    )


RUSAGE_SELF, RUSAGE_CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN

if __name__ == "__main__":
    main()
