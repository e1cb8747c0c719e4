"""Pieces of text to token ids: control tokens apart from text, and text that continues a text."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedTokenizerBase

from myosotis.utils.errors import DataError


class SpanTokenizer:
    """Token ids of the pieces a template renders. `control` matches the names of control tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        tokens = _control_tokens(tokenizer)
        longest_first = sorted(tokens, key=lambda name: (-len(name), name))
        self.control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._control_set = set(tokens.values())
        self._control_ids: dict[str, list[int]] = {}
        self._seam = _seam(self._plain)

    def ids(self, text: str, *, verbatim: bool, first: bool) -> list[int]:
        """Ids of a piece of a sequence; `first` when nothing stands before it.

        With `verbatim`, names of control tokens in it are encoded as text. Raises `DataError` when
        the tokenizer cannot do that.
        """
        if not text:
            return []
        if not verbatim and self.control.fullmatch(text):
            if text not in self._control_ids:
                self._control_ids[text] = self._encode(text, verbatim=False, first=first)
            return self._control_ids[text]
        return self._encode(text, verbatim=verbatim, first=first)

    def is_control(self, token: int) -> bool:
        """Whether an id is a control token's."""
        return token in self._control_set

    def mark(self, text: str) -> list[int]:
        """What the tokenizer puts before `text` of its own accord: the beginning of sequence, where
        the text does not begin with it already. Benchmarks are read so, too (`HFLM.tok_encode`).
        """
        bos: Any = self.tokenizer.bos_token_id
        marked: Any = self.tokenizer("a")["input_ids"]
        if bos is None or marked[:1] != [bos]:
            return []
        return [] if text.startswith(str(self.tokenizer.bos_token)) else [bos]

    def opening(self, text: str) -> list[int]:
        """The same before plain text. When that is nothing, and there is no text either, some token
        must be read before the first can be predicted: then it is the one that lm-eval takes
        (`prefix_token_id`).
        """
        bos: Any = self.tokenizer.bos_token_id
        eos: Any = self.tokenizer.eos_token_id
        return self.mark(text) or ([] if text else [eos if bos is None else bos])

    def _encode(self, text: str, *, verbatim: bool, first: bool) -> list[int]:
        name = self.control.search(text) if verbatim else None
        seam = "" if first else self._seam
        ids = (
            self._plain(seam + text, split_special_tokens=True)
            if name
            else self._plain(seam + text)
        )
        if name and not self._control_set.isdisjoint(ids):
            raise DataError(
                f"the tokenizer cannot encode {name[0]!r} as text",
                "take the control token out of the data",
            )
        return ids[len(self._plain(seam)) :] if seam else ids

    def _plain(self, text: str, **options: Any) -> list[int]:
        encoding: Any = self.tokenizer(
            text, add_special_tokens=False, return_attention_mask=False, **options
        )
        return encoding["input_ids"]


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Names and ids. Those of one or two characters are text that was given a second duty: some
    set `pad_token="!"`."""
    ids = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    added = tokenizer.added_tokens_decoder.items()
    ids |= {str(token): number for number, token in added if token.special}
    return {name: number for name, number in ids.items() if len(name) > 2}


def _seam(ids: Callable[[str], list[int]]) -> str:
    """What to put before a text that continues another, and take off its ids again.

    SentencePiece tokenizers open every text with a space; in the middle of a sequence that would
    be a space nobody wrote. Empty for tokenizers that need no help.
    """
    newline = "\n"
    alone, after = ids("a"), ids(newline + "a")
    opening = ids(newline)
    if alone != after[len(opening) :] and after[: len(opening)] == opening:
        return newline
    return ""
