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
`</s>`); not what the template writes after it (ChatML's newline), which opens the next turn. Where
a template ends its answers with no such token: see turns.py. Which answers, or whether prompts as
well, is `TemplateOptions.mask`.

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

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import date
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedTokenizerBase

from myosotis.data.conversation import Message, read_only
from myosotis.data.sft import Example
from myosotis.data.span_tokenizer import Piece, SpanTokenizer
from myosotis.data.spans import Span
from myosotis.data.template_text import LossCheck, TemplateOptions, TemplateText
from myosotis.data.turns import TurnSpans
from myosotis.trees.tree import Path
from myosotis.utils.bounded import TooMuch, together
from myosotis.utils.errors import DataError

NOTHING_THOUGHT = (
    "the chat template puts an empty think block before the answer, which is read and not learned; "
    "data.template_kwargs={enable_thinking: false} lets generation begin behind it, too"
)

MARKED = (
    "the chat template does not write {bos!r}, which the tokenizer puts before every text: it is "
    "read before the conversation, as before the questions of a benchmark"
)


class Draft(NamedTuple):
    """An example as text, before it is tokenised."""

    example: Example
    spans: list[Span]
    notes: list[str]


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
        self.installed = ""  # the template in the place of the tokenizer's own, if it is not that
        if kind == "chat" and self.kind == "none":
            self.note = "the tokenizer has no chat template: prompt + completion + end of sequence"
        self._eos = str(tokenizer.eos_token) if tokenizer.eos_token_id is not None else ""
        if self.kind == "none" and not self._eos:
            raise DataError("the tokenizer has no chat template and no end-of-sequence token")
        self.options = options or TemplateOptions()
        text = TemplateText(tokenizer, self.options.kwargs)
        self._losses = LossCheck(text if self.kind == "chat" else None)
        self._tokens = SpanTokenizer(tokenizer)
        bos = str(tokenizer.bos_token or "")
        self._turns = TurnSpans(text, self.options, self._tokens.control, bos=bos, eos=self._eos)

    # Ids.

    def render(self, example: Example) -> Path:
        """Ids and weights of a whole example. Raises `DataError` when the template cannot."""
        return self.rendered(example).path

    def rendered(self, example: Example) -> Rendered:
        """A whole example, and what of it the template leaves out.

        Raises `DataError` when the template cannot, or loses what was to be learned.
        """
        return self.rendered_all([example])[0]

    def rendered_all(self, examples: Sequence[Example]) -> list[Rendered]:
        """Many examples, tokenised together. Raises `DataError` where one cannot be rendered: of
        several it may not be the first, and of one that takes too long not say so."""
        drafts = self._drafts(examples)
        paths = self._encoded([draft.spans for draft in drafts])
        return [self.finished(*both) for both in zip(drafts, paths, strict=True)]

    def _drafts(self, examples: Sequence[Example]) -> list[Draft]:
        if len(examples) > 1:
            with suppress(TooMuch):
                return together(lambda: [self.draft(example) for example in examples])
        return [self.draft(example) for example in examples]

    def draft(self, example: Example) -> Draft:
        """The text of an example. Raises `DataError`."""
        spans = self.spans(example)
        messages, _ = self.options.prepared(example.messages)
        every = self.options.mask == "full"
        scored = [
            (message.scored and (every or message.role == "assistant"))
            or not example.completion_only
            for message in messages
        ]
        notes = self.notes(messages, scored, spans, example.where, example.tools)
        if any(not span.scored and span.lead for span in spans):
            notes.append(NOTHING_THOUGHT)
        return Draft(example, spans, notes)

    def finished(self, draft: Draft, path: Path) -> Rendered:
        """An example of whose text the tokens are known. Raises `DataError`."""
        if not any(path.weights):
            raise DataError(
                f"{draft.example.where}: data.mask={self.options.mask} and "
                f"data.reasoning={self.options.reasoning} leave nothing of it to be learned",
                "data.mask=answers learns every answer; or take the record out",
            )
        return Rendered(path, draft.notes)

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
        return self._encoded([spans])[0]

    def _encoded(self, every: Sequence[Sequence[Span]]) -> list[Path]:
        """The same of many sequences."""
        pieces: list[Piece] = []
        for spans in every:
            first = True
            for span in spans:
                pieces.append(Piece(span.text, span.verbatim, first))
                first = first and not span.text
        known = iter(self._tokens.ids_of(pieces))
        begin = self._tokens.opening if self.kind == "none" else self._tokens.mark
        paths = []
        for spans in every:
            ids = list(begin(spans[0].text))
            weights = [0.0] * len(ids)
            for span, new in zip(spans, known, strict=False):
                ids += new
                weights += [float(span.scored)] * len(new)
            if weights:
                weights[0] = 0.0  # nothing predicts it
            paths.append(Path(ids, weights))
        return paths

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

    def of_answers(self) -> ChatRenderer:
        """The renderer of the same conversations that scores answers alone: quality is theirs,
        whatever is learned beside them."""
        if self.options.mask != "full":
            return self
        options = replace(self.options, mask="answers")
        renderer = ChatRenderer(self.tokenizer, self.kind, options)
        renderer.note, renderer.installed = self.note, self.installed
        return renderer

    def identity(self) -> dict[str, Any] | None:
        """What else than an example its tokens depend on, as plain data; None where that is not
        known (a tokenizer written in Python)."""
        tokenizer = self._tokens.identity()
        if tokenizer is None:
            return None
        template = self.tokenizer.chat_template if self.kind == "chat" else None
        dated = "strftime_now" in str(template)  # such a template writes the day it is used on
        return {
            "renderer": type(self).__name__,
            "options": asdict(self.options),
            "template": template,
            "date": date.today().isoformat() if dated else None,
            "tokenizer": tokenizer,
        }

    def idle_switches(self) -> str:
        """A sentence on the switches of `options.kwargs` that nothing reads; empty for none."""
        text = str(self.tokenizer.chat_template) if self.kind == "chat" else ""
        idle = [
            name for name in self.options.kwargs if not re.search(rf"\b{re.escape(name)}\b", text)
        ]
        names = ", ".join(idle)
        return f"data.template_kwargs: the template has no switch {names}" if idle else ""

    def end_ids(self) -> list[int]:
        """The control tokens that end an answer; none where the template refuses such a chat."""
        asked = Message("user", "a"), Message("assistant", "b")
        try:
            last = self.spans(Example(asked, "a question"))[-1]
        except DataError:
            return []
        ids = self._tokens.ids(last.text, verbatim=False, first=False)
        return [token for token in ids if self.is_control(token)]

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
            spans = self._turns.of(messages, example.where, example.tools, answered=read)
        if example.completion_only:
            return spans
        return [span._replace(scored=True) for span in spans]

    def prompt_spans(self, messages: Sequence[Message], tools: str = "") -> list[Span]:
        """The rendered text up to and including the generation prompt, in pieces."""
        messages, read = self.options.prepared(messages)
        if self.options.mask == "last":  # as in the whole example: the last answer is not here
            messages = read_only(messages)
        if self.kind == "none":
            return self._plain((*messages, Message("assistant", "")), "this prompt")[:1]
        return self._turns.of(messages, "this prompt", tools, answered=read, generation=True)

    def _plain(self, messages: Sequence[Message], where: str) -> list[Span]:
        if len(messages) != 2:
            raise DataError(
                f"{where}: without a chat template an example is one prompt and one completion; "
                f"this is a chat of {len(messages)} messages",
                "a model with a chat template (and data.template=chat) can read it",
            )
        prompt, answer = messages
        return [
            Span(prompt.content, self.options.mask == "full" and prompt.scored, True),
            Span(answer.content, True, True),
            Span(self._eos, True, False),
        ]
