"""What a person should see of the data before training: `myosotis audit`.

`inspect` computes a plain dict (for `--json`); `audit_view.py` draws it for a terminal,
`report/audit_page.py` as a page.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from myosotis.data import content
from myosotis.data.chat_template import ChatRenderer
from myosotis.data.datamodule import ExampleModule
from myosotis.data.example import canonical, pair_key
from myosotis.data.kinds import TaskKind
from myosotis.data.near_duplicates import near_duplicates
from myosotis.data.sft import Example, Message
from myosotis.data.tokenize import Encoded, encode
from myosotis.trees.tree import Path, Target, Tree
from myosotis.utils.console import progress

PLACES_SHOWN = 10
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
    report: dict[str, Any] = {
        "name": dataset.name,
        "manifest": dataset.manifest,
        "template": {"kind": template.kind, "note": template.note},
        "max_length": module.max_length,
        "parts": {
            part: counts[part] | {"lengths": _lengths(one.lengths)} for part, one in fitted.items()
        },
        "duplicates": duplicates(dataset.train),
        "near": near(dataset.parts()),
        "leakage": leakages(dataset.train, dataset.parts()),
        "content": content.survey(dataset.train),
        "budget": _budget(module, fitted["train"], train),
        "rows": fill(fitted["train"].tree_tokens.tolist(), module.batch_size, row_tokens),
        "samples": _samples(module, samples),
    }
    report["warnings"] = module.warnings() + _warnings(report) + content.warnings(report["content"])
    return report


def duplicates(examples: Sequence[Example]) -> dict[str, Any]:
    """Conversations that occur more than once, to the letter."""
    groups = [where for where in _places(examples, pair_key).values() if len(where) > 1]
    return {
        "groups": len(groups),
        "surplus": sum(len(where) - 1 for where in groups),
        "where": groups[:PLACES_SHOWN],
    }


def near(parts: Mapping[str, Sequence[Example]]) -> dict[str, Any]:
    """Training examples that are almost another, and held-out ones that almost are one; what is
    the same to the letter is counted by `duplicates` and `leakages`."""
    different = _different(parts)
    texts = [content.whole(example) for _, example in different]
    with progress("near duplicates", None):
        alike = near_duplicates(texts)
    trained: dict[int, list[str]] = defaultdict(list)
    for group, (part, example) in zip(alike.group.tolist(), different, strict=True):
        if part == "train":
            trained[group].append(example.where)
    groups = sorted((g for g in trained.values() if len(g) > 1), key=len, reverse=True)
    held_out: dict[str, list[list[str]]] = {part: [] for part in parts if part != "train"}
    for group, (part, example) in zip(alike.group.tolist(), different, strict=True):
        if part != "train" and group in trained:
            held_out[part].append([example.where, trained[group][0]])
    return {
        "groups": len(groups),
        "surplus": sum(len(group) - 1 for group in groups),
        "where": [group[:PLACES_SHOWN] for group in groups[:PLACES_SHOWN]],
        "held_out": {
            part: {"count": len(pairs), "where": pairs[:PLACES_SHOWN]}
            for part, pairs in held_out.items()
        },
    }


def _different(parts: Mapping[str, Sequence[Example]]) -> list[tuple[str, Example]]:
    """Every conversation once, with the first part that it is in."""
    first: dict[bytes, tuple[str, Example]] = {}
    for part, examples in parts.items():
        for example in examples:
            first.setdefault(_digest(pair_key(example)), (part, example))
    return list(first.values())


def leakages(
    train: Sequence[Example], parts: Mapping[str, Sequence[Example]]
) -> dict[str, dict[str, Any]]:
    """Held-out examples whose prompt, or whole conversation, is also trained on, to the letter."""
    prompts, pairs = _first_places(train, _prompt_key), _first_places(train, pair_key)
    found = {}
    for part, held_out in parts.items():
        if part == "train":
            continue
        keys = [(example, _digest(_prompt_key(example))) for example in held_out]
        same = [(example.where, prompts[key]) for example, key in keys if key in prompts]
        found[part] = {
            "prompts": len(same),
            "pairs": sum(_digest(pair_key(example)) in pairs for example in held_out),
            "where": [list(one) for one in same[:PLACES_SHOWN]],
        }
    return found


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


def _prompt_key(example: Example) -> str:
    return canonical([Message(m.role, m.content) for m in example.prompt])


def _places(examples: Iterable[Example], key: Callable[[Example], str]) -> dict[bytes, list[str]]:
    """Where each different thing stands, by a digest: texts themselves are not kept twice."""
    places: dict[bytes, list[str]] = defaultdict(list)
    for example in examples:
        places[_digest(key(example))].append(example.where)
    return places


def _first_places(examples: Iterable[Example], key: Callable[[Example], str]) -> dict[bytes, str]:
    return {key: where[0] for key, where in _places(examples, key).items()}


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


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
