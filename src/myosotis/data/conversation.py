"""Turns of a conversation, as files spell them, to the one type that everything after reads.

    {"role": "user", "content": "…"}          OpenAI's form; content may be a list of text parts
    {"from": "human", "value": "…"}           ShareGPT's; `function_call` and `observation` too

Beside its text a turn may have

    reasoning_content, reasoning, thinking    what the assistant thought before it answered
    tool_calls, function_call                 what it calls, beside its text or instead of it
    name, tool_call_id                        whose result a tool's turn is
    weight, train, loss, mask                 0, false, false, true: read, not learned from

A key that is none of these is left unread, and named by whoever reads the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from myosotis.data.records import RecordError, kind
from myosotis.utils.did_you_mean import close, did_you_mean

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
SHAREGPT |= {"system": "system", "tool": "tool", "observation": "tool"}
SHAREGPT |= {"function_call": "assistant"}
REASONING = ("reasoning_content", "reasoning", "thinking")
SCORED_IF = {"weight": True, "train": True, "loss": True, "mask": False}
"""Keys that say whether a turn is learned from, and at which value it is."""
KNOWN = {*REASONING, *SCORED_IF, "name", "tool_calls", "function_call", "tool_call_id"}
SYSTEMS = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `scored=False` on an assistant's turn: it is read, not learned from."""

    role: str
    content: str
    scored: bool = True
    reasoning: str = ""  # what the assistant thought before it answered
    calls: str = ""  # the tools the assistant calls: a JSON list in OpenAI's form
    name: str = ""
    call_id: str = ""  # of a tool's result: which call it answers

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing beside role and text."""
        return not (self.reasoning or self.calls or self.name or self.call_id)

    def extras(self) -> list[str]:
        """What there is beside role and text; an empty list where there is nothing."""
        return [] if self.is_plain else [self.reasoning, self.calls, self.name, self.call_id]


def read_only(messages: list[Message]) -> list[Message]:
    """The same turns, none of them learned from."""
    return [replace(message, scored=False) for message in messages]


def chat(value: Any, name: str, unused: set[str] | None = None) -> list[Message]:
    """A list of turns; keys that were left unread are put into `unused`. Raises `RecordError`."""
    if not isinstance(value, list):
        raise RecordError(f"{name!r} is {kind(value)}; expected a list of messages")
    if not value:
        raise RecordError(f"{name!r} is an empty list")
    left: set[str] = set()
    messages = [_message(turn, f"{name}[{i}]", left) for i, turn in enumerate(value)]
    if unused is not None:
        unused |= {f"{name}[].{key}" for key in left}
    return messages


def _message(turn: Any, name: str, unused: set[str]) -> Message:
    if not isinstance(turn, dict):
        raise RecordError(f"{name} is {kind(turn)}; expected an object with 'role' and 'content'")
    sharegpt = "from" in turn and "role" not in turn
    role_key, content_key = ("from", "value") if sharegpt else ("role", "content")
    if role_key not in turn:
        raise RecordError(f"{name} has no {role_key!r}{meant(role_key, turn)}")
    said = turn[role_key]
    known = tuple(SHAREGPT) if sharegpt else ROLES
    if said not in known:
        raise RecordError(f"{name} has the role {said!r}. {did_you_mean(str(said), known)}")
    role = SHAREGPT[said] if sharegpt else "tool" if said == "function" else said
    calls = _calls(turn, name, said == "function_call", unused)
    if content_key not in turn and not calls:
        raise RecordError(f"{name} has no {content_key!r}{meant(content_key, turn)}")
    told_apart = said == "function_call" or content_key not in turn
    content = "" if told_apart else _parts(turn, content_key, name, unused)
    reasoning = _text_of(turn, one_of(REASONING, turn), name)
    if role != "assistant" and (reasoning or calls):
        raise RecordError(f"{name} is the {role}'s; only the assistant reasons and calls tools")
    unused |= turn.keys() - KNOWN - {role_key, content_key}
    if role != "assistant":
        unused |= {key for key in ("train", "loss", "weight") if turn.get(key)}
    return Message(
        role,
        content,
        _scored(turn, name),
        reasoning=reasoning,
        calls=calls,
        name=_text_of(turn, "name", name),
        call_id=_text_of(turn, "tool_call_id", name),
    )


def _scored(turn: Mapping[str, Any], name: str) -> bool:
    said: dict[str, bool] = {}
    for key, scored in SCORED_IF.items():
        value = turn.get(key, scored)
        if value not in (0, 1):  # true and false are equal to them
            raise RecordError(f"{name} has {key} {value!r}; expected 0 or 1")
        if key in turn:
            said[key] = bool(value) == scored
    if len(set(said.values())) > 1:
        raise RecordError(f"{name}: {' and '.join(map(repr, said))} contradict each other")
    return all(said.values())


def _text_of(turn: Mapping[str, Any], key: str | None, name: str) -> str:
    return checked(turn[key], f"{name}.{key}") if key is not None and key in turn else ""


def _parts(turn: Mapping[str, Any], key: str, name: str, unused: set[str]) -> str:
    """Text, or OpenAI's list of parts when all of them are text."""
    value, name = turn[key], f"{name}.{key}"
    if not isinstance(value, list):
        return checked(value, name)
    if any(not isinstance(part, dict) or part.get("type") != "text" for part in value):
        raise RecordError(f"{name} has parts that are not text")
    unused |= {f"{key}[].{other}" for part in value for other in part.keys() - {"type", "text"}}
    return "".join(checked(part.get("text"), f"{name}.text") for part in value)


