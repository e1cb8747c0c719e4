"""What the texts of a data set hold: how much, how various, and what in them does harm unseen.

What belongs here: counts over answers and questions, an example at a time. How they become tokens
is in `tokenize.py`, whether they repeat each other in `near_duplicates.py`. Shares that depend on
the amount of text (distinct-n) and languages are taken of a fixed, evenly spread part of the
examples.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from myosotis.data.sft import Example
from myosotis.data.shingles import Hashed, words

SHOWN = 5  # places, openings
SHORT_WORDS = 3  # an answer of fewer says little …
LONG_MEDIAN = 20  # … where half of the others have at least so many words
ECHO_WORDS = 5  # a question of fewer is often repeated by rights: "Paris?" – "Paris is …"
SAMPLED = 2_000  # examples whose languages are told
SAMPLED_WORDS = 200_000  # of answers, on which distinct-n is taken
MOST_OPENINGS = 50_000  # different ones that are counted

# Text that was read in another encoding than it was written in, or not decoded at all: UTF-8 read
# as Latin-1 or Windows-1252 ("cafÃ©", "itâ€™s"), entities of HTML, and the sign for what was lost.
_DAMAGE = {
    "the replacement character �, where a decoder lost text": re.compile("\ufffd"),
    "UTF-8 that was read as Latin-1, such as Ã© or â€™": re.compile(
        "[ÃÂ][\u0080-\u00bf]|â€[™œ\u009d“”¦˜]|ï»¿"
    ),
    "entities of HTML, such as &amp; or &#39;": re.compile(
        r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,5}|#x[0-9a-fA-F]{2,4});"
    ),
    "control characters": re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f]"),
}

# Words that carry grammar and little else; the ten or so most frequent of each language that are
# not frequent in the others.
_GRAMMAR = {
    "English": "the and of is that with for this are was from which",
    "German": "der die und das ist nicht mit für ein auf sich dem",
    "French": "le les des est une dans pour qui pas sur avec sont",
    "Spanish": "el los las una por con para como más pero está del",
    "Portuguese": "uma não com para os mais como dos mas foi pelo são",
    "Italian": "il di che è una per non con della sono gli nel",
    "Dutch": "het een van niet dat zijn voor met aan ook bij wordt",
    "Polish": "nie się na jest że do jak przez oraz dla ale czy",
}
_LANGUAGES = {name: frozenset(told.split()) for name, told in _GRAMMAR.items()}


def questions(examples: Iterable[Example]) -> Iterable[str]:
    """What each example asks: its last turn that is read."""
    return (e.prompt[-1].content if e.prompt else "" for e in examples)


def whole(example: Example) -> str:
    """All that an example says, reasoning and calls of tools too, its system turn aside: that is
    the same for many."""
    turns = [m for m in example.messages if m.role not in ("system", "developer")]
    said = [one for m in turns for one in (m.reasoning, m.content, m.calls) if one]
    return "\n".join([*said, *([example.rejected] if example.rejected is not None else [])])


class Survey:
    """Counts over examples that are shown one after the other."""

    def __init__(self, every: int = 1) -> None:
        """Each `every`th example is looked at for what is told of a part only."""
        self.every = every
        self.seen = 0
        self.asked: list[int] = []  # words of each question
        self.said: list[int] = []  # words of each answer
        self.empty: list[str] = []
        self.short: list[str] = []
        self.echo: list[str] = []
        self.damaged: dict[str, list[str]] = {}
        self.openings: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()  # by hash
        self.first: dict[int, str] = {}  # where a hash was met first
        self.languages: Counter[str] = Counter()
        self.sample: list[str] = []
        self._sampled = 0

    def show(self, example: Example) -> None:
        """Count one more."""
        question = example.prompt[-1].content if example.prompt else ""
        answer = example.completion
        asked, said = words(question), words(answer)
        self.asked.append(len(asked))
        self.said.append(len(said))
        if not said and not example.messages[-1].calls:
            self.empty.append(example.where)
        elif len(said) < SHORT_WORDS:
            self.short.append(example.where)
        if len(asked) >= ECHO_WORDS and said[: len(asked)] == asked:
            self.echo.append(example.where)
        for what, pattern in _DAMAGE.items():
            if pattern.search(question) or pattern.search(answer):
                self.damaged.setdefault(what, []).append(example.where)
        opening = " ".join(asked[:2])
        if opening and (opening in self.openings or len(self.openings) < MOST_OPENINGS):
            self.openings[opening] += 1
        key = hash(tuple(said))
        self.answers[key] += 1
        self.first.setdefault(key, example.where)
        if self.seen % self.every == 0:
            self.languages[language(f"{question}\n{answer}")] += 1
            if self._sampled < SAMPLED_WORDS:
                self.sample.append(answer)
                self._sampled += len(said)
        self.seen += 1

    def report(self) -> dict[str, Any]:
        """What was counted, as plain data."""
        hashed = Hashed.of(self.sample)
        key, times = self.answers.most_common(1)[0] if self.answers else (0, 0)
        return {
            "examples": self.seen,
            "words": int(sum(self.asked) + sum(self.said)),
            "answer_words": int(sum(self.said)),
            "median_answer_words": int(np.median(self.said)) if self.said else 0,
            "different_answers": len(self.answers),
            "commonest_answer": {"times": times, "where": self.first.get(key, "")},
            "distinct": [_distinct(hashed, n) for n in (1, 2)],
            "openings": {
                "different": len(self.openings),
                "first": [[text, n] for text, n in self.openings.most_common(SHOWN)],
            },
            "empty": _told(self.empty),
            "short": _told(self.short),
            "echo": _told(self.echo),
            "damaged": {what: _told(where) for what, where in self.damaged.items()},
            "languages": dict(self.languages.most_common()),
            "languages_of": int(sum(self.languages.values())),
        }


def survey(examples: Sequence[Example]) -> dict[str, Any]:
    """The figures of some examples (`Survey`)."""
    seen = Survey(every=max(1, len(examples) // SAMPLED))
    for example in examples:
        seen.show(example)
    return seen.report()


def warnings(found: dict[str, Any]) -> list[str]:
    """A sentence for each thing of `survey` that does harm."""
    sentences = []
    total = max(1, found["examples"])
    if (empty := found["empty"])["count"]:
        sentences.append(
            f"training answers without a word: {empty['count']}, such as {_places(empty)}"
        )
    if (short := found["short"])["count"] and found["median_answer_words"] >= LONG_MEDIAN:
        sentences.append(
            f"training answers of fewer than {SHORT_WORDS} words where half have "
            f"{found['median_answer_words']} or more: {short['count']}, such as {_places(short)}"
        )
    if (echo := found["echo"])["count"]:
        sentences.append(
            f"training answers that begin by repeating the question: {echo['count']}, such as "
            f"{_places(echo)}"
        )
    for what, where in found["damaged"].items():
        sentences.append(
            f"training examples with {what}: {where['count']}, such as {_places(where)}"
        )
    common = found["commonest_answer"]
    long = found["median_answer_words"] >= LONG_MEDIAN
    if long and common["times"] >= 10 and common["times"] / total >= 0.02:
        sentences.append(
            f"one answer stands {common['times']} times among {total} training examples, first in "
            f"{common['where']}"
        )
    return sentences


def language(text: str) -> str:
    """The language of a text by its words of grammar, else its script; "unclear" for neither."""
    if not text.isascii() and (script := _script(text)) != "Latin":
        return script
    told = words(text)
    hits = {name: sum(word in known for word in told) for name, known in _LANGUAGES.items()}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] >= max(2, 0.05 * len(told)) else "unclear"


def _script(text: str) -> str:
    """The script of most of the first letters, by their names in Unicode."""
    letters = [c for c in text[:400] if c.isalpha()]
    names = Counter(unicodedata.name(c, "?").split()[0].capitalize() for c in letters)
    common = names.most_common(1)[0][0] if names else "Latin"
    return {"Cjk": "Chinese characters", "Hiragana": "Japanese", "Katakana": "Japanese"}.get(
        common, common
    )


def _distinct(hashed: Hashed, n: int) -> float | None:
    numbers = hashed.runs(n).numbers
    return len(np.unique(numbers)) / len(numbers) if len(numbers) else None


def _told(where: list[str]) -> dict[str, Any]:
    return {"count": len(where), "where": where[:SHOWN]}


def _places(told: dict[str, Any]) -> str:
    return ", ".join(told["where"][:3])
