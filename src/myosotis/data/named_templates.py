"""Chat templates by name, and those of one's own: `data.template=chatml`, or a Jinja file.

The named ones are data (templates/*.jinja). Two things are settled by the tokenizer that a template
is put on. `end`, what ends a turn: the marker the template is known by, where that is a token of
this model's; else its end of sequence, because a marker that is only letters stops no generation.
And the beginning of sequence: written where the tokenizer puts it before every text, and only
there, so that it is never there twice and stands before what others render with the saved template.

What marks the roles may be letters to a model (`<|im_start|>user`): it learns them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from myosotis.data.sft import Example
from myosotis.data.span_tokenizer import SpanTokenizer
from myosotis.data.template_names import ENDS, check_template, is_file
from myosotis.utils.errors import DataError
from myosotis.utils.read_file import read_text

FALLBACK = "plain"
"""For chats, where a model has no template: it needs no marker that a model might not know."""

LONGEST = 2**20  # bytes of a template; the longest published are 20,000


@dataclass(frozen=True)
class ChosenTemplate:
    """A tokenizer as it is used: with its own chat template, another one, or none.

    `text` is the template that was put in the place of its own (empty: none was), `note` what a
    person should know of it.
    """

    tokenizer: PreTrainedTokenizerBase
    kind: Literal["chat", "none"]
    text: str = ""
    note: str = ""


def choose_template(
    tokenizer: PreTrainedTokenizerBase, template: str, examples: Iterable[Example]
) -> ChosenTemplate:
    """The tokenizer with the template that `data.template` asks for; it is put on the one given.

    A tokenizer without a template of its own gets `FALLBACK` where the examples are chats; a prompt
    and its answer need none. Raises `DataError` where a template needs an end of sequence and there
    is none, and `ConfigError` as `check_template` does.
    """
    check_template(template)
    if template == "none":
        return ChosenTemplate(tokenizer, "none")
    own = bool(getattr(tokenizer, "chat_template", None))
    if template == "chat":
        if own or not any(map(_is_chat, examples)):
            return ChosenTemplate(tokenizer, "chat")
        template, why = FALLBACK, "the tokenizer has no chat template, and the data are chats"
    elif own:
        why = "it takes the place of the model's own chat template"
    else:
        why = "the tokenizer has no chat template of its own"
    if is_file(template):
        text, ends = read_text(Path(template).expanduser(), LONGEST), ""
    else:
        text, ends = _on(tokenizer, template)
    tokenizer.chat_template = text
    note = f"data.template={template}: {why}; it is saved with the update and with exports{ends}"
    return ChosenTemplate(tokenizer, "chat", text, note)


def _is_chat(example: Example) -> bool:
    roles = [message.role for message in example.messages]
    return example.completion_only and (roles != ["user", "assistant"] or bool(example.tools))


def _on(tokenizer: PreTrainedTokenizerBase, name: str) -> tuple[str, str]:
    """A named template as this tokenizer needs it, and what ends a turn if that is not its own."""
    marker, tokens = ENDS[name], SpanTokenizer(tokenizer)
    known = tokens.control.fullmatch(marker) is not None
    eos = tokenizer.eos_token
    if not known and not eos:
        raise DataError(
            f"data.template={name} ends a turn with {marker}, which is no token of this model's, "
            "and the tokenizer has no end of sequence",
        )
    end = repr(marker) if known else "eos_token"
    opening = "{{- bos_token }}" if tokens.mark("a") else ""
    file = resources.files("myosotis.data") / "templates" / f"{name}.jinja"
    text = f"{{%- set end = {end} %}}{opening}{file.read_text('utf-8').rstrip()}"
    return text, "" if known or marker == eos else f"; {eos} ends a turn, not {marker}"
