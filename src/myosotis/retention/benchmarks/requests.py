"""Requests: text to be scored, as token paths, and paths as trees; prompts to be gone on from.

What belongs here: the rules by which (context, continuation) pairs, whole documents and prompts
become token ids, which are those of lm-eval's `HFLM` to the letter, or published scores could not
be compared; and the grouping of paths that share a token prefix into trees. No benchmark is known
here, and lm-eval is not imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from myosotis.trees.tree import Path, Tree
from myosotis.utils.bounded import rendered, why
from myosotis.utils.errors import ConfigError, DataError

if TYPE_CHECKING:
    from myosotis.trees.scorer import TreeScore

Tokenizer = Any
"""A transformers tokenizer; `PreTrainedTokenizerBase` without importing transformers."""

LOGLIKELIHOOD = "loglikelihood"
ROLLING = "loglikelihood_rolling"
WRITTEN = "generate_until"

LONGEST_ANSWER = 256
"""Tokens of an answer where a task sets no limit, as in `HFLM`."""


class Window(NamedTuple):
    """Tokens that go through the model together; those from `start` on are scored."""

    ids: tuple[int, ...]
    start: int

    def path(self) -> Path:
        return Path(self.ids, [0.0] * self.start + [1.0] * (len(self.ids) - self.start))


class Prompt(NamedTuple):
    """Tokens to go on from, greedily: up to one of the texts `until`, or for `most` tokens."""

    ids: tuple[int, ...]
    until: tuple[str, ...]
    most: int


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of a model: the text as lm-eval rendered it, and its tokens.

    `kind` is `loglikelihood` (text = context, continuation; one window), `loglikelihood_rolling`
    (text = the document; as many windows as its length needs) or `generate_until` (text = context;
    a prompt, and no windows).
    """

    kind: str
    text: tuple[str, ...]
    windows: tuple[Window, ...] = ()
    prompt: Prompt | None = None


class Answer(NamedTuple):
    """The model's answer to a request: nats, and whether greedy decoding would have said so; or
    what it wrote."""

    logp: float
    greedy: bool
    text: str = ""


class Encoder:
    """Text to windows, as `lm_eval.models.huggingface.HFLM` (0.4.13) does it.

    `context_length` is the longest input of the model in tokens; a window may have one more, since
    the last token is only predicted.
    """

    def __init__(self, tokenizer: Tokenizer, context_length: int) -> None:
        self.tokenizer = tokenizer
        self.context_length = context_length
        special: list[int | None] = [tokenizer.bos_token_id, tokenizer.eos_token_id]
        prefixes = [token for token in special if token is not None]
        if not prefixes:
            raise ConfigError(
                "The tokenizer has neither a BOS nor an EOS token, so nothing can stand before "
                "the first token of a text that is scored whole.",
                "Set one of the two in the model's tokenizer_config.json.",
            )
        self.prefix_token = prefixes[0]
        self._prefix_text: str = tokenizer.decode(self.prefix_token)
        self._known: dict[str, list[int]] = {}  # of `ahead`

    def encode(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
        """`HFLM.tok_encode`: special tokens as the tokenizer likes, none after a written BOS."""
        if add_special_tokens is None and text.startswith(self._prefix_text):
            add_special_tokens = False
        if add_special_tokens is None:
            return self._known[text] if text in self._known else self.tokenizer.encode(text)
        return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)

    @contextmanager
    def ahead(self, asked: Iterable[tuple[str, Sequence[Any]]]) -> Iterator[None]:
        """Tokenise what the requests `asked` (kind and text) need in one call, each text once: a
        context is the same for all its choices. Inside, `request` looks it up."""
        texts: dict[str, None] = {}
        for kind, text in asked:
            if kind in (WRITTEN, ROLLING):
                texts[text[0]] = None
            elif text[0]:
                context, continuation = text
                texts |= {context.rstrip(): None, context + continuation: None}
        plain = [text for text in texts if not text.startswith(self._prefix_text)]
        ids = self.tokenizer(plain, return_attention_mask=False)["input_ids"] if plain else []
        self._known = dict(zip(plain, ids, strict=True))
        try:
            yield
        finally:
            self._known = {}

    def request(self, kind: str, text: Sequence[Any]) -> Request:
        """Tokenise one lm-eval request; of `generate_until`, `text` is a context and keywords.

        Raises `DataError` when nothing is left to score, or more than the context can hold, and
        `ConfigError` for an answer that is to be sampled.
        """
        if kind == WRITTEN:
            return Request(kind, (text[0],), prompt=self.prompt(*text))
        if kind == ROLLING:
            return Request(kind, tuple(text), tuple(self.rolling(text[0])))
        context, continuation = text
        return Request(kind, (context, continuation), (self.window(context, continuation),))

    def prompt(self, context: str, keywords: Mapping[str, Any]) -> Prompt:
        """What `HFLM.generate_until` goes on from; a context too long loses its start."""
        if keywords.get("do_sample") or float(keywords.get("temperature") or 0) > 0:
            raise ConfigError(
                "A benchmark whose answers are sampled cannot be compared item by item.",
                "Set do_sample: false and temperature: 0.0 in its task file.",
            )
        until = keywords.get("until") or []
        given = (keywords[name] for name in _MOST if keywords.get(name) is not None)
        most = int(next(given, LONGEST_ANSWER))
        room = self.context_length - most
        if room < 1:
            raise DataError(
                f"The answer may have {most} tokens, and the model reads {self.context_length} "
                "tokens in all."
            )
        stops = (until,) if isinstance(until, str) else tuple(until)
        return Prompt(tuple(self.encode(context)[-room:]), stops, most)

    def window(self, context: str, continuation: str) -> Window:
        """The continuation scored after its context; a context too long loses its start."""
        before, after = self._pair(context, continuation)
        if not 0 < len(after) <= self.context_length:
            raise DataError(
                f"The answer {continuation[:60]!r} has {len(after)} tokens to score; it should "
                f"have at least one and at most the model's context of {self.context_length}."
            )
        ids = (*before, *after)[-(self.context_length + 1) :]
        return Window(ids, len(ids) - len(after))

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if not context:
            after = self.encode(continuation, add_special_tokens=False)
            if after and after[0] == self.prefix_token:
                return after[:1], after[1:]
            return [self.prefix_token], after
        # Trailing spaces move over: most tokenizers join a space with the word behind it.
        stripped = context.rstrip()
        continuation = context[len(stripped) :] + continuation
        whole, before = self.encode(stripped + continuation), self.encode(stripped)
        return before, whole[len(before) :]

    def rolling(self, text: str) -> Iterator[Window]:
        """Every token of the text scored once, each window as full of context as it can be.

        `get_rolling_token_windows(context_len=1)` and `make_disjoint_window` of lm-eval: the first
        window starts at the prefix token; the last looks back over tokens scored before.
        """
        ids = [self.prefix_token, *self.encode(text)]
        scored, size = 1, self.context_length
        while scored < len(ids):
            end = min(scored + size, len(ids))
            start = max(0, end - size - 1)
            yield Window(tuple(ids[start:end]), scored - start)
            scored = end


