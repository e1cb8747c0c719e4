"""A benchmark of one's own: a JSON Lines file named in `retention.suite`.

    {"question": "…", "choices": ["…", "…"], "answer": 1}     multiple choice
    {"question": "…", "answer": "…"}                            a question with one answer

What belongs here: which records are items, and what is wrong with one that is not. All lines of a
file are of one kind. `question` (with an optional `context`, by which items are clustered) is asked
as "Question: …\\nAnswer:"; a `prompt` is taken as it stands. The answer follows after a space.
`answer` (or `label`) of a choice is its index from 0, its text, or a letter. A question counts as
right when every token of the answer is the likeliest, which is when greedy decoding would say it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from myosotis.data.conversation import meant, one_of, text
from myosotis.data.records import RecordError, kind
from myosotis.data.sft import each_record
from myosotis.records.verdict import OWN_FILES, task_name
from myosotis.retention.benchmarks.requests import LOGLIKELIHOOD, Answer, Encoder
from myosotis.retention.benchmarks.task import Half, Item, Task, fingerprint
from myosotis.utils.errors import DataError

VERSION = "own 1"
ANSWERS = ("answer", "label")


@dataclass(frozen=True)
class JsonlRow:
    """What is asked, the answers to choose from (or the one answer), and which is right."""

    prompt: str
    choices: tuple[str, ...]
    gold: int
    passage: str | None


def is_own(name: str) -> bool:
    """Whether a name of `retention.suite` is a file of items rather than lm-eval's."""
    return name.endswith(OWN_FILES)


def read(path: Path) -> list[JsonlRow]:
    """Every record of the file. Raises `DataError` naming file and line of each that is no item."""
    rows: list[JsonlRow] = []
    several: list[bool] = []

    def add(record: dict[str, Any], where: str) -> None:
        several.append("choices" in record)
        rows.append(_row(record, several[0]))

    each_record(path, add)
    if not rows:
        raise DataError(f"{path} holds no records", "one JSON object a line is expected")
    return rows


def task(
    path: Path,
    encoder: Encoder,
    chat: Callable[..., str] | None,
    drawn: Callable[[str, int], Sequence[tuple[int, Half]]],
) -> Task:
    """The file as a task named after it; `drawn(name, population)` chooses the rows.

    Without examples in the prompt, whatever `retention.num_fewshot` says.
    """
    rows, name = read(path), task_name(path.name)
    several = len(rows[0].choices) > 1
    return Task(
        name=name,
        kind="multiple_choice" if several else "loglikelihood",
        metric="acc_norm" if several else "acc",
        higher_is_better=True,
        chance=float(np.mean([1 / len(row.choices) for row in rows])) if several else 0.0,
        version=VERSION,
        source=path.name,
        substitution="",
        num_fewshot=0,
        chat_template=chat is not None,
        population=len(rows),
        items=tuple(
            _item(name, i, rows[i], half, encoder, chat) for i, half in drawn(name, len(rows))
        ),
        aggregations={},
    )


def _item(
    name: str,
    number: int,
    row: JsonlRow,
    half: Half,
    encoder: Encoder,
    chat: Callable[..., str] | None,
) -> Item:
    context, space = row.prompt, " "
    if chat is not None:
        context, space = chat([{"role": "user", "content": row.prompt}]), ""
    several = len(row.choices) > 1
    texts = [space + choice for choice in row.choices]
    lengths = tuple(len(choice) for choice in row.choices)
    return Item(
        task=name,
        id=f"{number}-{fingerprint([row.prompt, row.choices, row.gold])}",
        member=name,
        cluster=None if row.passage is None else fingerprint(row.passage),
        half=half,
        prompt=context,
        choices=row.choices if several else (),
        gold=(row.gold,) if several else (),
        lengths=lengths,
        num_bytes=tuple(len(told.encode()) for told in texts),
        requests=tuple(encoder.request(LOGLIKELIHOOD, (context, told)) for told in texts),
        judge=partial(_chosen, lengths, row.gold) if several else _said,
        question=f"{row.prompt} {row.choices[row.gold]}",
    )


def _chosen(lengths: tuple[int, ...], gold: int, answers: Sequence[Answer]) -> dict[str, Any]:
    normalised = np.array([answer.logp for answer in answers]) / np.array(lengths)
    return {"acc_norm": float(int(normalised.argmax()) == gold)}


def _said(answers: Sequence[Answer]) -> dict[str, Any]:
    return {"acc": float(answers[0].greedy)}


# ---------------------------------------------------------------------------- records


def _row(record: Mapping[str, Any], several: bool) -> JsonlRow:
    if several != ("choices" in record):
        first, this = ("has", "has not") if several else ("has no", "has")
        raise RecordError(
            f"the first record {first} 'choices', this one {this}",
            "a file holds items of one kind: put the others into a file of their own",
        )
    prompt, passage = _prompt(record)
    given = one_of(ANSWERS, record)
    if given is None:
        raise RecordError(f"no field {ANSWERS[0]!r}{meant(ANSWERS[0], record)}")
    if not several:
        return JsonlRow(prompt, (_filled(record, given),), 0, passage)
    choices = record["choices"]
    whole = isinstance(choices, list) and all(isinstance(c, str) and c.strip() for c in choices)
    if not whole or len(choices) < 2 or len(set(choices)) < len(choices):
        raise RecordError("'choices' must be a list of at least two different texts, none empty")
    return JsonlRow(prompt, tuple(choices), _index(record[given], choices, given), passage)


def _prompt(record: Mapping[str, Any]) -> tuple[str, str | None]:
    """What is asked, and the passage that other items may share."""
    if "prompt" in record:
        if "question" in record:
            raise RecordError("both 'prompt' and 'question': which one is meant?")
        return _filled(record, "prompt"), None
    passage = _filled(record, "context") if "context" in record else None
    if "question" in record:
        asked = f"Question: {_filled(record, 'question')}\nAnswer:"
        return (asked if passage is None else f"{passage}\n{asked}"), passage
    if passage is None:
        raise RecordError(f"no field 'question' or 'prompt'{meant('question', record)}")
    return passage, None


def _filled(record: Mapping[str, Any], name: str) -> str:
    filled = text(record, name)
    if not filled.strip():
        raise RecordError(f"{name!r} is empty")
    return filled


def _index(given: Any, choices: list[str], name: str) -> int:
    """Which choice is right: by number, by text, or by letter."""
    place = -1
    if isinstance(given, int) and not isinstance(given, bool):
        place = given
    elif isinstance(given, str):
        letter = given.strip()
        if given in choices:
            place = choices.index(given)
        elif letter.isdecimal():
            place = int(letter)
        elif len(letter) == 1 and "A" <= letter.upper() <= "Z":
            place = ord(letter.upper()) - ord("A")
    if not 0 <= place < len(choices):
        said = repr(given) if isinstance(given, str) else kind(given)
        raise RecordError(
            f"{name!r} is {said}, which is none of the {len(choices)} choices",
            "an index from 0, the text of a choice, or a letter from A",
        )
    return place
