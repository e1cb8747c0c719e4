"""Records to examples: what a line of a data file may look like, and what is wrong with one that
does not.

A record is one JSON object a line, in UTF-8. Every line is read before anything is trained; all
faults are counted and the first few shown, each with its file and line.

    {"prompt": "…", "completion": "…"}            and the pairs of names in ANSWERS and PROMPTS
    {"instruction": "…", "input": "…", "output": "…"}                            (Alpaca)
    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}  (ShareGPT)
    {"prompt": [messages …], "completion": [messages …]}

A field `group`, beside these, names what an example shares with others (a document, an author):
intervals of task quality then take groups as drawn, not examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from myosotis.data.readers import RecordError, kind, rows
from myosotis.utils.did_you_mean import close, did_you_mean
from myosotis.utils.errors import ConfigError, DataError

PROMPTS = ("prompt", "question", "instruction", "input")
ANSWERS = ("completion", "response", "answer", "output")
CHATS = ("messages", "conversations")
ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
SHAREGPT |= {"system": "system", "tool": "tool"}
ERRORS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `scored=False` on an assistant's turn: it is read, not learned from."""

    role: str
    content: str
    scored: bool = True


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to learn from; the last message is the assistant's.

    A prompt and its completion are a user's and an assistant's message. `where` is the file and the
    line, or the function, it came from. With `completion_only=False` the prompt is scored as well.
    """

    messages: tuple[Message, ...]
    where: str
    completion_only: bool = True
    rejected: str | None = None  # a worse answer to the same prompt (preference data)
    desirable: bool | None = None  # whether the answer is one to give (graded data)
    other: str | None = None  # the answer to another prompt, for objectives that compare with it
    rivals: tuple[str, ...] = ()  # wrong answers, of which the base may choose the rejected one
    groups: tuple[str, ...] = ()  # what it shares with others, the coarsest first: package, file

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All but the last answer."""
        return self.messages[:-1]

    @property
    def completion(self) -> str:
        """The last answer."""
        return self.messages[-1].content

    def answered(self, text: str) -> Example:
        """The same with another last answer."""
        return replace(self, messages=(*self.prompt, replace(self.messages[-1], content=text)))


@dataclass(frozen=True)
class Records:
    """The examples of one file, and what a reader of the audit should know about it."""

    examples: list[Example]
    unused: dict[str, int] = field(default_factory=dict)  # keys nothing was made of -> records
    empty_answers: list[str] = field(default_factory=list)  # where an answer has no text
    identical: list[str] = field(default_factory=list)  # of pairs: where both sides are the same


def read_answers(
    path: str | Path, *, prompt_key: str | None = None, completion_key: str | None = None
) -> Records:
    """Read and check a whole file.

    `prompt_key` and `completion_key` name the fields when they are none of the known ones. Raises
    `DataError` when the file is missing, empty or not UTF-8, or when a line is not a usable record.
    """
    reader = AnswerReader(prompt_key, completion_key)
    each_record(path, reader.add)
    if not reader.records.examples:
        raise DataError(f"{path} holds no records", "one JSON object a line is expected")
    return reader.records


def each_record(path: str | Path, add: Callable[[dict[str, Any], str], None]) -> None:
    """Call `add(record, where)` for each record of a file; it raises `RecordError` for a wrong one.

    Raises `DataError` with the first of all faults, when there are any.
    """
    faults, records, hint = list[str](), 0, ""
    for where, record in rows(path):
        records += 1
        try:
            if isinstance(record, RecordError):
                raise record
            add(record, where)
        except RecordError as fault:
            faults.append(f"{where}: {fault}")
            hint = hint or fault.hint
    if faults:
        raise _unusable(faults, records, hint)


def _unusable(faults: list[str], records: int, hint: str) -> DataError:
    """What is wrong with a file of so many records: how many are faulty, and the first few."""
    shown = faults[:ERRORS_SHOWN]
    if rest := len(faults) - len(shown):
        shown.append(f"… and {rest} more")
    listed = "\n".join(shown)
    count = f"{len(faults)} of {records} records cannot be used:\n"
    return DataError(listed if len(faults) == 1 else count + listed, hint)


class AnswerReader:
    """Makes examples of records and keeps count of what it left unused."""

    def __init__(self, prompt_key: str | None, completion_key: str | None) -> None:
        if (prompt_key is None) != (completion_key is None):
            given, other = "data.prompt_key", "data.completion_key"
            if prompt_key is None:
                given, other = other, given
            raise ConfigError(f"{given} is set and {other} is not", "name both fields, or neither")
        self.keys = (prompt_key, completion_key) if prompt_key and completion_key else None
        self.records = Records([])

    def add(self, record: dict[str, Any], where: str) -> None:
        messages, used = self._messages(record)
        _check_order(messages)
        if not messages[-1].content.strip():
            self.records.empty_answers.append(where)
        group = record.get("group")
        groups = (str(group),) if isinstance(group, str | int) and "group" not in used else ()
        for key in record.keys() - used - ({"group"} if groups else set()):
            self.records.unused[key] = self.records.unused.get(key, 0) + 1
        self.records.examples.append(Example(messages, where, groups=groups))

    def _messages(self, record: dict[str, Any]) -> tuple[tuple[Message, ...], set[str]]:
        if self.keys:
            for key in self.keys:
                if key not in record:
                    raise RecordError(f"no field {key!r}{meant(key, record)}")
            prompt, completion = self.keys
            return _pair(record, prompt, completion), {prompt, completion}
        if (name := one_of(CHATS, record)) is not None:
            if answers := [key for key in ANSWERS if key in record]:
                raise RecordError(
                    f"both {name!r} and {answers[0]!r}: which one is meant?", _NAME_KEYS
                )
            return tuple(chat(record[name], name)), {name}
        return self._named(record)

    def _named(self, record: dict[str, Any]) -> tuple[tuple[Message, ...], set[str]]:
        completion = one_of(ANSWERS, record)
        if completion is None:
            raise _missing("completion", ANSWERS, record)
        if "instruction" in record and "input" in record and "prompt" not in record:
            answer = Message("assistant", text(record, completion))
            return (alpaca(record), answer), {"instruction", "input", completion}
        prompt = one_of(PROMPTS, record)
        if prompt is None:
            raise _missing("prompt", PROMPTS, record)
        used = {prompt, completion}
        if isinstance(record.get("system"), str):
            system = (Message("system", text(record, "system")),)
            return system + _pair(record, prompt, completion), used | {"system"}
        return _pair(record, prompt, completion), used


