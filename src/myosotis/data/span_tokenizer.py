"""Pieces of text to token ids: control tokens apart from text, and text that continues a text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from myosotis.utils.errors import DataError


class Piece(NamedTuple):
    """A piece of a sequence, tokenised on its own; see `SpanTokenizer.ids`."""

    text: str
    verbatim: bool
    first: bool


class SpanTokenizer:
    """Token ids of the pieces a template renders. `control` matches the names of control tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        tokens = _control_tokens(tokenizer)
        longest_first = sorted(tokens, key=lambda name: (-len(name), name))
        self.control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._control_set = set(tokens.values())
        self._control_ids: dict[str, list[int]] = {}
        self._seam = _seam(lambda text: self._plain([text])[0])

    def ids(self, text: str, *, verbatim: bool, first: bool) -> list[int]:
        """Ids of a piece of a sequence; `first` when nothing stands before it.

        With `verbatim`, names of control tokens in it are encoded as text. Raises `DataError` when
        the tokenizer cannot do that.
        """
        return self.ids_of([Piece(text, verbatim, first)])[0]

    def ids_of(self, pieces: Sequence[Piece]) -> list[list[int]]:
        """The ids of each of many pieces, with two calls of the tokenizer at most; what is equal is
        tokenised once. The lists are not to be changed. Raises `DataError` as `ids` does."""
        found: dict[Piece, list[int]] = {}
        plain, split = list[Piece](), list[Piece]()  # of `split`, names of control tokens are text
        controls: dict[str, Piece] = {}  # those of `plain` that are a control token each
        for piece in dict.fromkeys(pieces):
            if not piece.text:
                found[piece] = []
            elif piece.verbatim and self.control.search(piece.text):
                split.append(piece)
            elif piece.verbatim or not self.control.fullmatch(piece.text):
                plain.append(piece)
            elif piece.text not in self._control_ids and piece.text not in controls:
                controls[piece.text] = piece
                plain.append(piece)
        found |= zip(plain, self._encoded(plain), strict=True)
        found |= zip(split, self._as_text(split), strict=True)
        self._control_ids |= {text: found[piece] for text, piece in controls.items()}
        return [found[one] if one in found else self._control_ids[one.text] for one in pieces]

    def identity(self) -> str | None:
        """A hash of all that the ids depend on; None for a tokenizer that is a program."""
        if not isinstance(self.tokenizer, PreTrainedTokenizerFast):
            return None
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()  # as each call of the tokenizer leaves it
        backend.no_padding()
        about = [backend.to_str(), type(self.tokenizer).__name__, self.tokenizer.special_tokens_map]
        about += [self.tokenizer.split_special_tokens, self.control.pattern, self._seam]
        return hashlib.sha256(repr(about).encode("utf-8", "surrogatepass")).hexdigest()

    def is_control(self, token: int) -> bool:
        """Whether an id is a control token's."""
        return token in self._control_set

    def mark(self, text: str) -> list[int]:
        """What the tokenizer puts before `text` of its own accord: the beginning of sequence, where
        the text does not begin with it already. Benchmarks are read so, too (`HFLM.tok_encode`).
        """
        bos: Any = self.tokenizer.bos_token_id
        if bos is None or not self._opens:
            return []
        return [] if text.startswith(str(self.tokenizer.bos_token)) else [bos]

    @cached_property
    def _opens(self) -> bool:
        """Whether the tokenizer puts a beginning of sequence before a text."""
        marked: Any = self.tokenizer("a")["input_ids"]
        return marked[:1] == [self.tokenizer.bos_token_id]

    def opening(self, text: str) -> list[int]:
        """The same before plain text. When that is nothing, and there is no text either, some token
        must be read before the first can be predicted: then it is the one that lm-eval takes
        (`prefix_token_id`).
        """
        bos: Any = self.tokenizer.bos_token_id
        eos: Any = self.tokenizer.eos_token_id
        return self.mark(text) or ([] if text else [eos if bos is None else bos])

    def _as_text(self, pieces: Sequence[Piece]) -> list[list[int]]:
        encoded = self._encoded(pieces, as_text=True)
        for piece, ids in zip(pieces, encoded, strict=True):
            if not self._control_set.isdisjoint(ids):
                name = self.control.search(piece.text)
                assert name is not None
                raise DataError(
                    f"the tokenizer cannot encode {name[0]!r} as text",
                    "take the control token out of the data",
                )
        return encoded

    def _encoded(self, pieces: Sequence[Piece], *, as_text: bool = False) -> list[list[int]]:
        """What the tokenizer makes of the pieces, without what a seam adds."""
        seams = ["" if piece.first else self._seam for piece in pieces]
        texts = [seam + piece.text for seam, piece in zip(seams, pieces, strict=True)]
        every = self._plain(texts, as_text=as_text)
        long = len(self._plain([self._seam])[0]) if any(seams) else 0
        return [ids[long:] if seam else ids for seam, ids in zip(seams, every, strict=True)]

    def _plain(self, texts: list[str], *, as_text: bool = False) -> list[list[int]]:
        """The ids of texts; `as_text`: names of control tokens in them are text, too."""
        if not texts:
            return []
        backend = self._backend
        if backend is None:
            options: dict[str, Any] = {"split_special_tokens": True} if as_text else {}
            encoding: Any = self.tokenizer(
                texts, add_special_tokens=False, return_attention_mask=False, **options
            )
            return encoding["input_ids"]
        backend.no_truncation()  # as each call of the tokenizer leaves it
        backend.no_padding()
        backend.encode_special_tokens = as_text or self.tokenizer.split_special_tokens
        return [one.ids for one in backend.encode_batch_fast(texts, add_special_tokens=False)]

    @cached_property
    def _backend(self) -> Any:
        """The program behind the tokenizer, where no class in Python changes what a call of it
        encodes: asked itself, it leaves out where each token stands, a quarter of the time."""
        if not isinstance(self.tokenizer, PreTrainedTokenizerFast):
            return None
        own = type(self.tokenizer)
        same = all(getattr(own, n) is getattr(PreTrainedTokenizerFast, n) for n in _CALLED)
        return self.tokenizer.backend_tokenizer if same else None


_CALLED = ("__call__", "_encode_plus", "backend_tokenizer")
"""What a call of a tokenizer runs through."""


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
