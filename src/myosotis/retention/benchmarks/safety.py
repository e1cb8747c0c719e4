"""What a model refuses, as two benchmarks: `should_refuse` and `should_answer`.

Harmful requests, of which refusing is right, and harmless ones that look like them, of which it is
wrong: a model that loosens loses the first, one that is over-cautious the second. Answers are
written greedily, in the chat template where the tokenizer has one, and read by the rules of
`refusals.py`. Neither is in the mean over benchmarks: behaviour is no knowledge, and one must not
make up for the other.

The prompts are a small set of our own wording (`safety_prompts.yaml`), or those of a file or a data
set of the hub (`retention.safety_prompts`), such as XSTest (Röttger et al. 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from myosotis.data.conversation import text
from myosotis.data.places import short
from myosotis.data.records import RecordError
from myosotis.data.sft import each_record
from myosotis.retention.benchmarks.refusals import refuses
from myosotis.retention.benchmarks.requests import WRITTEN, Answer, Encoder
from myosotis.retention.benchmarks.task import Half, Item, Task, fingerprint
from myosotis.utils.errors import DataError

SHOULD_REFUSE, SHOULD_ANSWER = "should_refuse", "should_answer"
NAMES = (SHOULD_REFUSE, SHOULD_ANSWER)
METRICS = {SHOULD_REFUSE: "refused", SHOULD_ANSWER: "complied"}
"""What each is scored by, of which more is better: the share of answers that refuse, or do not."""

OURS = Path(__file__).with_name("safety_prompts.yaml")
VERSION = "safety 1"
MOST_TOKENS = 48
"""Tokens of an answer: a refusal is said at its beginning."""


class Asked(NamedTuple):
    """A request, and whether it should be refused."""

    prompt: str
    refuse: bool


def prompts(place: str | None) -> list[Asked]:
    """The requests of a file or a data set of the hub, or our own.

    A record has a `prompt` and says whether it should be refused: `refuse` (true or false), a
    `label` (safe or unsafe) or, as XSTest was first published, a `type` (`contrast_…` is unsafe).
    Raises `DataError` naming file and line of each that does not.
    """
    if place is None:
        kept = yaml.safe_load(OURS.read_text("utf-8"))
        return [Asked(one, name == SHOULD_REFUSE) for name in NAMES for one in kept[name]]
    found: list[Asked] = []
    each_record(place, lambda record, _: found.append(_asked(record)))
    return found


def task(
    name: str,
    encoder: Encoder,
    chat: Callable[..., str] | None,
    drawn: Callable[[str, int], Sequence[tuple[int, Half]]],
    place: str | None,
) -> Task:
    """One of the two as a task; `drawn(name, population)` chooses the requests.

    Raises `DataError` where `place` has no request of this kind.
    """
    wanted = name == SHOULD_REFUSE
    pool = list(dict.fromkeys(one.prompt for one in prompts(place) if one.refuse == wanted))
    if not pool:
        raise DataError(
            f"{short(place or OURS)} has no request for {name}",
            f"Leave {name} out of retention.suite, or name a set that has some.",
        )
    return Task(
        name=name,
        kind=WRITTEN,
        metric=METRICS[name],
        higher_is_better=True,
        chance=None,
        version=VERSION,
        source="a smoke set in the package" if place is None else short(place),
        substitution="A smoke set: 64 short requests of our own wording." if place is None else "",
        num_fewshot=0,
        chat_template=chat is not None,
        population=len(pool),
        items=tuple(
            _item(name, row, pool[row], half, encoder, chat) for row, half in drawn(name, len(pool))
        ),
        aggregations={},
    )


def _item(
    name: str,
    row: int,
    prompt: str,
    half: Half,
    encoder: Encoder,
    chat: Callable[..., str] | None,
) -> Item:
    if chat is None:
        asked, until = f"Question: {prompt}\nAnswer:", ["\nQuestion:"]
    else:
        asked, until = chat([{"role": "user", "content": prompt}]), []
    limits = {"until": until, "max_gen_toks": MOST_TOKENS}
    return Item(
        task=name,
        id=f"{row}-{fingerprint(prompt)}",
        member=name,
        cluster=None,
        half=half,
        prompt=prompt,
        choices=(),
        gold=(),
        lengths=(len(prompt),),
        num_bytes=(len(prompt.encode()),),
        requests=(encoder.request(WRITTEN, (asked, limits)),),
        judge=_refused if name == SHOULD_REFUSE else _complied,
        question=prompt,
    )


def _refused(answers: Sequence[Answer]) -> dict[str, Any]:
    return {METRICS[SHOULD_REFUSE]: float(refuses(answers[0].text))}


def _complied(answers: Sequence[Answer]) -> dict[str, Any]:
    return {METRICS[SHOULD_ANSWER]: float(not refuses(answers[0].text))}


def _asked(record: Mapping[str, Any]) -> Asked:
    prompt = text(record, "prompt").strip()
    if not prompt:
        raise RecordError("'prompt' is empty")
    return Asked(prompt, _refuse(record))


_SAID = {"true": True, "unsafe": True, "1": True, "false": False, "safe": False, "0": False}


def _refuse(record: Mapping[str, Any]) -> bool:
    for name in ("refuse", "label"):
        if name in record:
            said = str(record[name]).strip().lower()
            if said not in _SAID:
                raise RecordError(
                    f"{name!r} is {record[name]!r}", "refuse: true or false; label: safe or unsafe"
                )
            return _SAID[said]
    if isinstance(kind := record.get("type"), str):
        return kind.startswith("contrast_")
    raise RecordError(
        "nothing says whether this request should be refused",
        'a field "refuse" (true or false), or "label" (safe or unsafe) as in XSTest',
    )
