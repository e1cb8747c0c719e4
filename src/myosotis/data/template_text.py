"""What a chat template makes of a conversation, as text; and what of the conversation is not in it.

A template may drop a role, cut a message at `</think>`, forget a system turn, or know nothing of
tools, all without a word. So every piece of a conversation is looked for in what was rendered, and
twice: a placeholder in its place must come out (a short text may be there by chance), and its own
text must, white space aside. What would have been scored and is lost is refused; what would have
been read and is lost is noted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from myosotis.data.conversation import Message
from myosotis.utils.bounded import rendered, why
from myosotis.utils.errors import ConfigError, DataError

# Stands for a message's text when the template is asked what it writes around it. Private-use
# characters: no tokenizer gives them a meaning and no template trims them.
PLACE = "\ue0f0{}\ue0f1"
EMPTY_THINK = re.compile(r"<think>\s*</think>\s*")
_THOUGHT = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
_OTHER_TEMPLATE = (
    "a chat template that writes them (data.template=chatml does), or data without them"
)

Reasoning = Literal["keep", "drop", "last"]
Mask = Literal["answers", "last", "full"]


@dataclass(frozen=True)
class TemplateOptions:
    """How a chat template is used.

    `reasoning`: keep it in every turn, drop it, or last: it stays behind the user's last turn, and
    what was answered before that is read only. `kwargs` are the template's own
    (`enable_thinking`). With `score_empty_think` an empty think block that the template puts before
    an answer is learned; otherwise it is read. `mask`: what is learned of a conversation, its
    answers, the last of them, or all text; turns that the record says are only read never are.
    """

    reasoning: Reasoning = "keep"
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    score_empty_think: bool = False
    mask: Mask = "answers"

    def __post_init__(self) -> None:
        if self.reasoning not in ("keep", "drop", "last"):
            raise ConfigError(f"data.reasoning={self.reasoning}", "it is keep, drop or last")
        if self.mask not in ("answers", "last", "full"):
            raise ConfigError(f"data.mask={self.mask}", "it is answers, last or full")

    def prepared(self, messages: Sequence[Message]) -> tuple[list[Message], int]:
        """The turns as they go to the template, with what is to be learned of them; and how many
        of them are read in one piece."""
        if self.mask == "last":
            answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
            messages = [
                replace(message, scored=message.scored and i in answers[-1:])
                for i, message in enumerate(messages)
            ]
        if self.reasoning == "keep":
            return list(messages), 0
        if self.reasoning == "drop":
            return [_without_reasoning(message) for message in messages], 0
        asked = max((i for i, message in enumerate(messages) if message.role == "user"), default=0)
        earlier = [replace(_without_reasoning(m), scored=False) for m in messages[:asked]]
        return [*earlier, *messages[asked:]], asked


def _without_reasoning(message: Message) -> Message:
    if message.role != "assistant":
        return message
    return replace(message, reasoning="", content=_THOUGHT.sub("", message.content, count=1))


@dataclass(frozen=True)
class TemplateText:
    """The text of conversations by a tokenizer's own template."""

    tokenizer: PreTrainedTokenizerBase
    kwargs: Mapping[str, Any]

    def __call__(
        self,
        messages: Sequence[Message],
        where: str,
        *,
        tools: str = "",
        generation: bool = False,
    ) -> str:
        """Raises `DataError` when the template refuses the conversation, or fails on it."""
        render = partial(
            self.tokenizer.apply_chat_template,
            [_turn(message) for message in messages],
            tools=json.loads(tools) if tools else None,
            tokenize=False,
            add_generation_prompt=generation,
            **self.kwargs,
        )
        try:
            return str(rendered(render))
        except TemplateError as error:
            raise DataError(
                f"{where}: the model's chat template refuses this conversation: {error.message}"
            ) from None
        except Exception as error:  # noqa: BLE001 - a template is a program of its own
            raise DataError(
                f"{where}: the model's chat template cannot be used: {why(error)[:200]}",
                "data.template=none does without it",
            ) from None


def _turn(message: Message) -> dict[str, Any]:
    """A turn as templates expect it; reasoning under both names that are in use."""
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        turn |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}
    if message.calls:
        turn["tool_calls"] = json.loads(message.calls)
    if message.name:
        turn["name"] = message.name
    if message.call_id:
        turn["tool_call_id"] = message.call_id
    return turn