# Tools.


def tools_of(value: Any, name: str) -> str:
    """The tools a record offers, as a JSON list; empty where there are none."""
    listed = _json(value, name)
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise RecordError(f"{name} is {kind(listed)}; expected a list of tools")
    wrapped = [t if "function" in t else {"type": "function", "function": t} for t in listed]
    for i, tool in enumerate(wrapped):
        if not isinstance(tool["function"], dict) or "name" not in tool["function"]:
            raise RecordError(f"{name}[{i}] has no name")
    return _dumped(wrapped) if wrapped else ""


def _calls(turn: Mapping[str, Any], name: str, in_value: bool, unused: set[str]) -> str:
    """The calls of a turn, each as `{"type": "function", "function": {"name", "arguments"}}`."""
    if in_value:
        key, listed = "value", _json(turn.get("value"), f"{name}.value")
    elif turn.get("tool_calls"):
        key, listed = "tool_calls", _json(turn["tool_calls"], f"{name}.tool_calls")
    elif turn.get("function_call"):
        key, listed = "function_call", _json(turn["function_call"], f"{name}.function_call")
    else:
        return ""
    listed = listed if isinstance(listed, list) else [listed]
    left: set[str] = set()
    calls = [_call(call, f"{name}.{key}", left) for call in listed]
    unused |= {f"{key}[].{other}" for other in left}
    return _dumped(calls)


def _call(call: Any, name: str, unused: set[str]) -> dict[str, Any]:
    if not isinstance(call, dict):
        raise RecordError(f"{name} holds {kind(call)}; expected calls with a name and arguments")
    function = call.get("function", call)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RecordError(f"{name} holds a call without a name")
    arguments = _json(function.get("arguments", {}), f"{name}.arguments")
    if not isinstance(arguments, dict):
        raise RecordError(f"{name}.arguments is {kind(arguments)}; expected an object")
    about = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    spelled = {"function"} if function is not call else {"name", "arguments"}
    # `index` numbers the calls of a stream: they stand in that order.
    unused |= call.keys() - {"type", "id", "index"} - spelled
    if function is not call:
        unused |= {f"function.{key}" for key in function.keys() - {"name", "arguments"}}
    plain = {"name": function["name"], "arguments": arguments}
    return {**about, "type": "function", "function": plain}


def _json(value: Any, name: str) -> Any:
    """A value, or the one that a string spells in JSON: both are common for tools."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RecordError(f"{name} is no JSON: {error}") from None


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# Fields.


def text(record: Mapping[str, Any], key: str) -> str:
    """A field that must be text. Raises `RecordError`."""
    return checked(record[key], repr(key))


def checked(value: Any, name: str) -> str:
    """The value, which must be text that a tokenizer can encode. Raises `RecordError`."""
    if not isinstance(value, str):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        hint = "a field in braces is written out: data.fields.completion='{label}'"
        raise RecordError(f"{name} is {kind(value)}; expected text", hint if number else "")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        # JSON can spell half a surrogate pair (\\ud83d), which no tokenizer can encode.
        raise RecordError(
            f"{name} holds half a character (\\u{ord(value[error.start]):04x})"
        ) from None
    return value


NAME_KEYS = "name the fields: data.fields.prompt=… data.fields.completion=…"


def one_of(names: tuple[str, ...], record: Mapping[str, Any]) -> str | None:
    """The one of `names` that is a field. Raises `RecordError` when two are."""
    given = [name for name in names if name in record]
    if len(given) > 1:
        raise RecordError(f"both {given[0]!r} and {given[1]!r}: which one is meant?", NAME_KEYS)
    return given[0] if given else None


def near(name: str, record: Mapping[str, Any]) -> str | None:
    """The field whose name is nearest to one that is missing."""
    return next(iter(close(name, record, 1, cutoff=0.75)), None)


def meant(name: str, record: Mapping[str, Any]) -> str:
    """The end of a message about a missing field: the nearest one, or those there are."""
    if nearest := near(name, record):
        return f"; did you mean {nearest!r}?"
    return f"; the fields are {', '.join(map(repr, list(record)[:8]))}"
