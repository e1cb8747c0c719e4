"""Scoring a benchmark: our token forests against lm-eval's `HFLM`, on the same requests.

    python bench/retention_speed.py --items 200
    python bench/retention_speed.py --items 40 --shots 5

Both sides are lm-eval models and get the same (context, continuation) pairs, as lm-eval renders
them; tokenising is part of the time on both. HFLM's batch size is searched first (each size once,
on a quarter of the items), and its best is then alternated with ours. Prints medians, the ratio,
and how far the log-likelihoods are apart.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import common

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
WARM_UP = 2  # items


def work(job: common.Job) -> common.Result:
    """Worker: score the items of a task on one side, once."""
    import torch

    from myosotis.models.load import ModelSource, load_base_model
    from myosotis.retention.benchmarks import build as suites

    source = ModelSource(**job["model"])
    base = load_base_model(source, getattr(torch, job["dtype"]))
    suite = suites.build(
        [job["task"]],
        base.tokenizer,
        context_length=base.context_length,
        items=job["draw"],
        num_fewshot=job["shots"],
    )
    groups = [
        [_instance(item.task, number, request.text) for request in item.requests]
        for number, item in enumerate(suite.items[: job["items"] + WARM_UP])
    ]
    lm = _ours(base, job) if job["side"] == "ours" else _hflm(base, job)
    lm.loglikelihood([x for group in groups[:WARM_UP] for x in group])
    requests = [x for group in groups[WARM_UP:] for x in group]
    began = time.perf_counter()
    answers = lm.loglikelihood(requests)
    seconds = time.perf_counter() - began
    logp = [answer[0] for answer in answers]
    sizes = [len(group) for group in groups[WARM_UP:]]
    return {
        "seconds": seconds,
        "items_per_second": len(sizes) / seconds,
        "requests": len(requests),
        "logp": logp,
        "choice": _choices(logp, sizes),
    }


def _instance(task: str, number: int, text: tuple[str, ...]) -> Any:
    from lm_eval.api.instance import Instance

    return Instance("loglikelihood", {}, text, 0, (task, number, 1))


def _ours(base: Any, job: common.Job) -> Any:
    from myosotis.retention.harness.lm import ForestLM
    from myosotis.trees.packing_check import probe
    from myosotis.trees.scorer import Scorer

    backend = probe(base.model)
    scorer = Scorer(base.model, backend, row_tokens=job["row_tokens"])
    return ForestLM(scorer, base.tokenizer, base.context_length)


def _hflm(base: Any, job: common.Job) -> Any:
    from lm_eval.models.huggingface import HFLM

    size = job["batch_size"]
    return HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=size, device="cpu")


def _choices(logp: list[float], sizes: list[int]) -> list[int]:
    """The likeliest choice of each item."""
    found, start = [], 0
    for size in sizes:
        part = logp[start : start + size]
        found.append(part.index(max(part)))
        start += size
    return found


def compare(args: argparse.Namespace, shots: int) -> dict[str, Any]:
    """Search HFLM's batch size, alternate it with ours, and print what came out."""
    job: common.Job = {
        "model": {"kind": args.model, "id": args.id, "path": args.path},
        "task": args.task,
        "shots": shots,
        "items": args.items,
        "draw": args.items + WARM_UP,
        "dtype": args.dtype,
        "row_tokens": args.row_tokens,
    }
    few = max(8, args.items // 4)
    grid: dict[int, float] = {}
    for size in args.batch_sizes:
        found = common.run_worker(
            __file__, {**job, "side": "hflm", "batch_size": size, "items": few}, args.threads
        )
        grid[size] = found["items_per_second"]
        common.console.print(f"  HFLM, batch size {size}: {grid[size]:.2f} items/s on {few} items")
    best = max(grid, key=grid.__getitem__)
    sides = {
        "myosotis": {**job, "side": "ours"},
        f"HFLM, batch size {best}": {**job, "side": "hflm", "batch_size": best},
    }
    found = common.alternate(__file__, sides, args.threads, args.repeats)
    ours, theirs = found.values()
    ratio = common.median(theirs, "seconds") / common.median(ours, "seconds")
    gap = max(abs(a - b) for a, b in zip(ours[0]["logp"], theirs[0]["logp"], strict=True))
    same = sum(a == b for a, b in zip(ours[0]["choice"], theirs[0]["choice"], strict=True))
    common.show(
        f"{args.task}, {shots} shots, {args.items} items, {args.dtype}: {ratio:.2f} times HFLM",
        ("", "items/s", "seconds, each round", "peak memory, GB"),
        [
            (
                name,
                f"{common.median(results, 'items_per_second'):.2f}",
                ", ".join(f"{r['seconds']:.1f}" for r in results),
                f"{common.median(results, 'peak_memory_gb'):.2f}",
            )
            for name, results in found.items()
        ],
    )
    print(f"HFLM's grid, items/s: {', '.join(f'{k}: {v:.2f}' for k, v in grid.items())}")
    print(f"largest difference of a log-likelihood {gap:.2g} nats; {same}/{args.items} same choice")
    return {"shots": shots, "ratio": ratio, "grid": grid, "largest_gap": gap, "sides": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="hellaswag")
    parser.add_argument("--shots", type=int, nargs="+", default=[0, 5])
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--row-tokens", type=int, default=512)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--model", default="wheel", choices=("wheel", "local", "hub"))
    parser.add_argument("--id", default="smollm2-135m")
    parser.add_argument("--path")
    parser.add_argument("--json", type=Path, help="keep every figure here")
    args = parser.parse_args()
    print(common.machine(args.threads))
    common.save(args.json, {"runs": [compare(args, shots) for shots in args.shots]})


if __name__ == "__main__" and not common.worker(work):
    main()
