"""Examples to trees that fit the model: lengths counted, nothing cut or left out in silence.

An example longer than `max_length` tokens is dropped, or truncated: the end of its answer is cut,
with the end-of-turn token, so that the model does not learn to stop there. A prompt is never cut;
when it leaves no room for the answer, the example is dropped either way. Plain text (continued
pre-training) is neither: it is read in windows, which overlap by the one token that is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from myosotis.data.chat_template import ChatRenderer, Rendered
from myosotis.data.sft import Example
from myosotis.trees.stored_trees import scored_tokens, target_sizes, token_counts
from myosotis.trees.tree import Path, Tree
from myosotis.utils.errors import DataError

Overlong = Literal["drop", "truncate"]
CHUNK = 64  # examples that are tokenised together
SHOWN = 3


@dataclass
class Encoded:
    """The trees of a set of examples, and how these fit the model; `trees[i]` is `examples[i]`.

    `lengths` has a row (prompt tokens, scored tokens) for every example that was given, before
    anything was cut; what did not fit is named by its `where`. All of it may lie on disk
    (token_cache.py).
    """

    lengths: Sequence[tuple[int, int]] | NDArray[Any] = field(default_factory=list)
    dropped: Sequence[str] = field(default_factory=list)
    truncated: Sequence[str] = field(default_factory=list)
    windows: dict[str, int] = field(default_factory=dict)  # of a text read in several: `where`
    prompt_too_long: int = 0  # of the dropped, those that truncation could not have saved
    max_length: int = 0
    # What rendering leaves out, by `where`.
    notes: dict[str, Sequence[str]] = field(default_factory=dict)
    trees: Sequence[Tree] = field(default_factory=list)
    examples: Sequence[Example] = field(default_factory=list)
    largest: tuple[int, str] | None = (
        None  # the largest token id, and `where`; None: not looked for
    )

    @property
    def kept(self) -> int:
        """How many trees there are."""
        return len(self.trees)

    @property
    def tree_tokens(self) -> NDArray[np.int64]:
        """Tokens of each tree."""
        return token_counts(self.trees)

    @property
    def tokens(self) -> int:
        """Tokens read in one pass over the trees."""
        return int(self.tree_tokens.sum())

    @property
    def scored(self) -> float:
        """Tokens learned from in one pass over the trees."""
        return scored_tokens(self.trees)

    @property
    def sizes(self) -> Sequence[Sequence[float]] | NDArray[Any]:
        """Tokens learned from on each path of each tree."""
        return target_sizes(self.trees)

    @property
    def largest_id(self) -> tuple[int, str]:
        """The largest token id of all, and where it stands."""
        if self.largest is not None:
            return self.largest
        pairs = zip(self.trees, self.examples, strict=True)
        return max(((_largest(tree), e.where) for tree, e in pairs), default=(0, ""))

    def require_some(self, part: str) -> None:
        """Raise `DataError` where there were examples and none of them fits."""
        if len(self.lengths) and not self.kept:
            shortest = np.asarray(self.lengths).sum(1).min()
            raise DataError(
                f"none of the {len(self.lengths)} {part} examples fits into "
                f"{self.max_length} tokens; the shortest has {shortest}",
                "a larger data.max_length; where prompts fit, data.overlong=truncate",
            )

    def counts(self) -> dict[str, int]:
        """Of this part, for the run record."""
        return {
            "given": len(self.lengths),
            "kept": self.kept,
            "dropped": len(self.dropped),
            "truncated": len(self.truncated),
            "tokens": self.tokens,
            "scored_tokens": int(self.scored),
        }

    def warnings(self, part: str) -> list[str]:
        """A sentence for each way in which examples of this part did not fit."""
        given = f"of {len(self.lengths)} {part} examples"
        limit = f"{self.max_length} tokens"
        sentences = [
            f"{note} ({len(where)} {given}): {_places(where)}" for note, where in self.notes.items()
        ]
        if self.dropped:
            why = f"longer than {limit}"
            if self.prompt_too_long:
                why += f", {self.prompt_too_long} of them in the prompt alone"
            places = _places(self.dropped)
            sentences.append(f"{len(self.dropped)} {given} dropped ({why}): {places}")
        if self.windows:
            count = sum(self.windows.values())
            sentences.append(
                f"{len(self.windows)} {given} read in {count} windows of {limit}: "
                f"{_places(list(self.windows))}"
            )
        if self.truncated:
            sentences.append(
                f"{len(self.truncated)} {given} truncated to {limit}, the end of the answer cut: "
                f"{_places(self.truncated)}"
            )
        return sentences


@dataclass
class Fitting:
    """Makes paths of examples that fit, and counts what does not."""

    template: ChatRenderer
    max_length: int
    overlong: Overlong = "drop"
    lengths: list[tuple[int, int]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    windows: dict[str, int] = field(default_factory=dict)
    prompt_too_long: int = 0
    notes: dict[str, list[str]] = field(default_factory=dict)

    def of(self, examples: Sequence[Example]) -> Iterator[tuple[int, list[Path]]]:
        """The paths of each tree, and the number of its example. Raises `DataError` for the first
        example that cannot be rendered."""
        both = [sides(example) for example in examples]
        rendered = iter(self._rendered([side for one in both for side in one]))
        for number, (example, one) in enumerate(zip(examples, both, strict=True)):
            of_sides = [next(rendered) for _ in one]
            paths = [side.path for side in of_sides]
            for note in dict.fromkeys(note for side in of_sides for note in side.notes):
                self.notes.setdefault(note, []).append(example.where)
            scored = int(sum(path.scored for path in paths))
            prompt = paths[0].length - int(paths[0].scored)
            self.lengths.append((prompt, scored))
            for fitted in self._fitting(paths, example):
                yield number, fitted

    def _rendered(self, examples: list[Example]) -> list[Rendered]:
        """All together; one by one where something is wrong, so that the first fault is told."""
        try:
            return self.template.rendered_all(examples)
        except DataError:
            return [one for example in examples for one in self.template.rendered_all([example])]

    def _fitting(self, paths: list[Path], example: Example) -> list[list[Path]]:
        """The paths of each tree an example becomes: one, none, or one a window of a text."""
        if example.completion_only or paths[0].length <= self.max_length:
            fitted = self._fit(paths, example)
            return [] if fitted is None else [fitted]
        windows = [[window] for window in paths[0].windows(self.max_length)]
        self.windows[example.where] = len(windows)
        return windows

    def _fit(self, paths: list[Path], example: Example) -> list[Path] | None:
        if all(path.length <= self.max_length for path in paths):
            return paths
        cut = [path.cut(self.max_length) for path in paths]
        hopeless = not all(path.scored for path in cut)
        if self.overlong == "drop" or hopeless:
            self.dropped.append(example.where)
            self.prompt_too_long += hopeless
            return None
        self.truncated.append(example.where)
        return cut


def encode(
    examples: Sequence[Example],
    template: ChatRenderer,
    *,
    max_length: int,
    overlong: Overlong = "drop",
    advance: Callable[[int], None] = lambda n: None,
) -> Encoded:
    """Render, tokenise and fit; `advance(n)` is called for every n examples done."""
    fitting = Fitting(template, max_length, overlong)
    trees, kept = list[Tree](), list[Example]()
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        for number, paths in fitting.of(chunk):
            trees.append(_tree(paths, chunk[number]))
            kept.append(chunk[number])
        advance(len(chunk))
    return Encoded(
        fitting.lengths,
        fitting.dropped,
        fitting.truncated,
        fitting.windows,
        fitting.prompt_too_long,
        max_length,
        dict(fitting.notes),
        trees,
        kept,
    )


def sides(example: Example) -> list[Example]:
    """The example, and the same with its rejected answer, or another's, where there is one."""
    if example.rejected is not None:
        return [example, example.with_rejected()]
    return [example] if example.other is None else [example, example.answered(example.other)]


def grade_of(example: Example) -> int:
    """1 or -1 for a graded answer that has another's beside it, 0 for all else."""
    if example.desirable is None or example.other is None:
        return 0
    return 1 if example.desirable else -1


def _tree(paths: list[Path], example: Example) -> Tree:
    """One tree of all paths; of a graded answer its own alone, with the other's beside it."""
    if not (grade := grade_of(example)):
        return Tree.of(paths)
    own, other = (Tree.of([path]) for path in paths)
    return replace(own, grade=grade, other=other)


def _largest(tree: Tree) -> int:
    ids = [int(one.ids.max()) for one in (tree, tree.other) if one is not None]
    return max(ids)


def _places(where: Sequence[str]) -> str:
    return ", ".join(where[:SHOWN]) + (", …" if len(where) > SHOWN else "")
