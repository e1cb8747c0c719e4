"""One line of lm-eval's samples: what was asked, what came back, and each number that is a score.

What belongs here: the fields of a line, in the forms that versions of lm-eval have given them. A
value of an unexpected kind is taken as missing; what a log must have is checked in `lm_eval.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from myosotis.retention.benchmarks.task import CORPUS_ONLY, fingerprint
from myosotis.retention.logs import files
from myosotis.retention.logs.files import listing, number
from myosotis.retention.logs.log import ItemText

_ABOUT = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash"),
}
"""Keys of a line that are no metrics: older versions do not list those."""

_ROLLING = ("bits_per_byte", "byte_perplexity")
"""Metrics whose value of one text is its log-likelihood and its bytes."""

_READING_OF_NOTHING = "[invalid]"
"""What lm-eval's filters read out of a text without an answer."""


def is_sample(record: dict[str, Any]) -> bool:
    """Whether a line of a file of JSON Lines is one of lm-eval's."""
    return "doc_id" in record and "filtered_resps" in record


def scored(sample: dict[str, Any]) -> tuple[dict[str, float], float]:
    """Every number that is a score of this one document, and its weight in a mean: its bytes where
    the mean is over bytes."""
    listed = sample.get("metrics")
    names = listed if isinstance(listed, list) else [key for key in sample if key not in _ABOUT]
    scores: dict[str, float] = {}
    weight = 1.0
    for name in names:
        if not isinstance(name, str):
            continue
        value = sample.get(name)
        pair = [number(part) for part in listing(value)]
        if name in _ROLLING and len(pair) == 2 and pair[0] is not None and pair[1]:
            weight = pair[1]
            scores["bits_per_byte"] = -pair[0] / math.log(2) / weight
        elif name == "perplexity" and (nats := number(value)) is not None:
            scores["nll"] = -nats
        elif name not in CORPUS_ONLY and (found := number(value)) is not None:
            scores[name] = found
    taken, spread = sample.get("filtered_resps"), "bits_per_byte" in scores
    if isinstance(taken, list) and len(taken) == 1 and isinstance(taken[0], str) and not spread:
        scores["answered"] = float(taken[0] not in ("", _READING_OF_NOTHING))
    return scores, weight


def arguments(sample: dict[str, Any]) -> list[list[Any]]:
    """What was asked, request by request; lists in older logs, named parts in newer ones."""
    given = sample.get("arguments")
    found = []
    for part in list(given.values()) if isinstance(given, dict) else listing(given):
        inside = list(part.values()) if isinstance(part, dict) else part
        found.append(inside if isinstance(inside, list) else [inside])
    return found


def choices_of(texts: Sequence[Sequence[str]], delimiter: str = " ") -> tuple[str, ...]:
    """The choices as a person reads them: what differs between the requests."""
    if contexts_differ(texts):
        return tuple(one[0] for one in texts if one)
    return tuple(one[-1].removeprefix(delimiter) for one in texts if one)


def contexts_differ(texts: Sequence[Sequence[str]]) -> bool:
    """WinoGrande: the choices stand in the contexts, and the same ending is scored."""
    return (
        len(texts) > 1 and all(len(one) == 2 for one in texts) and len({t[1] for t in texts}) == 1
    )


def content_of(sample: dict[str, Any]) -> str:
    """What tells the document and its right answer from others: lm-eval's hashes, or ours."""
    doc = sample.get("doc_hash") or fingerprint(sample.get("doc"))
    return f"{doc} {sample.get('target_hash') or fingerprint(sample.get('target'))}"


def log_probs(sample: dict[str, Any]) -> tuple[float, ...]:
    """Of each choice, in nats; nothing where the model wrote, or a log-prob is not finite."""
    found = []
    for pair in listing(sample.get("filtered_resps")):
        try:
            value = float(pair[0]) if isinstance(pair, list) and len(pair) == 2 else math.nan
        except (TypeError, ValueError):
            value = math.nan
        if not math.isfinite(value):
            return ()
        found.append(value)
    if "acc_mutual_info" in listing(sample.get("metrics")):  # the choices without context
        found = found[: len(found) // 2]
    return tuple(found) if len(found) > 1 else ()


def gold_of(target: Any, choices: Sequence[str]) -> tuple[int, ...]:
    """Which choices are right; lm-eval writes the target as text."""
    said = files.text(target).strip()
    if said.startswith("["):
        try:
            several = json.loads(said)
        except (ValueError, RecursionError):
            return ()
        named = [one for one in several if isinstance(one, int)]
    elif said.isdecimal() and len(said) < 5:
        named = [int(said)]
    else:
        named = [choices.index(said)] if said in choices else []
    return tuple(place for place in named if 0 <= place < len(choices))


def text_at(path: Path, position: int, delimiter: str) -> ItemText:
    sample = files.line_at(path, position)
    texts = [[p for p in one if isinstance(p, str)] for one in arguments(sample)]
    count = len(log_probs(sample))
    taken = sample.get("resps")
    while isinstance(taken, list) and taken:
        taken = taken[0]
    first = next(iter(texts), None) or [""]
    if not count:
        return ItemText(first[0], (), files.text(taken))
    prompt = first[-1] if contexts_differ(texts[:count]) else first[0]
    return ItemText(prompt, choices_of(texts[:count], delimiter))
