"""The turns of a conversation as a chat template writes them, in pieces: which of them are scored,
and where an answer begins and ends.

An answer ends with the control token that the template writes behind it. Where it writes none, the
one that opens the next turn is the end (GLM's `<|user|>`, on which its models stop), and is scored
as such; after the last answer, the one that a next question would open with. Where no control token
stands between turns at all, the last answer ends with the end of sequence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from myosotis.data.conversation import Message
from myosotis.data.spans import Span, Unstable, aligned, last_end, rewritten
from myosotis.data.template_text import EMPTY_THINK, PLACE, TemplateOptions, TemplateText
from myosotis.utils.errors import DataError


class TurnSpans:
    """Spans of conversations by a chat template.

    `control` matches the names of control tokens, `bos` is one that opens texts and ends none;
    `eos` ends an answer where the template does not.
    """

    def __init__(
        self,
        text: TemplateText,
        options: TemplateOptions,
        control: re.Pattern[str],
        *,
        bos: str,
        eos: str,
    ) -> None:
        self.text = text
        self.options = options
        self._control = control
        self._bos, self._eos = bos, eos
        self._opener = re.compile(rf"(\s*)({control.pattern})")
        self._frames: dict[tuple[str, ...], tuple[str, str]] = {}  # by roles

    def of(
        self,
        messages: Sequence[Message],
        where: str,
        tools: str,
        *,
        answered: int,
        generation: bool = False,
    ) -> list[Span]:
        """The spans of a conversation, of which the first `answered` turns are read only.

        Where the template rewrites turns when the conversation goes on, those before the first
        scored answer are read in one piece, as it writes them in the end.
        """
        self._check_extras(messages, tools, where)
        scored = (i for i, m in enumerate(messages) if m.role == "assistant" and m.scored)
        first = next(scored, len(messages) if generation else answered)
        try:
            return self._turns(messages, where, tools, answered, generation)
        except Unstable:
            if first <= answered:
                raise
            return self._turns(messages, where, tools, first, generation)

    def _turns(
        self,
        messages: Sequence[Message],
        where: str,
        tools: str,
        answered: int,
        generation: bool,
    ) -> list[Span]:
        spans: list[Span] = []
        done, read = "", 0  # text and messages dealt with
        open_answer: Message | None = None  # the one before, if nothing of its own ended it
        for i, message in enumerate(messages):
            if message.role != "assistant" or i < answered:
                continue
            before = self.text(messages[:i], where, tools=tools, generation=True)
            through = self.text(messages[: i + 1], where, tools=tools)
            if not before.startswith(done) or not through.startswith(before):
                raise Unstable(where)
            reading = self._reading(messages[:i], read, before, done, where, tools)
            spans += self._closed(reading, open_answer)
            answer = self._answer(messages[: i + 1], through[len(before) :], where, tools)
            spans += answer
            open_answer = None if answer[-1].text else message
            done, read = before + "".join(span.text for span in answer), i + 1
        if generation:
            before = self.text(messages, where, tools=tools, generation=True)
            if not before.startswith(done):
                raise Unstable(where)
            reading = self._reading(messages, read, before, done, where, tools)
            return spans + self._closed(reading, open_answer)
        if open_answer is not None:
            spans += self._ending(messages, done, where, tools)
        return [span for span in spans if span.text]

    def _closed(self, reading: list[Span], answer: Message | None) -> list[Span]:
        """What is read after `answer`, which nothing of its own ended: where it begins with a
        control token, that is the end."""
        first, *rest = reading
        end = self._opener.match(first.text)
        if answer is None or end is None or end[2] == self._bos or first.verbatim:
            return reading
        after = first._replace(text=first.text[end.end() :])
        return [*self._stop(end, answer), after, *rest]

    def _ending(self, messages: Sequence[Message], done: str, where: str, tools: str) -> list[Span]:
        """The end of the last answer, which the template does not write: what a next question would
        open with, or the end of sequence."""
        place = PLACE.format(0)
        try:
            asked = self.text([*messages, Message("user", place)], where, tools=tools)
        except DataError:
            asked = ""
        opening = asked.removeprefix(done) if asked.startswith(done) else ""
        end = self._opener.match(opening.partition(place)[0])
        if end is None or end[2] == self._bos:
            return [Span(self._eos, messages[-1].scored, False)]
        return self._stop(end, messages[-1])

    @staticmethod
    def _stop(end: re.Match[str], answer: Message) -> list[Span]:
        return [Span(end[1], answer.scored, False), Span(end[2], answer.scored, False)]

    def _check_extras(self, messages: Sequence[Message], tools: str, where: str) -> None:
        """What goes to the template beside text must name no control token: it could not be told
        from the template's own."""
        extras = [extra for message in messages for extra in message.extras()]
        if name := self._control.search("\n".join([*extras, tools])):
            raise DataError(
                f"{where}: the control token {name[0]!r} is named in reasoning, a call or a tool",
                "take the control token out of the data",
            )

    def _reading(
        self, messages: Sequence[Message], read: int, before: str, done: str, where: str, tools: str
    ) -> list[Span]:
        """What is read between two answers: `before` without its start `done`, made of what the
        template writes around the messages from `read` on. Of a mask of all text it is scored, too,
        unless one of the messages is only to be read."""
        text = before[len(done) :]
        scored = self.options.mask == "full" and all(m.scored for m in messages[read:])
        if not any(self._control.search(message.content) for message in messages[read:]):
            return [Span(text, scored, False)]
        # Some message names a control token. What the template writes must be told from what it
        # was given, so it is asked again with placeholders for the messages.
        places = [PLACE.format(i) for i in range(len(messages) - read)]
        standing_in = [
            replace(message, content=place)
            for message, place in zip(messages[read:], places, strict=True)
        ]
        outline = self.text([*messages[:read], *standing_in], where, tools=tools, generation=True)
        contents = [message.content for message in messages[read:]]
        spans = aligned(outline[len(done) :], places, contents, text)
        if spans is None or not outline.startswith(done):
            raise rewritten(where)
        return [span._replace(scored=scored) for span in spans]

    def _answer(self, messages: Sequence[Message], text: str, where: str, tools: str) -> list[Span]:
        """An answer as the template writes it, up to and including the end of the turn."""
        message = messages[-1]
        scored = message.scored
        lead, tail = self._frame(messages, where, tools)
        if message.calls and not text.endswith(tail):
            ends = list(self._control.finditer(text))  # some templates end a call with its own
            tail = text[ends[-1].start() :] if ends else ""
        if not text.endswith(tail):
            raise Unstable(where)
        text = text.removesuffix(tail)
        # Qwen3 opens an answer with an empty <think> block unless the answer brings its own.
        opened = text.startswith(lead)
        opening = last_end(self._control, lead) if opened else 0
        empty = EMPTY_THINK.search(lead) if opened and not self.options.score_empty_think else None
        if empty:
            opening = max(opening, empty.end())
        end = self._control.search(tail)
        # Without a control token in it, what follows the answer opens the next turn.
        closing, stop = (tail[: end.start()], end.group()) if end else ("", "")
        body = text[opening:] + closing
        # The template writes control tokens around a call or a thought; a message's own are text.
        verbatim = not (message.reasoning or message.calls)
        if not verbatim and self._control.search(message.content):
            raise rewritten(where)
        return [
            Span(text[:opening], scored and not empty, False, lead=scored and empty is not None),
            Span(body, scored, verbatim),
            Span(stop, scored, False),
        ]

    def _frame(self, messages: Sequence[Message], where: str, tools: str) -> tuple[str, str]:
        """What the template writes before and after an answer, beyond the generation prompt."""
        roles = tuple(message.role for message in messages)
        plain = not tools and all(message.is_plain for message in messages[:-1])
        if plain and roles in self._frames:
            return self._frames[roles]
        place = PLACE.format(0)
        history = [replace(message, content="-") for message in messages[:-1]]
        before = self.text(history, where, tools=tools, generation=True)
        through = self.text([*history, Message(roles[-1], place)], where, tools=tools)
        lead, marker, tail = through.removeprefix(before).partition(place)
        if not marker:
            raise Unstable(where)
        if plain:
            self._frames[roles] = lead, tail
        return lead, tail