class LossCheck:
    """Finds what a template leaves out. `render` is None where texts are only put together."""

    def __init__(self, render: TemplateText | None) -> None:
        self._render = render
        self._who = "data.template=none" if render is None else "the chat template"
        self._outlines: dict[tuple[Any, ...], str] = {}

    def notes(
        self,
        messages: Sequence[Message],
        scored: Sequence[bool],
        text: str,
        where: str,
        tools: str = "",
    ) -> list[str]:
        """What is read and not in `text`, a sentence each.

        Raises `DataError` when a turn of which `scored` is true is not all there; who said it (a
        name) is no part of what is learned.
        """
        lost = list(self._lost(messages, text, where, tools))
        for number, what in lost:
            if number is not None and scored[number] and what != "name":
                raise _refusal(self._who, what, messages[number], where)
        notes = []
        for number, what in lost:
            of = "" if number is None else f" of the {messages[number].role}'s turn"
            notes.append(f"{self._who} leaves out the {what}{of}")
        return list(dict.fromkeys(notes))

    def _lost(
        self, messages: Sequence[Message], text: str, where: str, tools: str
    ) -> Iterator[tuple[int | None, str]]:
        """Which turn (None: none) lost what."""
        outline, squeezed = self._outline(messages, where, tools), _squeezed(text)
        for i, message in enumerate(messages):
            for what, piece in _pieces(message):
                gone = outline is not None and PLACE.format(f"{what}{i}") not in outline
                if gone or _squeezed(piece) not in squeezed:
                    yield i, what
            if message.calls and not self._has_calls(messages, i, squeezed, where, tools):
                yield i, "tool calls"
        if tools and not self._differs(messages, messages, where, tools, ""):
            yield None, "tools"

    def _outline(self, messages: Sequence[Message], where: str, tools: str) -> str | None:
        if self._render is None:
            return None
        shape = tuple(
            (m.role, *(what for what, _ in _pieces(m)), m.calls, bool(m.call_id)) for m in messages
        )
        plain = not tools and not any(message.calls for message in messages)
        if plain and shape in self._outlines:
            return self._outlines[shape]
        outline = self._render(
            [_standing_in(m, i) for i, m in enumerate(messages)], where, tools=tools
        )
        if plain:
            self._outlines[shape] = outline
        return outline

    def _has_calls(
        self, messages: Sequence[Message], i: int, squeezed: str, where: str, tools: str
    ) -> bool:
        silent = [*messages[:i], replace(messages[i], calls=""), *messages[i + 1 :]]
        if not self._differs(messages, silent, where, tools, tools):
            return False
        leaves = _leaves([call["function"] for call in json.loads(messages[i].calls)])
        return all(any(_squeezed(v) in squeezed for v in spelled) for spelled in leaves)

    def _differs(
        self,
        these: Sequence[Message],
        those: Sequence[Message],
        where: str,
        tools: str,
        others: str,
    ) -> bool:
        if self._render is None:
            return False
        return self._render(these, where, tools=tools) != self._render(those, where, tools=others)


def _pieces(message: Message) -> list[tuple[str, str]]:
    pieces = ("text", message.content), ("reasoning", message.reasoning), ("name", message.name)
    return [(what, piece) for what, piece in pieces if piece.strip()]


def _standing_in(message: Message, i: int) -> Message:
    places = {what: PLACE.format(f"{what}{i}") for what, _ in _pieces(message)}
    return replace(
        message,
        content=places.get("text", message.content),
        reasoning=places.get("reasoning", message.reasoning),
        name=places.get("name", message.name),
    )


def _leaves(value: Any) -> Iterator[tuple[str, ...]]:
    """The names and values in a call, each in every way in which a template may spell it."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one)
            if key not in ("name", "arguments"):
                yield (key,)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    else:
        spelled = [json.dumps(value, ensure_ascii=ascii) for ascii in (True, False)]
        plain = [text[1:-1] for text in spelled] if isinstance(value, str) else []
        yield str(value), *spelled, *plain


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _refusal(who: str, what: str, message: Message, where: str) -> DataError:
    if what == "reasoning" or (what == "text" and "</think>" in message.content):
        hint = (
            "data.reasoning=drop learns the answers without it; a model whose chat template keeps "
            "the reasoning learns both"
        )
        what = "reasoning"
    else:
        hint = _OTHER_TEMPLATE if what == "tool calls" else "data.template=none, or another model"
    return DataError(
        f"{where}: {who} leaves out the {what} of the {message.role}'s turn, which was "
        "to be learned",
        hint,
    )
