"""Conversations to tokens: where the text is rendered, and where the answer mask is made.

A conversation is rendered with the model's own chat template and cut where the template itself says
that an answer starts and ends: the rendering of the messages before an answer (with the generation
prompt) must be a prefix of the rendering that includes it. What lies between is the answer; no
marker is searched for.

**Each span is tokenised on its own.** A model that generates has read the tokens of the prompt,
which end where the prompt ends, and goes on with tokens that begin there. Tokenising prompt and
answer as one string lets a token straddle that seam (a newline ending the one and a newline opening
the other are one token), and trains on a sequence that generation never meets. So the ids of
`render` start with the ids of `prompt`, always.

**What is scored**: the answer and the token that ends the turn (`<|im_end|>`, `<|eot_id|>`,
`</s>`); not what the template writes after it (ChatML's newline), which opens the next turn. A
template that ends its answers with no such token gets the end-of-sequence token after the last one.

**Text is text.** A message that contains `<|im_end|>` means these ten characters. Only the template
writes control tokens; in messages they are encoded as ordinary text (`split_special_tokens`), in
answers too. Otherwise a line of data could end a turn, or open a system turn, in mid-message. (What
a tokenizer declares as added but not special, such as Qwen's `<tool_call>`, remains one token.)

A model without a chat template, or `data.template=none`, reads prompt + completion + end of
sequence. The template's own habits are kept (SmolLM2's puts a default system message before a
conversation that has none): training and generation read the same. Where only the tokenizer puts a
beginning of sequence before a text, it stands before a conversation, too, as in the benchmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from myosotis.data.conversation import Message
from myosotis.data.sft import Example
from myosotis.data.span_tokenizer import SpanTokenizer
from myosotis.data.spans import Span, Unstable, aligned, last_end, rewritten
from myosotis.data.template_text import (
    EMPTY_THINK,
    PLACE,
    LossCheck,
    TemplateOptions,
    TemplateText,
)
from myosotis.trees.tree import Path
from myosotis.utils.errors import DataError

NOTHING_THOUGHT = (
    "the chat template puts an empty think block before the answer, which is read and not learned; "
    "data.template_kwargs={enable_thinking: false} lets generation begin behind it, too"
)

MARKED = (
    "the chat template does not write {bos!r}, which the tokenizer puts before every text: it is "
    "read before the conversation, as before the questions of a benchmark"
)


class Rendered(NamedTuple):
    """A path, and what of the conversation a person may miss in it, a sentence each."""

    path: Path
    notes: list[str]


class ChatRenderer:
    """Renders conversations for one tokenizer.

    `kind` is what is used ("chat" or "none"); `note` says why, when that is not what was asked for.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        kind: Literal["chat", "none"] = "chat",
        options: TemplateOptions | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        has_one = bool(getattr(tokenizer, "chat_template", None))
        self.kind: Literal["chat", "none"] = kind if has_one else "none"
        self.note = ""
        if kind == "chat" and self.kind == "none":
            self.note = "the tokenizer has no chat template: prompt + completion + end of sequence"
        self._eos = str(tokenizer.eos_token) if tokenizer.eos_token_id is not None else ""
        if self.kind == "none" and not self._eos:
            raise DataError("the tokenizer has no chat template and no end-of-sequence token")
        self.options = options or TemplateOptions()
        self._text = TemplateText(tokenizer, self.options.kwargs)
        self._losses = LossCheck(self._text if self.kind == "chat" else None)
        self._tokens = SpanTokenizer(tokenizer)
        self._control = self._tokens.control
        self._frames: dict[tuple[str, ...], tuple[str, str]] = {}  # by roles

    # Ids.

    def render(self, example: Example) -> Path:
        """Ids and weights of a whole example. Raises `DataError` when the template cannot."""
        return self.rendered(example).path

    def rendered(self, example: Example) -> Rendered:
        """A whole example, and what of it the template leaves out.

        Raises `DataError` when the template cannot, or loses what was to be learned.
        """
        spans = self.spans(example)
        messages, read = self.options.prepared(example.messages)
        scored = [
            (message.role == "assistant" and message.scored and i >= read)
            or not example.completion_only
            for i, message in enumerate(messages)
        ]
        notes = self.notes(messages, scored, spans, example.where, example.tools)
        if any(not span.scored and span.lead for span in spans):
            notes.append(NOTHING_THOUGHT)
        return Rendered(self.encode(spans), notes)

    def notes(
        self,
        messages: Sequence[Message],
        scored: Sequence[bool],
        spans: Sequence[Span],
        where: str,
        tools: str,
    ) -> list[str]:
        """What of the turns is not in the spans, and what is read beside them. Raises `DataError`
        where something that was to be learned is lost."""
        text = "".join(span.text for span in spans)
        notes = self._losses.notes(messages, scored, text, where, tools)
        if self.kind == "chat" and self._tokens.mark(text):
            notes.append(MARKED.format(bos=self.tokenizer.bos_token))
        return notes

    def prompt(self, messages: Sequence[Message], tools: str = "") -> list[int]:
        """Ids up to and including the generation prompt: what `render`'s ids start with.

        `messages` are those before the wanted answer; earlier answers may be among them.
        """
        return list(self.encode(self.prompt_spans(messages, tools)).ids)

    def encode(self, spans: Sequence[Span]) -> Path:
        """Ids and weights of spans in their order; the first token is never scored."""
        begin = self._tokens.opening if self.kind == "none" else self._tokens.mark
        ids = begin(spans[0].text)
        weights = [0.0] * len(ids)
        for i, span in enumerate(spans):
            first = not any(before.text for before in spans[:i])
            new = self._tokens.ids(span.text, verbatim=span.verbatim, first=first)
            ids += new
            weights += [float(span.scored)] * len(new)
        if weights:
            weights[0] = 0.0  # nothing predicts it
        return Path(ids, weights)

    def decode(self, ids: Sequence[int], *, control: bool = False) -> str:
        """The text of ids; control tokens are left out, or shown by name."""
        text = self.tokenizer.decode(
            list(ids), skip_special_tokens=not control, clean_up_tokenization_spaces=False
        )
        return str(text)

    def asked(self, path: Path) -> str:
        """What stands for that which is asked for after a path's last token; empty for none."""
        return ""

    def of_text(self) -> ChatRenderer:
        """The renderer of the same conversations that scores their answers token by token."""
        return self

    def is_control(self, token: int) -> bool:
        """Whether an id is a control token's."""
        return self._tokens.is_control(token)

    # Text.

    def spans(self, example: Example) -> list[Span]:
        """The rendered text of an example, in pieces that are scored or read only."""
        messages, read = self.options.prepared(example.messages)
        if self.kind == "none":
            spans = self._plain(messages, example.where)
        else:
            spans = self._chat(messages, example.where, example.tools, answered=read)
        if example.completion_only:
            return spans
        return [span._replace(scored=True) for span in spans]

    def prompt_spans(self, messages: Sequence[Message], tools: str = "") -> list[Span]:
        """The rendered text up to and including the generation prompt, in pieces."""
        messages, read = self.options.prepared(messages)
        if self.kind == "none":
            return self._plain((*messages, Message("assistant", "")), "this prompt")[:1]
        return self._chat(messages, "this prompt", tools, answered=read, generation=True)

    def _plain(self, messages: Sequence[Message], where: str) -> list[Span]:
        if len(messages) != 2:
            raise DataError(
                f"{where}: without a chat template an example is one prompt and one completion; "
                f"this is a chat of {len(messages)} messages",
                "a model with a chat template (and data.template=chat) can read it",
            )
        prompt, answer = messages
        return [
            Span(prompt.content, False, True),
            Span(answer.content, True, True),
            Span(self._eos, True, False),
        ]

    def _chat(
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
        for i, message in enumerate(messages):
            if message.role != "assistant" or i < answered:
                continue
            before = self._text(messages[:i], where, tools=tools, generation=True)
            through = self._text(messages[: i + 1], where, tools=tools)
            if not before.startswith(done) or not through.startswith(before):
                raise Unstable(where)
            spans += self._reading(messages[:i], read, before, done, where, tools)
            answer = self._answer(messages[: i + 1], through[len(before) :], where, tools)
            spans += answer
            done, read = before + "".join(span.text for span in answer), i + 1
        if generation:
            before = self._text(messages, where, tools=tools, generation=True)
            if not before.startswith(done):
                raise Unstable(where)
            return spans + self._reading(messages, read, before, done, where, tools)
        if not self._control.fullmatch(spans[-1].text):
            spans.append(Span(self._eos, messages[-1].scored, False))
        return [span for span in spans if span.text]

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
        template writes around the messages from `read` on."""
        text = before[len(done) :]
        if not any(self._control.search(message.content) for message in messages[read:]):
            return [Span(text, False, False)]
        # Some message names a control token. What the template writes must be told from what it
        # was given, so it is asked again with placeholders for the messages.
        places = [PLACE.format(i) for i in range(len(messages) - read)]
        standing_in = [
            replace(message, content=place)
            for message, place in zip(messages[read:], places, strict=True)
        ]
        outline = self._text([*messages[:read], *standing_in], where, tools=tools, generation=True)
        contents = [message.content for message in messages[read:]]
        spans = aligned(outline[len(done) :], places, contents, text)
        if spans is None or not outline.startswith(done):
            raise rewritten(where)
        return spans

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
        before = self._text(history, where, tools=tools, generation=True)
        through = self._text([*history, Message(roles[-1], place)], where, tools=tools)
        lead, marker, tail = through.removeprefix(before).partition(place)
        if not marker:
            raise Unstable(where)
        if plain:
            self._frames[roles] = lead, tail
        return lead, tail
