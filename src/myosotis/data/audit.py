"""What a person should see of the data before training: `myosotis audit`.

`inspect` computes a plain dict (for `--json`); `audit_view.py` draws it for a terminal,
`report/audit_page.py` as a page.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myosotis.data import content, repeats
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.datamodule import ExampleModule
from myosotis.data.kinds import TaskKind
from myosotis.data.tokenize import Encoded, encode
from myosotis.trees.tree import Path, Target, Tree
from myosotis.utils.console import progress

BINS = 8
ROW_TOKENS = 512  # `data.row_tokens` where nothing else is said


def inspect(
    module: ExampleModule, *, samples: int = 3, row_tokens: int = ROW_TOKENS
) -> dict[str, Any]:
    """The audit as plain data.

    `row_tokens` is how long the rows are into which examples are packed. Raises what tokenising the
    data set raises.
    """
    dataset, template = module.dataset, module.template
    module.setup()
    fitted = module.encoded
    counts = {part: one.counts() for part, one in fitted.items()}
    train = counts["train"]
    with progress("content and repeats", None):
        held, repeated = repeats.survey(dataset.parts())
    report: dict[str, Any] = {
        "name": dataset.name,
        "manifest": dataset.manifest,
        "template": {"kind": template.kind, "note": template.note},
        "max_length": module.max_length,
        "parts": {
            part: counts[part] | {"lengths": _lengths(one.lengths)} for part, one in fitted.items()
        },
        **repeated._asdict(),
        "content": held,
        "budget": _budget(module, fitted["train"], train),
        "rows": fill(fitted["train"].tree_tokens.tolist(), module.batch_size, row_tokens),
        "samples": _samples(module, samples),
    }
    report["warnings"] = module.warnings() + _warnings(report) + content.warnings(report["content"])
    return report


def fill(tree_tokens: Sequence[int], batch_size: int, row_tokens: int) -> dict[str, Any]:
    """How well rows of at most `row_tokens` tokens fill: the examples of each step of a shuffled
    epoch (of its first `STEPS_FILLED`), best fit, as `pack` does it; what examples begin with
    together is counted for each."""
    order = np.random.default_rng(0).permutation(len(tree_tokens)).tolist()
    steps = [order[i : i + batch_size] for i in range(0, len(order), batch_size)][:STEPS_FILLED]
    sizes = [[tree_tokens[i] for i in step] for step in steps]
    rows = max(1, sum(_rows(step, row_tokens) for step in sizes))
    tokens = sum(map(sum, sizes))
    return {
        "row_tokens": row_tokens,
        "tokens_per_row": tokens / rows,
        "rows_per_step": rows / max(1, len(steps)),
        "filled": tokens / rows / row_tokens,
    }


STEPS_FILLED = 500


def _rows(sizes: Sequence[int], row_tokens: int) -> int:
    """Rows that so many tokens each take: longest first, into the fullest row with room."""
    room: list[int] = []  # rising
    count = 0
    for size in sorted(sizes, reverse=True):
        place = bisect_left(room, size)
        if place < len(room):
            insort(room, room.pop(place) - size)
        else:
            count += 1
            insort(room, max(0, row_tokens - size))
    return count


def tokens(path: Path, template: ChatRenderer) -> Iterator[tuple[str, bool, bool]]:
    """Text, scored, control token: for each token that the model sees, and what is asked for.

    Tokens that are parts of one character come together, as one piece.
    """
    held: list[int] = []
    for number, (token, weight) in enumerate(zip(path.ids, path.weights, strict=True)):
        held.append(token)
        text = template.decode(held, control=True)
        last = number + 1 == len(path.ids) or path.weights[number + 1] != weight
        if not text.endswith("\ufffd") or last or len(held) >= 8:
            yield text, bool(weight), template.is_control(token)
            held = []
    if path.target is not Target.TOKENS:
        yield template.asked(path), True, False


def _budget(module: ExampleModule, fitted: Encoded, train: dict[str, int]) -> dict[str, Any]:
    steps = -(-fitted.kept // module.batch_size)
    return {
        "batch_size": module.batch_size,
        "steps_per_epoch": steps,
        "tokens_per_epoch": train["tokens"],
        "scored_tokens_per_epoch": train["scored_tokens"],
        "scored_share": train["scored_tokens"] / max(1, train["tokens"]),
        "tokens_per_step": train["tokens"] / max(1, steps),
    }


def _samples(module: ExampleModule, count: int) -> list[dict[str, Any]]:
    """Examples from all over the training part, token by token; of those that fit."""
    examples, kind = module.dataset.train, module.kind_of("train")
    total, shown = len(examples), list[dict[str, Any]]()
    for i in range(min(count, total)):
        for k in range(i * total // count if total > count else i, total):
            made = encode(
                [examples[k]],
                module.template,
                max_length=module.max_length,
                overlong=module.overlong,
            )
            if made.trees:
                shown += _told_sample(examples[k].where, made.trees[0], kind, module.template)
                break
    return shown


def _told_sample(
    where: str, tree: Tree, kind: TaskKind, template: ChatRenderer
) -> list[dict[str, Any]]:
    return [
        {"where": where + name, "tokens": list(map(list, tokens(path, template)))}
        for name, path in zip(kind.path_names(tree), tree.paths(), strict=True)
    ]


def _lengths(rows: Sequence[tuple[int, int]] | NDArray[Any]) -> dict[str, Any]:
    if not len(rows):
        return {}
    prompt, answer = np.asarray(rows).T
    total = prompt + answer
    edges = np.unique(np.geomspace(max(1, total.min()), total.max() + 1, BINS + 1).round())
    counts, edges = np.histogram(total, bins=edges if len(edges) > 1 else [total.min(), np.inf])
    summary = {
        name: {
            "p50": int(np.percentile(values, 50)),
            "p95": int(np.percentile(values, 95)),
            "max": int(values.max()),
        }
        for name, values in (("prompt", prompt), ("answer", answer), ("total", total))
    }
    last = int(total.max())
    bins = [
        {
            "from": int(low),
            "to": min(int(high) - 1, last) if np.isfinite(high) else last,
            "count": n,
        }
        for low, high, n in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
    ]
    return {**summary, "histogram": bins}


def _warnings(report: dict[str, Any]) -> list[str]:
    sentences = []
    double = report["duplicates"]
    if double["surplus"]:
        first = ", ".join(double["where"][0][:3])
        sentences.append(
            f"training examples that repeat another exactly: {double['surplus']}, such as {first}"
        )
    almost = report["near"]
    if almost["surplus"]:
        first = ", ".join(almost["where"][0][:3])
        sentences.append(
            f"training examples that are almost another: {almost['surplus']} in "
            f"{almost['groups']} groups, such as {first}"
        )
    for part, pairs in almost["held_out"].items():
        if pairs["count"]:
            held, trained = pairs["where"][0]
            sentences.append(
                f"{part} examples that are almost one that is trained on: {pairs['count']}, "
                f"such as {held} ~ {trained}"
            )
    for part, leak in report["leakage"].items():
        if leak["prompts"]:
            held, trained = leak["where"][0]
            sentences.append(
                f"{part} prompts that are also trained on: {leak['prompts']} ({leak['pairs']} with "
                f"the same answer), such as {held} = {trained}; they measure memory"
            )
    return sentences
