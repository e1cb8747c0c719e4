"""Examples to trees that fit the model: lengths counted, nothing cut or left out in silence.

An example longer than `max_length` tokens is dropped, or truncated: the end of its answer is cut,
with the end-of-turn token, so that the model does not learn to stop there. A prompt is never cut;
when it leaves no room for the answer, the example is dropped either way. Plain text (continued
pre-training) is neither: it is read in windows, which overlap by the one token that is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.sft import Example
from myosotis.trees.tree import Path, Tree
from myosotis.utils.errors import DataError

Overlong = Literal["drop", "truncate"]
CHUNK = 64  # examples between two ticks of a progress bar
SHOWN = 3


@dataclass
class Fitted:
    """How a set of examples fits the model.

    `lengths` has a row (prompt tokens, scored tokens) for every example that was given, before
    anything was cut; the rest says what did not fit, as `where`. The trees themselves are of those
    that inherit this (`Encoded`), or gone (`tally.py`).
    """

    lengths: list[tuple[int, int]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    truncated: list[str] = field(default_factory=list)
    windows: dict[str, int] = field(default_factory=dict)  # of a text read in several: `where`
    prompt_too_long: int = 0  # of the dropped, those that truncation could not have saved
    max_length: int = 0
    notes: dict[str, list[str]] = field(default_factory=dict)  # what rendering leaves out: `where`

    @property
    def kept(self) -> int:
        """How many trees there are."""
        raise NotImplementedError

    @property
    def tokens(self) -> int:
        """Tokens read in one pass over the trees."""
        raise NotImplementedError

    @property
    def scored(self) -> float:
        """Tokens learned from in one pass over the trees."""
        raise NotImplementedError

    @property
    def sizes(self) -> Sequence[Sequence[float]]:
        """Tokens learned from on each path of each tree."""
        raise NotImplementedError

    def require_some(self, part: str) -> None:
        """Raise `DataError` where there were examples and none of them fits."""
        if self.lengths and not self.kept:
            raise DataError(
                f"none of the {len(self.lengths)} {part} examples fits into "
                f"{self.max_length} tokens; the shortest has {min(map(sum, self.lengths))}",
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
class Encoded(Fitted):
    """The trees of a set of examples; `trees[i]` is `examples[i]`."""

    trees: list[Tree] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)

    @property
    def kept(self) -> int:
        return len(self.trees)

    @property
    def tokens(self) -> int:
        return sum(map(len, self.trees))

    @property
    def scored(self) -> float:
        return sum(tree.scored for tree in self.trees)

    @property
    def sizes(self) -> Sequence[Sequence[float]]:
        return [tree.sizes.tolist() for tree in self.trees]


def encode(
    examples: Sequence[Example],
    template: ChatRenderer,
    *,
    max_length: int,
    overlong: Overlong = "drop",
    advance: Callable[[int], None] = lambda n: None,
) -> Encoded:
    """Render, tokenise and fit; `advance(n)` is called for every n examples done."""
    encoded = Encoded(max_length=max_length)
    for number, example in enumerate(examples, 1):
        rendered = [template.rendered(one) for one in sides(example)]
        paths = [one.path for one in rendered]
        for note in dict.fromkeys(note for one in rendered for note in one.notes):
            encoded.notes.setdefault(note, []).append(example.where)
        scored = int(sum(path.scored for path in paths))
        prompt = paths[0].length - int(paths[0].scored)
        encoded.lengths.append((prompt, scored))
        for fitted in _fitting(encoded, paths, example, overlong):
            encoded.trees.append(_tree(fitted, example))
            encoded.examples.append(example)
        if number % CHUNK == 0:
            advance(CHUNK)
    advance(len(examples) % CHUNK)
    return encoded


def sides(example: Example) -> list[Example]:
    """The example, and the same with its rejected answer, or another's, where there is one."""
    if example.rejected is not None:
        return [example, example.with_rejected()]
    return [example] if example.other is None else [example, example.answered(example.other)]


def _tree(paths: list[Path], example: Example) -> Tree:
    """One tree of all paths; of a graded answer its own alone, with the other's beside it."""
    if example.desirable is None or example.other is None:
        return Tree.of(paths)
    own, other = (Tree.of([path]) for path in paths)
    return replace(own, grade=1 if example.desirable else -1, other=other)


def _fitting(
    encoded: Encoded, paths: list[Path], example: Example, overlong: Overlong
) -> list[list[Path]]:
    """The paths of each tree that an example becomes: one, none, or one a window of a text."""
    if example.completion_only or paths[0].length <= encoded.max_length:
        fitted = _fit(encoded, paths, example, overlong)
        return [] if fitted is None else [fitted]
    windows = [[window] for window in paths[0].windows(encoded.max_length)]
    encoded.windows[example.where] = len(windows)
    return windows


def _fit(
    encoded: Encoded, paths: list[Path], example: Example, overlong: Overlong
) -> list[Path] | None:
    limit = encoded.max_length
    if all(path.length <= limit for path in paths):
        return paths
    cut = [path.cut(limit) for path in paths]
    hopeless = not all(path.scored for path in cut)
    if overlong == "drop" or hopeless:
        encoded.dropped.append(example.where)
        encoded.prompt_too_long += hopeless
        return None
    encoded.truncated.append(example.where)
    return cut


def _places(where: list[str]) -> str:
    return ", ".join(where[:SHOWN]) + (", …" if len(where) > SHOWN else "")