_MOST = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What lm-eval's tasks call the limit of an answer, in its order."""


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """What decides the ids a text becomes: vocabulary, merges, special tokens, chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab()))
    specials = [str(tokenizer.special_tokens_map), str(getattr(tokenizer, "chat_template", ""))]
    return hashlib.sha256("\0".join([rules, *specials]).encode()).hexdigest()


def chat_renderer(tokenizer: Tokenizer) -> Callable[..., str]:
    """`HFLM.apply_chat_template`: messages to text, without a system turn if the template has none.

    Raises `ConfigError` for a tokenizer without a chat template.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            "retention.chat_template=true, but the tokenizer has no chat template.",
            "Set retention.chat_template=false.",
        )

    def render(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        from jinja2.exceptions import TemplateError

        render = partial(
            tokenizer.apply_chat_template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        try:
            try:
                return rendered(partial(render, messages))
            except TemplateError:
                return rendered(partial(render, [m for m in messages if m["role"] != "system"]))
        except Exception as error:  # noqa: BLE001 - a template is a program of its own
            raise ConfigError(
                f"The chat template cannot be used: {why(error)[:200]}.",
                "Set retention.chat_template=false.",
            ) from None

    return render


class Asked(Protocol):
    """Whatever asks for log-likelihoods: an item of a benchmark, in practice."""

    @property
    def requests(self) -> Sequence[Request]: ...


class Seat(NamedTuple):
    """Where a window sits: path `path` of tree `tree`."""

    tree: int
    path: int


@dataclass(frozen=True)
class RequestTrees:
    """Trees for the requests of several items, and where each of their windows sits.

    The windows of an item share a tree (its choices follow one context); what items share, as
    behind fixed few-shot examples, is for packing to find. Every window of a rolling request is a
    tree of its own: it shares nothing. Prompts are no part of it.
    """

    trees: list[Tree]
    seats: list[list[list[Seat]]]  # item, request, window

    @classmethod
    def of(cls, items: Iterable[Asked]) -> RequestTrees:
        trees: list[Tree] = []
        seats: list[list[list[Seat]]] = []
        for item in items:
            paths = [w.path() for r in item.requests if r.kind != ROLLING for w in r.windows]
            fork, taken = len(trees), 0
            if paths:
                trees.append(Tree.of(paths))
            asked: list[list[Seat]] = []
            for request in item.requests:
                windows = range(len(request.windows))
                if request.kind == ROLLING:
                    asked.append([Seat(len(trees) + w, 0) for w in windows])
                    trees += [Tree.of([window.path()]) for window in request.windows]
                else:
                    asked.append([Seat(fork, taken + w) for w in windows])
                    taken += len(windows)
            seats.append(asked)
        return cls(trees, seats)

    @classmethod
    def together(cls, several: Sequence[RequestTrees]) -> RequestTrees:
        """Those of several tasks, one after the other."""
        if len(several) == 1:
            return several[0]
        trees: list[Tree] = []
        seats: list[list[list[Seat]]] = []
        for one in several:
            first = len(trees)
            seats += [
                [[Seat(first + seat.tree, seat.path) for seat in windows] for windows in item]
                for item in one.seats
            ]
            trees += one.trees
        return cls(trees, seats)

    def answers(self, scores: Sequence[TreeScore]) -> list[list[Answer]]:
        """Item by item, request by request: log-probs of the windows added up."""
        return [[self._answer(scores, seats) for seats in request] for request in self.seats]

    @staticmethod
    def _answer(scores: Sequence[TreeScore], seats: list[Seat]) -> Answer:
        return Answer(
            float(sum(scores[seat.tree].logp[seat.path] for seat in seats)),
            all(bool(scores[seat.tree].greedy[seat.path]) for seat in seats),
        )
