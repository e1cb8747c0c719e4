"""`myosotis forecast`: what a run will have lost, by its KL and the curve of a finished study.

Nothing is asked of a model: a run whose benchmarks were left out (`retention=none`) has its KL on
record, and a study of the same base says what such a KL has cost before.
"""

from __future__ import annotations

from typing import Any

from myosotis.records.find import find_run
from myosotis.report import kl_curve
from myosotis.report.kl_price import FEWEST_GROUPS, FEWEST_RUNS, prices
from myosotis.tracking.find import gather
from myosotis.utils.console import results
from myosotis.utils.errors import DataError


def forecast(run: str, study: str, uri: str | None = None) -> dict[str, Any]:
    """The forecast for `run` from the runs of `study` (a sweep, a folder or a file of records).

    Raises `DataError` where the study has too few runs for a curve, is of another base, or the run
    has no KL.
    """
    record = find_run(run).load()
    found = gather([study], uri).records
    others = [one for one in found if one.run_id != record.run_id]
    known = prices(others)
    if not known:
        raise DataError(
            f"{study} has too few runs for a curve.",
            f"It takes {FEWEST_RUNS} with KL and benchmarks, of {FEWEST_GROUPS} rates or settings.",
        )
    bases = {one.model.content_hash for one in others} - {""}
    if record.model.content_hash and record.model.content_hash not in bases:
        raise DataError(
            f"{study} was run on another base than {record.run_name}.",
            "A KL costs what it costs on one model: name a study of the same base.",
        )
    told = kl_curve.sentences(record, known)
    if not told:
        raise DataError(
            f"{record.run_name} has no KL on record.", "It needs retention.kl_items=16."
        )
    for sentence in told:
        results.print(sentence, highlight=False, markup=False, soft_wrap=True)
    return {"run_id": record.run_id, "forecast": kl_curve.forecast(record, known), "said": told}
