"""The pieces in which a conversation is tokenised, and what tells a template's from a message's."""

from __future__ import annotations

import re
from typing import NamedTuple

from myosotis.utils.errors import DataError

_ONE_ANSWER = "train on one answer a record (data.reasoning=last), or use data.template=none"


class Span(NamedTuple):
    """A piece of rendered text that is tokenised on its own."""

    text: str
    scored: bool
    verbatim: bool  # a name of a control token in it is text
    lead: bool = False  # an empty think block that the template put before an answer


def aligned(outline: str, places: list[str], contents: list[str], text: str) -> list[Span] | None:
    """Cut `text` like `outline`, with contents (trimmed, where the template trims) for places."""
    spans: list[Span] = []
    for place, content in zip(places, contents, strict=True):
        literal, marker, outline = outline.partition(place)
        if not marker or not text.startswith(literal):
            return None
        spans.append(Span(literal, False, False))
        text = text.removeprefix(literal)
        following = re.split("\ue0f0", outline, maxsplit=1)[0]
        variants = (content, content.rstrip(), content.lstrip(), content.strip())
        kept = next((v for v in variants if text.startswith(v + following)), None)
        if kept is None:
            return None
        spans.append(Span(kept, False, True))
        text = text.removeprefix(kept)
    return [*spans, Span(outline, False, False)] if text == outline else None


def last_end(pattern: re.Pattern[str], text: str) -> int:
    return max((match.end() for match in pattern.finditer(text)), default=0)


def rewritten(where: str) -> DataError:
    return DataError(
        f"{where}: a message names a control token, and the chat template rewrites the "
        "message so that it cannot be told from the template's own",
        "take the control token out of the data",
    )


class Unstable(DataError):
    """The template writes a turn otherwise once the conversation has gone on."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where}: the chat template rewrites what it wrote before when the conversation goes "
            "on, so the tokens of this answer in training would not be those of generation",
            _ONE_ANSWER,
        )
