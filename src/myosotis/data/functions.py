"""The documented functions in a Python file: source without docstring, and its first sentence.

Left out: functions that are too long or too short, or have no body of their own, and sentences that
are not plain English prose or say no more than the function's name.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence

MIN_SOURCE_CHARS = 80
MIN_WORDS, MAX_WORDS, MAX_SENTENCE_CHARS = 4, 30, 200


def documented(text: str, max_source_chars: int) -> Iterator[tuple[int, str, str]]:
    """Line, source without docstring, and first docstring sentence of each usable function."""
    if '"""' not in text:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return
    # Like the parser, and unlike str.splitlines: a form feed does not end a line.
    lines = text.split("\n")
    for node in _defined(body):
        docstring = ast.get_docstring(node, clean=False)
        if not docstring or _bodiless(node) or node.name.startswith(("test", "__")):
            continue
        source = _source(node, lines)
        if source is None or not MIN_SOURCE_CHARS <= len(source) <= max_source_chars:
            continue
        if (sentence := first_sentence(docstring)) and not _repeats(node.name, sentence):
            yield node.lineno, source, sentence


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _defined(body: Sequence[ast.stmt]) -> Iterator[_Function]:
    """Functions and methods; not those inside functions, which mean little without them."""
    for node in body:
        if isinstance(node, _Function):
            yield node
        elif isinstance(node, ast.ClassDef):
            yield from _defined(node.body)


def _bodiless(node: _Function) -> bool:
    return all(isinstance(s, (ast.Pass, ast.Raise, ast.Expr)) for s in node.body[1:2])


def _source(node: _Function, lines: list[str]) -> str | None:
    docstring, following = node.body[0], node.body[1]
    first, last = docstring.lineno, docstring.end_lineno or docstring.lineno
    if first == node.lineno or following.lineno <= last:
        return None  # all on one line: nothing to take out cleanly
    kept = lines[node.lineno - 1 : first - 1] + lines[last : node.end_lineno]
    return textwrap.dedent("\n".join(kept)).strip()


def identity(source: str) -> str:
    """The source with the function's name and white space aside: equal for copies."""
    return " ".join(re.sub(r"^(async )?def \w+", "def", source).split())


# Sentences.

_MARKUP = (
    (re.compile(r":[\w:.+-]+:`[~!]?(?:[^`]*\.)?([^`<]+?)(?:\s*<[^`>]*>)?`"), r"\1"),  # :func:`~a.b`
    (re.compile(r"`{1,2}~?([^`<]+?)(?:\s*<[^`>]*>)?`{1,2}_{0,2}"), r"\1"),
    (re.compile(r"\*{1,2}(\w[^*]*)\*{1,2}"), r"\1"),
)
_NOT_PROSE = re.compile(
    r"^\s*(:\w|@\w|>>>|\.\. |[-*+] |-{3,}|={3,}|(Args?|Arguments|Parameters|Returns?):?$)"
)
_ABBREVIATED = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|resp|approx|al|eq|fig|no|ref|incl)\.$", re.I)
_UNWANTED = re.compile(
    r"https?:|TODO|FIXME|XXX|deprecated|%\(|[{}|\\<>$=_]|::|\b(docstring|this pr|hack)\b"
    r"|^(see|same as|alias|overrid|test|note)",
    re.I,
)
_SMALL_WORDS = {"a", "an", "and", "by", "for", "from", "if", "in", "into", "is", "it", "of", "on"}
_SMALL_WORDS |= {"or", "the", "thi", "to", "with"}  # as `_stem` leaves them


def first_sentence(docstring: str) -> str:
    """The first sentence in plain words, with a full stop; empty when it is not usable prose."""
    prose: list[str] = []
    cut = False
    for line in inspect.cleandoc(docstring).split("\n"):
        cut = _NOT_PROSE.match(line) is not None
        if cut or not line.strip():
            break
        prose.append(line.strip())
    sentence = _until_stop(" ".join(prose), cut)
    for pattern, replacement in _MARKUP:
        sentence = pattern.sub(replacement, sentence)
    sentence = " ".join(sentence.split())
    words = sentence.split()
    letters = sum(c.isalpha() or c == " " for c in sentence)
    usable = (
        MIN_WORDS <= len(words) <= MAX_WORDS
        and len(sentence) <= MAX_SENTENCE_CHARS
        and sentence.isascii()
        and sentence[0].isupper()
        and not _UNWANTED.search(sentence)
        and letters >= 0.85 * len(sentence)
        and sentence.count("(") == sentence.count(")")
    )
    return sentence if usable else ""


def _until_stop(text: str, cut: bool) -> str:
    """The first sentence of a paragraph; `cut` when a list or a heading follows it directly."""
    for stop in re.finditer(r"[.!?](?=\s|$)", text):
        rest = text[stop.end() :].lstrip()
        if not _ABBREVIATED.search(text[: stop.end()]) and not rest[:1].islower():
            return text[: stop.end()]
    # Many first lines lack their full stop; a colon or a list says that the sentence goes on.
    return "" if cut or not text or text[-1] in ":,;" else f"{text}."


def _repeats(name: str, sentence: str) -> bool:
    """Whether a sentence says nothing but the function's name: `get_size`, "Get the size."."""
    parts = re.findall(r"[a-z]+|[A-Z][a-z]*", name)
    stems = {_stem(part) for part in parts}
    said = {_stem(word) for word in re.findall(r"[A-Za-z]+", sentence)} - _SMALL_WORDS
    return said <= stems


def _stem(word: str) -> str:
    return word.lower().rstrip("s")
