"""Preference pairs: a prompt, the answer that was chosen, and the one that was rejected.

    {"prompt": "…", "chosen": "…", "rejected": "…"}      and the names in PROMPTS, ALIASES
    {"instruction": "…", "input": "…", "chosen": "…", "rejected": "…"}                  (Alpaca)
    {"prompt": [messages …], "chosen": [messages …], "rejected": [messages …]}
    {"chosen": [messages …], "rejected": [messages …]}        the prompt is what they begin with
    {"conversations": [messages …], "chosen": {message}, "rejected": {message}}      (ShareGPT)

Pairs that say nothing are left out and counted, with their lines: both sides equal, or one empty.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from myosotis.data.readers import RecordError
from myosotis.data.sft import (
    CHATS,
    PROMPTS,
    Example,
    Message,
    Records,
    alpaca,
    chat,
    each_record,
    meant,
    one_of,
    text,
)
from myosotis.utils.errors import DataError

ALIASES = {"preferred_output": "chosen", "non_preferred_output": "rejected"}


def read_pairs(path: str | Path) -> Records:
    """Read and check a whole file. Raises `DataError` for lines that are no pairs."""
    records = Records([])

    def add(record: dict[str, Any], where: str) -> None:
        example = pair(record, where)
        if not example.completion.strip() or not (example.rejected or "").strip():
            records.empty_answers.append(where)
        elif example.completion == example.rejected:
            records.identical.append(where)
        else:
            records.examples.append(example)

    each_record(path, add)
    if not records.examples:
        raise DataError(f"{path} holds no pairs", "a prompt, chosen and rejected on each line")
    return records


def pair(record: dict[str, Any], where: str) -> Example:
    """One record as an example. Raises `RecordError` when it is no pair."""
    record = {ALIASES.get(key, key): value for key, value in record.items()}
    for side in ("chosen", "rejected"):
        if side not in record:
            raise RecordError(f"no field {side!r}{meant(side, record)}")
    before = _prompt(record)
    sides = {side: _answer(record[side], side) for side in ("chosen", "rejected")}
    if before is None:
        before, sides = _shared(sides)
    elif long := [side for side, messages in sides.items() if len(messages) != 1]:
        raise RecordError(
            f"{long[0]!r} has {len(sides[long[0]])} messages beside a prompt; expected one"
        )
    read = tuple(replace(message, scored=False) for message in before)
    chosen, rejected = sides["chosen"][0], sides["rejected"][0]
    return Example((*read, chosen), where, rejected=rejected.content)


def _prompt(record: dict[str, Any]) -> list[Message] | None:
    if isinstance(record.get("input"), dict) and "messages" in record["input"]:
        return chat(record["input"]["messages"], "input.messages")
    if (name := one_of(CHATS, record)) is not None:
        return chat(record[name], name)
    if "instruction" in record and "prompt" not in record:
        return [alpaca(record)]
    if (name := one_of(PROMPTS, record)) is None:
        return None
    if isinstance(record[name], list):
        return chat(record[name], name)
    return [Message("user", text(record, name))]


def _answer(value: Any, side: str) -> list[Message]:
    if isinstance(value, str):
        return [Message("assistant", text({side: value}, side))]
    messages = chat(value if isinstance(value, list) else [value], side)
    if messages[-1].role != "assistant":
        raise RecordError(f"the last message of {side!r} is the {messages[-1].role}'s")
    return messages


def _shared(sides: dict[str, list[Message]]) -> tuple[list[Message], dict[str, list[Message]]]:
    """The prompt that is implicit in two whole conversations."""
    chosen, rejected = sides["chosen"], sides["rejected"]
    if len(chosen) < 2 or len(rejected) < 2:
        raise RecordError(
            "no prompt: neither a field of its own nor a conversation before the answers"
        )
    if [(m.role, m.content) for m in chosen[:-1]] != [(m.role, m.content) for m in rejected[:-1]]:
        raise RecordError("'chosen' and 'rejected' have different prompts")
    return chosen[:-1], {"chosen": chosen[-1:], "rejected": rejected[-1:]}
