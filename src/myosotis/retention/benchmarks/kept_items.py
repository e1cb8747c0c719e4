"""The items of a benchmark in the cache: rendered and tokenised once, read by every later start.

What belongs here: the key, made of all that rendering depends on, and the files. What judges an
answer is lm-eval's code with the row itself, and is not kept: whoever reads has both.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from myosotis.data.kept import kept_folder, key_of
from myosotis.retention.benchmarks.requests import (
    Encoder,
    Prompt,
    Request,
    Window,
    tokenizer_hash,
)
from myosotis.retention.benchmarks.task import Item, Judge, digest

FEW = 100
"""Items below which rendering them again costs less than keeping them."""

CODE = ("build.py", "kept_items.py", "requests.py", "task.py")
KIND = "items"

ADDRESS = r" at 0x[0-9a-f]+>"
"""Of an object that says nothing of itself but where it lies, in this process."""


def key(
    about: Sequence[object],
    encoder: Encoder,
    harnesses: Sequence[Any],
    examples: Iterable[Any],
    documents: Iterable[Any],
    asked: Iterable[object],
) -> str | None:
    """What the rendered items depend on: `about` (settings, versions), tokenizer and context, the
    definitions of the tasks with the code they name, the rows that are shown as `examples` and
    those that are asked. None where that cannot be told: a task that is a program of its own, a
    tokenizer without rules of its own."""
    from myosotis.retention.harness.loader import is_configured

    tokenizer = encoder.tokenizer
    if not hasattr(tokenizer, "backend_tokenizer"):
        return None
    if not all(map(is_configured, harnesses)):
        return None
    definitions = [_definition(harness.dump_config()) for harness in harnesses]
    if any(re.search(ADDRESS, definition) for definition in definitions):
        return None
    code = [_code_of(vars(harness.config)) for harness in harnesses]
    return key_of(
        KIND,
        list(about),
        [_own_code(), encoder.context_length, encoder.prefix_token],
        [type(tokenizer).__name__, tokenizer_hash(tokenizer)],
        digest(definitions),
        code,
        digest(map(_text, examples)),
        digest(map(_text, documents)),
        digest(map(_text, asked)),
    )


def kept(key: str, render: Callable[[], list[Item]], judges: Sequence[Judge]) -> list[Item]:
    """The items kept under `key`, made by `render` where there are none; `judges` are theirs."""
    folder = kept_folder(KIND, key, partial(_write, render))
    return _read(folder, judges)


def _text(content: object) -> str:
    return json.dumps(content, sort_keys=True, default=str, ensure_ascii=False)


def _definition(config: Mapping[str, Any]) -> str:
    """What a task's definition says of how a row is rendered. How the rows were made is left out:
    they are looked at as they are."""
    return _text(_without(config, {"metadata", "process_docs", "metric_list", "filter_list"}))


def _without(config: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {
        name: _without(value, names) if isinstance(value, Mapping) else value
        for name, value in config.items()
        if name not in names
    }


def _code_of(config: dict[str, Any]) -> list[str]:
    """Hashes of the files with the functions that a definition names."""
    files = {inspect.getsourcefile(value) for value in config.values() if inspect.isroutine(value)}
    return sorted(hashlib.sha256(Path(f).read_bytes()).hexdigest() for f in files if f)


@cache
def _own_code() -> str:
    here = Path(__file__).parent
    return digest((here / name).read_text("utf-8") for name in CODE)


# ------------------------------------------------------------------ files

# items.json: `texts`, each once; `items` and what is asked for each, texts by their number.
# ids.npy: the tokens of all windows, one after the other, without what a window shares with the
# one before it.

Ids = tuple[int, ...]


def _write(render: Callable[[], list[Item]], folder: Path) -> None:
    texts: dict[str, int] = {}

    def number(text: str) -> int:
        return texts.setdefault(text, len(texts))

    items, runs = [], list[Ids]()
    for item in render():
        runs_of_item = list(_runs(item.requests))
        items.append(
            {
                "about": [item.task, item.id, item.member, item.cluster, item.half],
                "texts": [number(item.prompt), number(item.question)],
                "choices": [number(choice) for choice in item.choices],
                "numbers": [item.gold, item.lengths, item.num_bytes, item.stratum],
                "requests": [_asked(request, number) for request in item.requests],
                "runs": _shared(runs_of_item),
            }
        )
        runs += [
            run[shared:] for run, (shared, _) in zip(runs_of_item, items[-1]["runs"], strict=True)
        ]
    every = [np.array(run, np.int32) for run in runs]
    np.save(folder / "ids.npy", np.concatenate([np.zeros(0, np.int32), *every]))
    document = {"texts": list(texts), "items": items}
    (folder / "items.json").write_text(json.dumps(document), "utf-8")


def _runs(requests: Iterable[Request]) -> Iterator[Ids]:
    """The tokens of all windows and prompts."""
    for request in requests:
        yield from (window.ids for window in request.windows)
        if request.prompt is not None:
            yield request.prompt.ids


def _asked(request: Request, number: Callable[[str], int]) -> list[Any]:
    prompt = request.prompt and [request.prompt.until, request.prompt.most]
    starts = [window.start for window in request.windows]
    return [request.kind, [number(text) for text in request.text], starts, prompt]


def _shared(runs: Sequence[Ids]) -> list[tuple[int, int]]:
    """How many tokens each run shares with the one before it, and how many more it has."""
    found = []
    for before, run in pairwise([(), *runs]):
        most = min(len(before), len(run))
        shared = most
        if before[:most] != run[:most]:
            shared = next(i for i in range(most) if before[i] != run[i])
        found.append((shared, len(run) - shared))
    return found


def _read(folder: Path, judges: Sequence[Judge]) -> list[Item]:
    document = json.loads((folder / "items.json").read_text("utf-8"))
    texts: list[str] = document["texts"]
    ids: list[int] = np.load(folder / "ids.npy").tolist()
    place, items = 0, list[Item]()
    for one, judge in zip(document["items"], judges, strict=True):
        runs, before = list[Ids](), ()
        for shared, more in one["runs"]:
            before = (*before[:shared], *ids[place : place + more])
            runs.append(before)
            place += more
        task, id, member, cluster, half = one["about"]
        prompt, question = (texts[i] for i in one["texts"])
        gold, lengths, num_bytes, stratum = one["numbers"]
        left = iter(runs)
        items.append(
            Item(
                task=task,
                id=id,
                member=member,
                cluster=cluster,
                half=half,
                prompt=prompt,
                choices=tuple(texts[i] for i in one["choices"]),
                gold=tuple(gold),
                lengths=tuple(lengths),
                num_bytes=tuple(num_bytes),
                requests=tuple(_request(asked, texts, left) for asked in one["requests"]),
                judge=judge,
                question=question,
                stratum=stratum,
            )
        )
    return items


def _request(asked: list[Any], texts: Sequence[str], runs: Iterator[Ids]) -> Request:
    kind, said, starts, prompt = asked
    windows = tuple(Window(next(runs), start) for start in starts)
    text = tuple(texts[int(i)] for i in said)
    if prompt is None:
        return Request(kind, text, windows)
    until, most = prompt
    return Request(kind, text, windows, Prompt(next(runs), tuple(until), most))
