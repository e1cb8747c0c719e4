"""What a person should see of the data before training: `myosotis audit`.

`inspect` computes a plain dict (for `--json`), `show` draws it for a terminal. Text out of the data
is never taken for markup, and its control characters are shown, not obeyed.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.datamodule import ExampleModule, found_in
from myosotis.data.example import canonical, pair_key
from myosotis.data.sft import Example, Message
from myosotis.data.tokenize import Encoded
from myosotis.trees.tree import Path, Target, Tree

READ, SCORED, CONTROL = "dim", ("black on green", "black on bright_green"), "magenta"
MOST_TOKENS_SHOWN = 400  # of one example
PLACES_SHOWN = 10
BINS = 8


def inspect(module: ExampleModule, *, samples: int = 3) -> dict[str, Any]:
    """The audit as plain data. Tokenises the data set if that is not done yet."""
    dataset, template = module.dataset, module.template
    module.setup()
    counts = module.counts()
    train, kind = counts["train"], module.kind_of("train")
    report: dict[str, Any] = {
        "name": dataset.name,
        "manifest": dataset.manifest,
        "template": {"kind": template.kind, "note": template.note},
        "max_length": module.max_length,
        "parts": {
            part: counts[part] | {"lengths": _lengths(module.encoded[part].lengths)}
            for part in dataset.parts()
        },
        "duplicates": duplicates(dataset.train),
        "leakage": {
            part: leakage(dataset.train, held_out)
            for part, held_out in (("validation", dataset.validation), ("test", dataset.test))
        },
        "budget": {
            "batch_size": module.batch_size,
            "steps_per_epoch": module.steps_per_epoch,
            "tokens_per_epoch": train["tokens"],
            "scored_tokens_per_epoch": train["scored_tokens"],
            "scored_share": train["scored_tokens"] / max(1, train["tokens"]),
            "tokens_per_step": train["tokens"] / max(1, module.steps_per_epoch),
        },
        "samples": [
            {"where": example.where + name, "tokens": list(map(list, tokens(path, template)))}
            for example, tree in _spread(module.encoded["train"], samples)
            for name, path in zip(kind.path_names(tree), tree.paths(), strict=True)
        ],
    }
    report["warnings"] = module.warnings() + _warnings(report)
    return report


def show(report: dict[str, Any]) -> RenderableType:
    """The report of `inspect`, for a terminal."""
    parts: list[RenderableType] = [_sample(sample) for sample in report["samples"]]
    legend = Text("scored: ", style=READ)
    legend.append("⟦answer⟧", SCORED[0]).append("   control token: ", READ)
    legend.append("<…>", CONTROL).append("   the rest is read, not scored", READ)
    parts[:0] = [Text(visible(line), READ) for line in found_in(report["manifest"])]
    parts += [
        legend,
        Text(),
        _sizes(report),
        Text(),
        _spans(report),
        Text(),
        _histogram(report),
        Text(),
        _budget(report),
    ]
    for line in report["warnings"]:
        parts.append(Text.assemble(("! ", "bold yellow"), visible(line)))
    if not report["warnings"]:
        parts.append(Text("No duplicates, no leakage, nothing dropped or cut.", style="green"))
    return Group(*parts)


# What is computed.


def duplicates(examples: list[Example]) -> dict[str, Any]:
    """Conversations that occur more than once, to the letter."""
    groups = [where for where in _places(examples, pair_key).values() if len(where) > 1]
    return {
        "groups": len(groups),
        "surplus": sum(len(where) - 1 for where in groups),
        "where": groups[:PLACES_SHOWN],
    }


def leakage(train: list[Example], held_out: list[Example]) -> dict[str, Any]:
    """Held-out examples whose prompt, or whole conversation, is also trained on, to the letter."""
    prompts, pairs = _places(train, _prompt_key), _places(train, pair_key)
    same_prompt = [example for example in held_out if _prompt_key(example) in prompts]
    same_pair = [example for example in held_out if pair_key(example) in pairs]
    return {
        "prompts": len(same_prompt),
        "pairs": len(same_pair),
        "where": [
            [example.where, prompts[_prompt_key(example)][0]]
            for example in same_prompt[:PLACES_SHOWN]
        ],
    }


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


def visible(text: str) -> str:
    """Text with its control and format characters spelled out; a newline shows and ends a line."""
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character == "\n":
        return "↵\n"
    if character == "\t":
        return "⇥"
    if unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Zl", "Zp"):
        return f"⟨U+{ord(character):04X}⟩"
    return character


def _prompt_key(example: Example) -> str:
    return canonical([Message(m.role, m.content) for m in example.prompt])


def _places(examples: Iterable[Example], key: Any) -> dict[str, list[str]]:
    places: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        places[key(example)].append(example.where)
    return places


def _spread(encoded: Encoded, count: int) -> list[tuple[Example, Tree]]:
    """Examples from all over the file, with their trees."""
    total = len(encoded.trees)
    chosen = range(total) if total <= count else [i * total // count for i in range(count)]
    return [(encoded.examples[i], encoded.trees[i]) for i in chosen]


def _lengths(rows: list[tuple[int, int]]) -> dict[str, Any]:
    if not rows:
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
    for part, leak in report["leakage"].items():
        if leak["prompts"]:
            held, trained = leak["where"][0]
            sentences.append(
                f"{part} prompts that are also trained on: {leak['prompts']} ({leak['pairs']} with "
                f"the same answer), such as {held} = {trained}; they measure memory"
            )
    return sentences


# What is drawn.


def _sample(sample: dict[str, Any]) -> Panel:
    shown = sample["tokens"]
    text = Text()
    left_out = len(shown) - MOST_TOKENS_SHOWN
    scored_before = False
    for number, (piece, scored, control) in enumerate(shown):
        if left_out > 0 and number == MOST_TOKENS_SHOWN // 2:
            text.append(f" … {left_out} tokens … ", "italic yellow")
        if left_out > 0 and 0 <= number - MOST_TOKENS_SHOWN // 2 < left_out:
            continue
        # Brackets too: colours are lost in a pipe, and to some eyes.
        if scored != scored_before:
            text.append("⟦" if scored else "⟧", "bold green")
        style = f"{SCORED[number % 2]}" if scored else CONTROL if control else READ
        text.append(visible(piece), style)
        scored_before = scored
    if scored_before:
        text.append("⟧", "bold green")
    return Panel(text, title=Text(visible(sample["where"])), title_align="left")


def _sizes(report: dict[str, Any]) -> Table:
    table = Table(title=Text(visible(report["name"])), title_justify="left", box=None)
    for name in ("", "examples", "dropped", "truncated", "tokens", "scored"):
        table.add_column(name, justify="left" if not name else "right")
    for part, row in report["parts"].items():
        numbers = [row[n] for n in ("kept", "dropped", "truncated", "tokens", "scored_tokens")]
        table.add_row(part, *(f"{n:,}" for n in numbers))
    return table


def _spans(report: dict[str, Any]) -> Table:
    title = "tokens per example: median · 95th percentile · largest"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("")
    for name in ("prompt", "answer", "total"):
        table.add_column(name, justify="right")
    for part, row in report["parts"].items():
        if lengths := row["lengths"]:
            spans = [lengths[name] for name in ("prompt", "answer", "total")]
            table.add_row(part, *(f"{s['p50']:,} · {s['p95']:,} · {s['max']:,}" for s in spans))
    return table


def _histogram(report: dict[str, Any]) -> Table:
    bins = report["parts"]["train"]["lengths"].get("histogram", [])
    table = Table(title="training examples by length", title_justify="left", box=None)
    table.add_column("tokens", justify="right")
    table.add_column("examples", justify="right")
    table.add_column("")
    most = max((row["count"] for row in bins), default=1)
    for row in bins:
        style = "yellow" if row["to"] > report["max_length"] else "green"
        bar = Text("█" * round(40 * row["count"] / most) or "▏" * bool(row["count"]), style=style)
        table.add_row(f"{row['from']}–{row['to']}", f"{row['count']:,}", bar)
    return table


def _budget(report: dict[str, Any]) -> Text:
    budget = report["budget"]
    kind = report["template"]["kind"]
    template = "the model's chat template" if kind == "chat" else "no template"
    return Text(
        f"{budget['steps_per_epoch']:,} steps per epoch, {budget['batch_size']} examples and "
        f"{budget['tokens_per_step']:,.0f} tokens per step, {budget['scored_share']:.0%} of them "
        f"scored; at most {report['max_length']:,} tokens per example; {template}"
    )
