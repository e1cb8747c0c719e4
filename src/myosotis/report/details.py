"""The scorecard's smaller sections: flipped items, samples, cost, identity, configuration.

What belongs here: from a record to plain data for the template, where nothing is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from myosotis.records.schema import ControlInfo, Flip, RunRecord, Sample, Wording
from myosotis.report import mislaid, phrases
from myosotis.report.phrases import MISSING
from myosotis.utils.escape import visible

FLIPS_SHOWN = 8
TEXT_CHARACTERS = 4000


def text(value: str, *, keep_end: bool = False) -> str:
    """Model and data text made safe to look at: controls visible, the very long cut."""
    shown = visible(value)
    if len(shown) <= TEXT_CHARACTERS:
        return shown
    left = phrases.count(len(shown) - TEXT_CHARACTERS)
    if keep_end:
        return f"[… {left} characters before]\n{shown[-TEXT_CHARACTERS:]}"
    return f"{shown[:TEXT_CHARACTERS]}\n[… {left} more characters]"


def sample(given: Sample) -> dict[str, str]:
    """One prompt and its answers."""
    return {
        "summary": _tail(given.prompt),
        "prompt": text(given.prompt, keep_end=True),
        "reference": text(given.reference),
        "base": text(given.base),
        "tuned": text(given.tuned),
    }


def wording(given: Wording | None) -> str:
    """Lengths and variety of the answers, in a sentence or two."""
    if given is None:
        return ""
    lengths = phrases.scale("words", "", given.words_lo, given.words_hi)
    before, after = (
        " and ".join(phrases.percent(share) for share in shares)
        for shares in (given.distinct_base, given.distinct_tuned)
    )
    return (
        f"An answer has {lengths.value(given.words_tuned)} words on average, the base's had "
        f"{lengths.value(given.words_base)} (change "
        f"{phrases.interval(lengths, given.words_lo, given.words_hi)}, "
        f"n={phrases.count(given.n)}). Different words, and different pairs of words, over all "
        f"words written: {after}; the base's {before}."
    )


def flips(record: RunRecord) -> dict[str, Any]:
    """What was right and is wrong now; both directions are counted, since noise goes both ways."""
    lost = [row.right_to_wrong for row in record.retention if row.right_to_wrong is not None]
    won = [row.wrong_to_right for row in record.retention if row.wrong_to_right is not None]
    asked = bool(record.recovery)
    items = [
        lost_item(flip) | {"again": mislaid.of_flip(flip.again) if asked else ""}
        for flip in record.flips
    ]
    return {
        "counted": bool(lost),
        "mislaid": mislaid.of_run(record),
        "said": f"{phrases.plural(sum(lost), 'answer')} went from right to wrong and "
        f"{phrases.count(sum(won)) if won else MISSING} from wrong to right.",
        "total": sum(lost) if lost else len(items),
        "first": items[:FLIPS_SHOWN],
        "rest": items[FLIPS_SHOWN:],
    }


def lost_item(flip: Flip) -> dict[str, Any]:
    marks = {flip.gold: "gold", flip.tuned_choice: "tuned"}
    choices = [
        {"text": text(choice), "mark": marks.get(i, ""), "base": i == flip.base_choice}
        for i, choice in enumerate(flip.choices)
    ]
    return {
        "task": flip.task,
        "item": flip.item,
        "summary": _tail(flip.prompt),
        "prompt": text(flip.prompt, keep_end=True),
        "choices": choices,
    }


def _tail(prompt: str) -> str:
    """The end of a prompt in one line, where what is asked usually stands."""
    line = " ".join(text(prompt[-1000:]).split())
    return line if len(line) <= 160 else f"… {line[-160:]}"


_COSTS = {
    "total_seconds": ("Whole run", phrases.duration),
    "train_seconds": ("Training", phrases.duration),
    "retention_seconds": ("Mid-training evaluation", phrases.duration),
    "look_share": ("… as a share of training time", phrases.percent),
    "look_share_predicted": ("… share predicted beforehand", phrases.percent),
    "validation_seconds": ("Held-out loss while training", phrases.duration),
    "retention_items": ("Benchmark items evaluated mid-training", phrases.count),
    "retention_items_saved": ("… skipped by early stopping", phrases.count),
    "base_seconds": ("Measuring the base", phrases.duration),
    "final_seconds": ("Measuring the tuned model", phrases.duration),
    "tokens_per_second": ("Tokens per second", phrases.count),
    "examples_per_second": ("Examples per second", phrases.general),
    "tflop_per_second": ("TFLOP per second", phrases.general),
    "mfu": ("… as a share of the devices' peak (MFU)", phrases.percent),
    "peak_memory_gb": ("Peak memory", lambda gb: f"{phrases.general(gb)} GB"),
    "update_bytes": ("Size of the update", phrases.size),
    "rows_at_once": ("Rows at a time", phrases.count),
}


def cost(record: RunRecord) -> list[tuple[str, str]]:
    known = {k: v for k, v in record.cost.items() if k != "trainable_params"}
    rows = [
        (name, write(known[key]) if known[key] is not None else MISSING)
        for key, (name, write) in _COSTS.items()
        if key in known
    ]
    told = {f"{one.name}_tokens" for one in record.controls}
    unknown = [key for key in known if key not in _COSTS and key not in told]
    others = [(key.replace("_", " "), phrases.general(known[key])) for key in unknown]
    trainable, total = record.update.trainable, record.update.total
    if trainable is not None:
        share = f" ({100 * trainable / total:.3g} % of {phrases.large(total)})" if total else ""
        rows.append(("Trainable parameters", f"{phrases.count(trainable)}{share}"))
    if (off := record.update.off_difference) is not None:
        by = f" ({off:.1g} nats per token)" if off else ""
        rows.append(("Update disabled", f"identical to the base{by}"))
    return rows + others + [(f"Control {one.name}", control(one)) for one in record.controls]


def control(one: ControlInfo) -> str:
    """What a control was set to and what it did, in a line."""
    words = [f"{key} {value}" for key, value in one.settings.items()]
    if one.texts:
        words.append(
            f"{phrases.plural(one.texts, 'text')} read beside the task, "
            f"{phrases.count(one.supervised_tokens)} supervised tokens"
        )
    if one.term is not None:
        words.append(f"{one.term:.3g} of the loss")
    if one.gradient_share is not None:
        words.append(f"its gradient {phrases.percent(one.gradient_share)} of the whole's norm")
    return text(", ".join(words))


def identity(record: RunRecord) -> list[tuple[str, str]]:
    """Model, data and code: what must be equal for two runs to be comparable; of a comparison of
    logs, the logs."""
    if isinstance(logs := record.config.get("compare"), Mapping):
        return _of_logs(record, logs)
    counts = ", ".join(f"{phrases.count(n)} {part}" for part, n in record.data.counts.items())
    git = f"{record.git.commit[:12]}{' with uncommitted changes' if record.git.dirty else ''}"
    attention = record.attention
    rows = [
        ("Run", record.run_id),
        ("Status", record.status),
        ("Started", record.started),
        ("Ended", record.ended),
        ("Model", record.model.id),
        ("Note on the model", record.model.note),
        ("Weights", f"{record.model.dtype} {record.model.content_hash[:16]}".strip()),
        ("Data", f"{record.data.name}{f': {counts}' if counts else ''}"),
        ("Data content", record.data.hash[:16]),
        ("Benchmark suite", str(record.suite.get("hash", ""))[:16]),
        ("Configuration", record.config_hash),
        ("Attention", ": ".join(p for p in (attention.backend, attention.reason) if p)),
        ("Code", git),
        ("Versions", ", ".join(f"{name} {number}" for name, number in record.versions.items())),
        ("Host", ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in record.host.items())),
    ]
    return [
        (name, value if value else "not recorded")
        for name, value in rows
        if value or name in _ALWAYS
    ]


def _of_logs(record: RunRecord, logs: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("Comparison", record.run_id), ("Made", record.ended)]
    for side in ("base", "tuned"):
        log = logs.get(side)
        log = log if isinstance(log, Mapping) else {}
        names = ("log", "kind", "model", "tool", "written")
        told = [str(log[name]) for name in names if log.get(name)]
        rows.append((f"Log of the {side} model", text(", ".join(told)) or "not recorded"))
    versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    return [
        *rows,
        ("Benchmark items", str(record.suite.get("hash", ""))[:16]),
        ("Versions", versions),
    ]


_ALWAYS = ("Model", "Data", "Data content", "Code", "Weights", "Ended")


def flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """The configuration as dotted keys."""
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            rows += flat(value, f"{prefix}{key}.")
        else:
            said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            rows.append((f"{prefix}{key}", text(said)))
    return rows
