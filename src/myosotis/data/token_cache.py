"""A large part of a data set as tokens on disk: made once, by all cores, and read by every command.

The folder is named by all that its content depends on: what the examples say, the tokenizer and its
template, the mask, the longest path. Where it cannot be written, it lies in a temporary one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.kept import FEW, kept_folder, key_of
from myosotis.data.sft import Example
from myosotis.data.stored_examples import Chosen, Places, digest_of
from myosotis.data.tokenize import Encoded, Fitting, Overlong, grade_of
from myosotis.trees.stored_trees import TreeArrays, TreeWriter, Values, read_trees
from myosotis.trees.tree import Target
from myosotis.utils.forked import cores, forked

CHUNK = 256
"""Examples of one piece of work."""

Advance = Callable[[int], None]


def encode_on_disk(
    examples: Sequence[Example],
    template: ChatRenderer,
    *,
    max_length: int,
    overlong: Overlong = "drop",
    advance: Advance = lambda n: None,
    processes: int | None = None,
) -> Encoded:
    """What `encode` makes of the examples, on disk; raises what that raises.

    `advance(n)` is called for every n examples done; `processes` None means the cores there are.
    """
    work = _Work(examples, template, max_length, overlong)
    identity = template.identity()
    key = None
    if identity is not None:
        key = key_of("tokens", digest_of(examples), identity, max_length, overlong)
    if processes is None:
        processes = cores(len(examples) // CHUNK) if len(examples) >= FEW else 1
    folder = kept_folder("tokens", key, partial(_write, work, processes, advance))
    return _read(folder, examples, max_length)


class _Piece(NamedTuple):
    """What became of a chunk of examples; they are counted from its first."""

    trees: TreeArrays
    tree_example: list[int]
    lengths: list[tuple[int, int]]
    dropped: list[int]
    truncated: list[int]
    windows: dict[int, int]
    notes: dict[str, list[int]]
    prompt_too_long: int
    target: Target | None


@dataclass(frozen=True)
class _Work:
    examples: Sequence[Example]
    template: ChatRenderer
    max_length: int
    overlong: Overlong

    def chunk(self, start: int) -> _Piece:
        examples = self.examples[start : start + CHUNK]
        fitting = Fitting(self.template, self.max_length, self.overlong)
        found = list(fitting.of(examples))
        # Of several examples of one place any will do: it is the place that is told.
        number = {example.where: i for i, example in enumerate(examples)}
        return _Piece(
            TreeArrays.of((paths, grade_of(examples[i])) for i, paths in found),
            [i for i, _ in found],
            fitting.lengths,
            [number[where] for where in fitting.dropped],
            [number[where] for where in fitting.truncated],
            {number[where]: count for where, count in fitting.windows.items()},
            {note: [number[w] for w in where] for note, where in fitting.notes.items()},
            fitting.prompt_too_long,
            found[0][1][0].target if found else None,
        )


def _write(work: _Work, processes: int, advance: Advance, folder: Path) -> None:
    """Tokenise, and write what comes of it."""
    starts = range(0, len(work.examples), CHUNK)
    lists = {name: list[Any]() for name in ("tree_example", "lengths", "dropped", "truncated")}
    windows, notes = list[tuple[int, int]](), dict[str, list[int]]()
    hopeless, largest, target = 0, (-1, 0), Target.TOKENS
    with TreeWriter(folder) as writer, forked(work.chunk, starts, processes) as pieces:
        for start, piece in zip(starts, pieces, strict=True):
            writer.add(piece.trees)
            for name in ("tree_example", "dropped", "truncated"):
                lists[name].append(np.array(getattr(piece, name), np.int32) + start)
            lists["lengths"].append(np.array(piece.lengths, np.int32).reshape(-1, 2))
            windows += [(start + i, count) for i, count in piece.windows.items()]
            for note, where in piece.notes.items():
                notes.setdefault(note, []).extend(start + i for i in where)
            hopeless += piece.prompt_too_long
            target = piece.target or target
            largest = max(largest, _largest(piece, start, target))
            advance(min(CHUNK, len(work.examples) - start))
    for name, arrays in lists.items():
        np.save(folder / f"{name}.npy", np.concatenate(arrays))
    np.save(folder / "windows.npy", np.array(windows, np.int32).reshape(-1, 2))
    for i, where in enumerate(notes.values()):
        np.save(folder / f"note{i}.npy", np.array(where, np.int32))
    about = {
        "target": target.value,
        "largest": largest,
        "prompt_too_long": hopeless,
        "notes": list(notes),
    }
    (folder / "about.json").write_text(json.dumps(about), "utf-8")


def _largest(piece: _Piece, start: int, target: Target) -> tuple[int, int]:
    """The largest token id of a piece, and its example; of labels and values the text counts."""
    values: Values = piece.trees.values
    if not len(values):
        return -1, 0
    ids = np.where(values < 0, ~values if target is Target.TOKENS else 0, values)
    place = int(ids.argmax())
    path = int(np.searchsorted(np.cumsum(piece.trees.path_sizes), place, "right"))
    tree = int(np.searchsorted(np.cumsum(piece.trees.tree_paths), path, "right"))
    return int(ids[place]), start + piece.tree_example[tree]


def _read(folder: Path, examples: Sequence[Example], max_length: int) -> Encoded:
    about = json.loads((folder / "about.json").read_text("utf-8"))

    def places(name: str) -> Places:
        return Places(Chosen(examples, np.load(folder / f"{name}.npy")))

    windows: Iterator[Any] = iter(np.load(folder / "windows.npy").tolist())
    number, example = about["largest"]
    return Encoded(
        np.load(folder / "lengths.npy"),
        places("dropped"),
        places("truncated"),
        {examples[i].where: count for i, count in windows},
        about["prompt_too_long"],
        max_length,
        {note: places(f"note{i}") for i, note in enumerate(about["notes"])},
        read_trees(folder, Target(about["target"])),
        Chosen(examples, np.load(folder / "tree_example.npy")),
        (number, examples[example].where) if number >= 0 else (0, ""),
    )
