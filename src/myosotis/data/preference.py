"""Preference pairs: a prompt, the answer that was chosen, and the one that was rejected.

    {"prompt": "…", "chosen": "…", "rejected": "…"}      and the names in PROMPTS, ALIASES
    {"instruction": "…", "input": "…", "chosen": "…", "rejected": "…"}                  (Alpaca)
    {"prompt": [messages …], "chosen": [messages …], "rejected": [messages …]}
    {"chosen": [messages …], "rejected": [messages …]}        the prompt is what they begin with;
                                                              it may be given besides
    {"conversations": [messages …], "chosen": {message}, "rejected": {message}}      (ShareGPT)

`system`, `history` and `tools` stand beside them as in sft.py, for both sides.

Pairs that say nothing are left out and counted, with their lines: both sides equal, or one empty.
"""

from __future__ import annotations

from typing import Any

from myosotis.data.conversation import SYSTEMS, Message, chat, meant, one_of, read_only, text
from myosotis.data.fields import Fields
from myosotis.data.places import Place
from myosotis.data.records import RecordError
from myosotis.data.sft import CHATS, PROMPTS, Context, Example, Records, alpaca, each_record
from myosotis.utils.errors import DataError

ALIASES = {"preferred_output": "chosen", "non_preferred_output": "rejected"}


def read_pairs(path: Place, fields: Fields | None = None) -> Records:
    """Read and check all records of a place. Raises `DataError` for lines that are no pairs."""
    records = Records([])

    def add(record: dict[str, Any], where: str) -> None:
        example, unread = pair(record, where)
        records.leave(unread)
        records.read_as(record.keys() - unread)
        chosen, rejected = example.messages[-1], example.with_rejected().messages[-1]
        if not all(side.content.strip() or side.calls for side in (chosen, rejected)):
            records.empty_answers.append(where)
        elif chosen == rejected:
            records.identical.append(where)
        else:
            records.examples.append(example)

    each_record(path, add, fields, records)
    if not records.examples:
        raise DataError(f"{path} holds no pairs", "a prompt, chosen and rejected on each line")
    return records


def pair(record: dict[str, Any], where: str) -> tuple[Example, set[str]]:
    """One record as an example, and the keys that nothing was made of.

    Raises `RecordError` when it is no pair.
    """
    record = {ALIASES.get(key, key): value for key, value in record.items()}
    for side in ("chosen", "rejected"):
        if side not in record:
            raise RecordError(f"no field {side!r}{meant(side, record)}")
    context = Context(record)
    before, used = _prompt(record, context.unused)
    chosen, rejected = (_answer(record[side], side, context.unused) for side in _SIDES)
    before = _common(before, chosen, rejected)
    second = rejected[-1]
    groups = context.groups(used)
    if not chosen[-1].scored or not second.scored:
        raise RecordError("an answer of a pair has weight 0: nothing to learn from")
    read = context.before((*read_only(before), chosen[-1]))
    if "input" in used and isinstance(record["input"], dict):
        context.unused |= {f"input.{key}" for key in record["input"].keys() - {"messages"}}
    return Example(
        read,
        where,
        rejected=second.content,
        rejected_turn=None if second.is_plain else second,
        tools=context.tools,
        groups=groups,
    ), context.unread(used | set(_SIDES))


_SIDES = ("chosen", "rejected")


def _prompt(record: dict[str, Any], unused: set[str]) -> tuple[list[Message] | None, set[str]]:
    """The prompt where it has a field of its own, and the fields it was made of."""
    if isinstance(record.get("input"), dict) and "messages" in record["input"]:
        return chat(record["input"]["messages"], "input.messages", unused), {"input"}
    if (name := one_of(CHATS, record)) is not None:
        return chat(record[name], name, unused), {name}
    if "instruction" in record and "prompt" not in record:
        return [alpaca(record)], {"instruction", "input"} & record.keys()
    if (name := one_of(PROMPTS, record)) is None:
        return None, set()
    if isinstance(record[name], list):
        return chat(record[name], name, unused), {name}
    return [Message("user", text(record, name))], {name}


def _answer(value: Any, side: str, unused: set[str]) -> list[Message]:
    if isinstance(value, str):
        return [Message("assistant", text({side: value}, side))]
    messages = chat(value if isinstance(value, list) else [value], side, unused)
    if messages[-1].role != "assistant":
        raise RecordError(f"the last message of {side!r} is the {messages[-1].role}'s")
    return messages


def _common(
    given: list[Message] | None, chosen: list[Message], rejected: list[Message]
) -> list[Message]:
    """The prompt of two sides: given beside them, or what both whole conversations begin with."""
    if len(chosen) == len(rejected) == 1:
        if given is None:
            raise RecordError(
                "no prompt: neither a field of its own nor a conversation before the answers"
            )
        return given
    if _plain(chosen[:-1]) != _plain(rejected[:-1]):
        raise RecordError("'chosen' and 'rejected' have different prompts")
    shared = chosen[:-1]
    if given is None or _plain(given) == _plain(shared):
        return shared
    # A chat may name its system turn on one side only, and a field may hold the first or the last
    # question of several.
    turns, asked = (_plain([m for m in part if m.role not in SYSTEMS]) for part in (shared, given))
    if turns[: len(asked)] != asked and turns[-len(asked) :] != asked:
        raise RecordError("the prompt is not what 'chosen' and 'rejected' begin with")
    told = [m for m in given if m.role in SYSTEMS]
    own = [m for m in shared if m.role in SYSTEMS]
    if told and own:
        raise RecordError("the system turns of the prompt and of 'chosen' differ")
    return told + shared


def _plain(messages: list[Message]) -> list[tuple[str, str, list[str]]]:
    """What must be equal for two turns to be the same: role, text and calls, not weights."""
    return [(m.role, m.content.strip(), m.extras()) for m in messages]
