"""Make the sampling designs that ship with a model: which items of a benchmark to ask how often.

    python bench/design.py smollm2-135m RUN [RUN …]

Scores the model on a pool of each benchmark (once; kept in the cache) and, to see how far training
moves the margins, each of the runs on the first items of it. Of the runs the one that moves them
most counts: a design for too large a change costs little, one for too small a change more.
Writes src/myosotis/retention/benchmarks/designs/MODEL.json and prints, task by task, sigma, and the
variance of the change that the runs' own flips would have under the design, over that of simple
sampling of as many items.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import common
import numpy as np
import torch
from numpy.typing import NDArray

from myosotis.commands.components import base_retention, tuned_scorer
from myosotis.commands.find_model import find_model
from myosotis.commands.parts import context_of
from myosotis.models.load import load_tokenizer
from myosotis.retention.benchmarks import build, sampling_design
from myosotis.retention.benchmarks.eval_model import EvalModel
from myosotis.retention.benchmarks.measure import measure
from myosotis.retention.benchmarks.sampling_design import Designs, SamplingDesign
from myosotis.retention.benchmarks.scores import Measurement, TaskScores
from myosotis.retention.benchmarks.task import Suite
from myosotis.trees.packing_check import probe
from myosotis.trees.scorer import Scorer
from myosotis.utils.atomic_write import write_text
from myosotis.utils.console import progress

TASKS = ("hellaswag", "arc_easy", "piqa")

Floats = NDArray[np.float64]


def suite_of(model: str, items: int) -> Suite:
    ref = find_model(model, None)
    return build.build(
        list(TASKS),
        load_tokenizer(ref.source),
        context_length=context_of(ref.source),
        items=items,
    )


def scored(model: str, items: int) -> tuple[Measurement, Measurement | None]:
    """A model on the pool; of an update its base, and the model with it."""
    ref, suite = find_model(model, None), suite_of(model, items)
    loaded, update = ref.load(torch.float32)
    scorer = Scorer(loaded.model, probe(loaded.model), row_tokens=1024)
    if update is None:
        return base_retention(suite, scorer, loaded, "float32"), None
    with update.disabled():
        base = base_retention(suite, scorer, loaded, "float32")
    with progress(f"benchmarks, {model}", total=suite.size) as advance:
        asked = EvalModel(tuned_scorer(scorer, update), loaded.tokenizer)
        return base, measure(suite, asked, advance)


def margins(scores: TaskScores) -> Floats:
    """(n,) the score of the right choice minus that of the best other, as the metric reads them."""
    by = scores.lengths if scores.metric == "acc_norm" else np.ones_like(scores.logp)
    z = scores.logp / by
    found = []
    for gold, start, end in zip(scores.gold, scores.offsets[:-1], scores.offsets[1:], strict=True):
        others = np.delete(z[start:end], gold)
        found.append(z[start + gold] - others.max())
    return np.array(found)


def row_numbers(scores: TaskScores) -> list[int]:
    """Of each item its row in the benchmark, which its id begins with."""
    return [int(item.split("-")[0]) for item in scores.items]


def variance_ratio(design: SamplingDesign, d: dict[int, float]) -> float:
    """Of the change `d` by row: the variance of the stratified mean over that of a simple one."""
    stratum = dict(zip(design.rows, design.strata, strict=True))
    rows = [row for row in d if row in stratum]
    of_row = np.array([stratum[row] for row in rows])
    change = np.array([d[row] for row in rows])
    within = 0.0
    for h, (share, rate) in enumerate(zip(design.shares, design.rates, strict=True)):
        if (of_row == h).sum() > 1:
            within += share**2 / rate * float(change[of_row == h].var(ddof=1))
    return within / float(change.var(ddof=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--pool", type=int, default=2000, help="items of each benchmark")
    parser.add_argument("--pilot", type=int, default=800, help="of them for each run")
    given = parser.parse_args()
    pool, _ = scored(given.model, given.pool)
    pilots = {Path(run).name: scored(run, given.pilot) for run in given.runs}
    designs, rows = Designs(), []
    for task in TASKS:
        whole = pool[task]
        sigmas = {
            name: float((margins(tuned[task]) - margins(base[task])).std(ddof=1))
            for name, (base, tuned) in pilots.items()
            if tuned is not None
        }
        sigma = max(sigmas.values())
        design = SamplingDesign.of(whole.items_of, row_numbers(whole), margins(whole), sigma)
        designs[task] = design
        for name, (base, tuned) in pilots.items():
            assert tuned is not None
            d = tuned[task].primary - base[task].primary
            by_row = dict(zip(row_numbers(base[task]), d.tolist(), strict=True))
            rows.append(
                [
                    task,
                    name,
                    f"{len(d)}",
                    f"{d.mean():+.4f}",
                    f"{(d != 0).mean():.3f}",
                    f"{sigmas[name]:.4f}",
                    f"{variance_ratio(design, by_row):.2f}",
                ]
            )
    folder = Path(sampling_design.__file__).parent / "designs"
    folder.mkdir(exist_ok=True)
    about = {"model": given.model, "made_by": "bench/design.py", "pool": given.pool}
    write_text(folder / f"{given.model}.json", designs.written(about))
    common.show(
        "Variance under the design, over that of a simple sample of as many items",
        ["benchmark", "run", "items", "change", "discordant", "sigma", "variance"],
        rows,
    )


if __name__ == "__main__":
    main()
