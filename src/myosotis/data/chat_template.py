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
conversation that has none): training and generation read the same.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from myosotis.data.sft import Example, Message
from myosotis.data.span_tokenizer import SpanTokenizer
from myosotis.trees.tree import Path
from myosotis.utils.errors import DataError

# Stands for a message's text when the template is asked what it writes around it. Private-use
# characters: no tokenizer gives them a meaning and no template trims them.
_PLACE = "\ue0f0{}\ue0f1"
_ONE_ANSWER = "train on one answer a record, or use data.template=none"


class Span(NamedTuple):
    """A piece of rendered text that is tokenised on its own."""

    text: str
    scored: bool
    verbatim: bool  # a name of a control token in it is text


class ChatRenderer:
    """Renders conversations for one tokenizer.

    `kind` is what is used ("chat" or "none"); `note` says why, when that is not what was asked for.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, kind: Literal["chat", "none"] = "chat"
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
        self._tokens = SpanTokenizer(tokenizer)
        self._control = self._tokens.control
        self._frames: dict[tuple[str, ...], tuple[str, str]] = {}

    # Ids.

    def render(self, example: Example) -> Path:
        """Ids and weights of a whole example. Raises `DataError` when the template cannot."""
        return self.encode(self.spans(example))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids up to and including the generation prompt: what `render`'s ids start with.

        `messages` are those before the wanted answer; earlier answers may be among them.
        """
        return list(self.encode(self.prompt_spans(messages)).ids)

    def encode(self, spans: Sequence[Span]) -> Path:
        """Ids and weights of spans in their order; the first token is never scored."""
        ids = self._tokens.opening(bool(spans[0].text)) if self.kind == "none" else []
        weights = [0.0] * len(ids)
        for span in spans:
            new = self._tokens.ids(span.text, verbatim=span.verbatim, first=not ids)
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
        if self.kind == "none":
            spans = self._plain(example.messages, example.where)
        else:
            spans = self._chat(example.messages, example.where)
        if example.completion_only:
            return spans
        return [span._replace(scored=True) for span in spans]

    def prompt_spans(self, messages: Sequence[Message]) -> list[Span]:
        """The rendered text up to and including the generation prompt, in pieces."""
        if self.kind == "none":
            return self._plain((*messages, Message("assistant", "")), "this prompt")[:1]
        return self._chat(messages, "this prompt", generation=True)

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
        self, messages: Sequence[Message], where: str, *, generation: bool = False
    ) -> list[Span]:
        spans: list[Span] = []
        done, read = "", 0  # text and messages dealt with
        for i, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self._rendering(messages[:i], where, generation=True)
            through = self._rendering(messages[: i + 1], where)
            if not before.startswith(done) or not through.startswith(before):
                raise _unstable(where)
            spans += self._reading(messages[:i], read, before, done, where)
            answer = self._answer(messages[: i + 1], through[len(before) :], where)
            spans += answer
            done, read = before + "".join(span.text for span in answer), i + 1
        if generation:
            before = self._rendering(messages, where, generation=True)
            if not before.startswith(done):
                raise _unstable(where)
            return spans + self._reading(messages, read, before, done, where)
        if not self._control.fullmatch(spans[-1].text):
            spans.append(Span(self._eos, messages[-1].scored, False))
        return [span for span in spans if span.text]

    def _reading(
        self, messages: Sequence[Message], read: int, before: str, done: str, where: str
    ) -> list[Span]:
        """What is read between two answers: `before` without its start `done`, made of what the
        template writes around the messages from `read` on."""
        text = before[len(done) :]
        if not any(self._control.search(message.content) for message in messages[read:]):
            return [Span(text, False, False)]
        # Some message names a control token. What the template writes must be told from what it
        # was given, so it is asked again with placeholders for the messages.
        places = [_PLACE.format(i) for i in range(len(messages) - read)]
        standing_in = [
            replace(message, content=place)
            for message, place in zip(messages[read:], places, strict=True)
        ]
        outline = self._rendering([*messages[:read], *standing_in], where, generation=True)
        contents = [message.content for message in messages[read:]]
        spans = _align(outline[len(done) :], places, contents, text)
        if spans is None or not outline.startswith(done):
            raise DataError(
                f"{where}: a message names a control token, and the chat template rewrites the "
                "message so that it cannot be told from the template's own",
                "take the control token out of the data",
            )
        return spans

    def _answer(self, messages: Sequence[Message], text: str, where: str) -> list[Span]:
        """An answer as the template writes it, up to and including the end of the turn."""
        scored = messages[-1].scored
        lead, tail = self._frame(tuple(message.role for message in messages), where)
        if not text.endswith(tail):
            raise _unstable(where)
        text = text.removesuffix(tail)
        # Qwen3 opens an answer with an empty <think> block unless the answer brings its own.
        opening = _last_end(self._control, lead) if text.startswith(lead) else 0
        end = self._control.search(tail)
        # Without a control token in it, what follows the answer opens the next turn.
        closing, stop = (tail[: end.start()], end.group()) if end else ("", "")
        return [
            Span(text[:opening], scored, False),
            Span(text[opening:] + closing, scored, True),
            Span(stop, scored, False),
        ]

    def _frame(self, roles: tuple[str, ...], where: str) -> tuple[str, str]:
        """What the template writes before and after an answer, beyond the generation prompt."""
        if roles not in self._frames:
            place = _PLACE.format(0)
            history = [Message(role, "-") for role in roles[:-1]]
            before = self._rendering(history, where, generation=True)
            through = self._rendering([*history, Message(roles[-1], place)], where)
            lead, marker, tail = through.removeprefix(before).partition(place)
            if not marker:
                raise _unstable(where)
            self._frames[roles] = lead, tail
        return self._frames[roles]

    def _rendering(
        self, messages: Sequence[Message], where: str, *, generation: bool = False
    ) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=generation
            )
        except TemplateError as error:
            raise DataError(
                f"{where}: the model's chat template refuses this conversation: {error.message}"
            ) from None
        return str(text)


def _unstable(where: str) -> DataError:
    return DataError(
        f"{where}: the chat template rewrites what it wrote before when the conversation goes on, "
        "so the tokens of this answer in training would not be those of generation",
        _ONE_ANSWER,
    )


def _align(outline: str, places: list[str], contents: list[str], text: str) -> list[Span] | None:
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


def _last_end(pattern: re.Pattern[str], text: str) -> int:
    return max((match.end() for match in pattern.finditer(text)), default=0)