_NAME_KEYS = "name the fields: data.prompt_key=… data.completion_key=…"


def alpaca(record: Mapping[str, Any]) -> Message:
    """The question of Alpaca's form: an instruction, and its input below it where it has one."""
    asked = text(record, "instruction")
    given = text(record, "input", absent="") if "input" in record else ""
    return Message("user", f"{asked}\n\n{given}" if given.strip() else asked)


def one_of(names: tuple[str, ...], record: Mapping[str, Any]) -> str | None:
    """The one of `names` that is a field. Raises `RecordError` when two are."""
    given = [name for name in names if name in record]
    if len(given) > 1:
        raise RecordError(f"both {given[0]!r} and {given[1]!r}: which one is meant?", _NAME_KEYS)
    return given[0] if given else None


def _missing(what: str, names: tuple[str, ...], record: Mapping[str, Any]) -> RecordError:
    if not record:
        return RecordError("an empty record")
    for name in (*names, *CHATS):
        if near := _near(name, record):
            return RecordError(f"no field {name!r}; did you mean {name!r} where it says {near!r}?")
    fields = ", ".join(map(repr, list(record)[:8]))
    return RecordError(f"no {what}: the fields are {fields}", _NAME_KEYS)


def _near(name: str, record: Mapping[str, Any]) -> str | None:
    return next(iter(close(name, record, 1, cutoff=0.75)), None)


def meant(name: str, record: Mapping[str, Any]) -> str:
    """The end of a message about a missing field: the nearest one, or those there are."""
    if near := _near(name, record):
        return f"; did you mean {near!r}?"
    return f"; the fields are {', '.join(map(repr, list(record)[:8]))}"


def _pair(record: Mapping[str, Any], prompt: str, completion: str) -> tuple[Message, ...]:
    if isinstance(record[prompt], list) or isinstance(record[completion], list):
        before, after = chat(record[prompt], prompt), chat(record[completion], completion)
        # What lies in the prompt was said before: it is read, not learned from.
        return tuple([replace(message, scored=False) for message in before] + after)
    return Message("user", text(record, prompt)), Message("assistant", text(record, completion))


def text(record: Mapping[str, Any], key: str, *, absent: str | None = None) -> str:
    """A field that must be text; null is `absent` where that is given. Raises `RecordError`."""
    value = record[key]
    if value is None and absent is not None:
        return absent
    return _checked(value, repr(key))


def _checked(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise RecordError(f"{name} is {kind(value)}; expected text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        # JSON can spell half a surrogate pair (\\ud83d), which no tokenizer can encode.
        raise RecordError(
            f"{name} holds half a character (\\u{ord(value[error.start]):04x})"
        ) from None
    return value


def chat(value: Any, name: str) -> list[Message]:
    """A list of messages, in OpenAI's or ShareGPT's form. Raises `RecordError`."""
    if not isinstance(value, list):
        raise RecordError(f"{name!r} is {kind(value)}; expected a list of messages")
    if not value:
        raise RecordError(f"{name!r} is an empty list")
    return [_message(turn, f"{name}[{i}]") for i, turn in enumerate(value)]


def _message(turn: Any, name: str) -> Message:
    if not isinstance(turn, dict):
        raise RecordError(f"{name} is {kind(turn)}; expected an object with 'role' and 'content'")
    sharegpt = "from" in turn and "role" not in turn
    role_key, content_key = ("from", "value") if sharegpt else ("role", "content")
    for key in (role_key, content_key):
        if key not in turn:
            raise RecordError(f"{name} has no {key!r}{meant(key, turn)}")
    role = turn[role_key]
    known = tuple(SHAREGPT) if sharegpt else ROLES
    if role not in known:
        hint = did_you_mean(str(role), known)
        raise RecordError(f"{name} has the role {role!r}. {hint}")
    for key in ("tool_calls", "function_call"):
        if turn.get(key):
            raise RecordError(f"{name} has {key!r}, which is not supported: only text is learned")
    weight = turn.get("weight", 1)
    if weight not in (0, 1):
        raise RecordError(f"{name} has weight {weight!r}; expected 0 or 1")
    content = _parts(turn[content_key], f"{name}.{content_key}")
    return Message(SHAREGPT[role] if sharegpt else role, content, scored=bool(weight))


def _parts(value: Any, name: str) -> str:
    """Text, or OpenAI's list of parts when all of them are text."""
    if not isinstance(value, list):
        return _checked(value, name)
    if any(not isinstance(part, dict) or part.get("type") != "text" for part in value):
        raise RecordError(f"{name} has parts that are not text")
    return "".join(_checked(part.get("text"), f"{name}.text") for part in value)


def _check_order(messages: tuple[Message, ...]) -> None:
    if messages[-1].role != "assistant":
        raise RecordError(
            f"the last message is the {messages[-1].role}'s; expected the assistant's"
        )
    if not any(message.role == "assistant" and message.scored for message in messages):
        raise RecordError("no answer of the assistant has weight 1: nothing to learn from")
