"""Records to examples: what a line of a data file may look like, and what is wrong with one that
does not.

A record is one JSON object a line, in UTF-8. Every line is read before anything is trained; all
faults are counted and the first few shown, each with its file and line.

    {"prompt": "…", "completion": "…"}            and the pairs of names in ANSWERS and PROMPTS
    {"instruction": "…", "input": "…", "output": "…"}                            (Alpaca)
    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}
    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}  (ShareGPT)
    {"prompt": [messages …], "completion": [messages …]}
    {"text": "…"}                   a text, all of which is learned from (continued pre-training)

A field `group`, beside these, names what an example shares with others (a document, an author):
a group is held out as a whole, and intervals of task quality take groups as drawn, not examples.

A field `tests` holds Python that is run behind an answer that is a program (reward=code).

Beside any of them stand `system` (the first turn), `history` (earlier turns, a list of pairs or of
messages, read only) and `tools` (what the assistant may call). What a message may hold is in
conversation.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from myosotis.data.conversation import (
    NAME_KEYS,
    SYSTEMS,
    Message,
    chat,
    checked,
    meant,
    near,
    one_of,
    read_only,
    text,
    tools_of,
)
from myosotis.data.fields import Fields
from myosotis.data.places import Place, expected
from myosotis.data.readers import rows
from myosotis.data.records import RecordError, kind
from myosotis.utils.errors import DataError

__all__ = ["Example", "Message", "Records", "meant", "one_of", "read_answers", "text"]

PROMPTS = ("prompt", "question", "instruction", "input")
ANSWERS = ("completion", "response", "answer", "output")
CHATS = ("messages", "conversations")
SYSTEM_KEYS = ("system", "system_prompt")
TOOL_KEYS = ("tools", "functions")
ERRORS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation to learn from; the last message is the assistant's.

    A prompt and its completion are a user's and an assistant's message. `where` is the file and the
    line, or the function, it came from. With `completion_only=False` the prompt is scored as well:
    so it is of plain text, which is an answer to an empty prompt.
    """

    messages: tuple[Message, ...]
    where: str
    completion_only: bool = True
    rejected: str | None = None  # a worse answer to the same prompt (preference data)
    desirable: bool | None = None  # whether the answer is one to give (graded data)
    other: str | None = None  # the answer to another prompt, for objectives that compare with it
    rivals: tuple[str, ...] = ()  # wrong answers, of which the base may choose the rejected one
    groups: tuple[str, ...] = ()  # what it shares with others, the coarsest first: package, file
    rejected_turn: Message | None = None  # the rejected answer where it is more than its text
    tools: str = ""  # what the assistant may call: a JSON list in OpenAI's form
    source: str = ""  # which of several sources it comes from (data.sources)
    tests: str = ""  # Python that says whether a program that was answered is right (reward=code)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All but the last answer."""
        return self.messages[:-1]

    @property
    def completion(self) -> str:
        """The last answer."""
        return self.messages[-1].content

    def answered(self, text: str) -> Example:
        """The same with another last answer, which is text alone."""
        last = Message(self.messages[-1].role, text, self.messages[-1].scored)
        return replace(self, messages=(*self.prompt, last))

    def with_rejected(self) -> Example:
        """The same with the rejected answer (of a pair) as its last."""
        if self.rejected_turn is not None:
            return replace(self, messages=(*self.prompt, self.rejected_turn))
        assert self.rejected is not None
        return self.answered(self.rejected)


@dataclass(frozen=True)
class Records:
    """The examples of one file, and what a reader of the audit should know about it."""

    examples: list[Example]
    unused: dict[str, int] = field(default_factory=dict)  # keys nothing was made of -> records
    empty_answers: list[str] = field(default_factory=list)  # where an answer has no text
    identical: list[str] = field(default_factory=list)  # of pairs: where both sides are the same
    forms: dict[str, int] = field(default_factory=dict)  # the fields turns were made of -> records

    def read_as(self, keys: set[str]) -> None:
        """Count a record by the fields its turns were made of."""
        form = " and ".join(sorted(keys, key=_order))
        self.forms[form] = self.forms.get(form, 0) + 1

    def leave(self, keys: set[str]) -> None:
        """Count keys that nothing was made of in a record."""
        for key in sorted(keys):
            self.unused[key] = self.unused.get(key, 0) + 1


def _order(name: str) -> tuple[int, str]:
    """Prompts before answers, as one says them."""
    return (name in (*ANSWERS, "chosen", "rejected"), name)


def read_answers(path: Place, fields: Fields | None = None) -> Records:
    """Read and check all records of a place; `fields` names theirs where they are not the usual.

    Raises `DataError` when a file is missing, empty or not UTF-8, or when a line is not a usable
    record.
    """
    reader = AnswerReader()
    each_record(path, reader.add, fields, reader.records)
    if not reader.records.examples:
        raise DataError(f"{path} holds no records", expected(path))
    return reader.records


def each_record(
    path: Place,
    add: Callable[[dict[str, Any], str], None],
    fields: Fields | None = None,
    records: Records | None = None,
) -> None:
    """Call `add(record, where)` for each record of a place; it raises `RecordError` for a wrong
    one. Fields that `fields` leaves aside are counted in `records`.

    Raises `DataError` with the first of all faults, when there are any.
    """
    faults, count, hint = list[str](), 0, ""
    fields = fields or Fields()
    for where, record in rows(path):
        count += 1
        try:
            if isinstance(record, RecordError):
                raise record
            record, left = fields.of(record)
            if records is not None:
                records.leave(left)
            add(record, where)
        except RecordError as fault:
            faults.append(f"{where}: {fault}")
            hint = hint or fault.hint
    if faults:
        raise _unusable(faults, count, hint)


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

    def __init__(self) -> None:
        self.records = Records([])

    def add(self, record: dict[str, Any], where: str) -> None:
        context = Context(record)
        messages, used = self._messages(record, context.unused)
        messages = context.before(messages)
        _check_order(messages)
        if not messages[-1].content.strip() and not messages[-1].calls:
            self.records.empty_answers.append(where)
        groups, tests = context.groups(used), context.tests()
        if "text" in used:  # a long one is read in windows, which are no examples of their own
            groups = (*groups, where)
        self.records.leave(context.unread(used))
        self.records.read_as(used)
        self.records.examples.append(
            Example(
                messages,
                where,
                completion_only="text" not in used,
                tools=context.tools,
                groups=groups,
                tests=tests,
            )
        )

    def _messages(
        self, record: dict[str, Any], unused: set[str]
    ) -> tuple[tuple[Message, ...], set[str]]:
        if (name := one_of(CHATS, record)) is not None:
            if answers := [key for key in ANSWERS if key in record]:
                raise RecordError(
                    f"both {name!r} and {answers[0]!r}: which one is meant?", NAME_KEYS
                )
            return tuple(chat(record[name], name, unused)), {name}
        if record.keys() - {"group"} == {"text"}:
            return (Message("user", ""), Message("assistant", text(record, "text"))), {"text"}
        return self._named(record, unused)

    def _named(
        self, record: dict[str, Any], unused: set[str]
    ) -> tuple[tuple[Message, ...], set[str]]:
        completion = one_of(ANSWERS, record)
        if completion is None:
            raise _missing("completion", ANSWERS, record)
        if "instruction" in record and "input" in record and "prompt" not in record:
            answer = Message("assistant", text(record, completion))
            return (alpaca(record), answer), {"instruction", "input", completion}
        prompt = one_of(PROMPTS, record)
        if prompt is None:
            raise _missing("prompt", PROMPTS, record)
        return _pair(record, prompt, completion, unused), {prompt, completion}


class Context:
    """What stands beside the turns of a record: its system turn, what was said before, its tools.

    `unused` takes the keys of messages that nothing was made of. Raises `RecordError`.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.unused: set[str] = set()
        self._record = record
        named = (SYSTEM_KEYS, ("history",), TOOL_KEYS)
        keys = {names: key for names in named if (key := one_of(names, record))}
        self._used = set(keys.values())
        system, tools = keys.get(SYSTEM_KEYS), keys.get(TOOL_KEYS)
        self._system = text(record, system) if system else ""
        self._history = _history(record["history"], self.unused) if "history" in self._used else []
        self.tools = tools_of(record[tools], tools) if tools else ""

    def before(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """The turns with the system turn and the earlier ones in front."""
        first = messages[0]
        own = first.role in SYSTEMS
        if own and self._system.strip() and first.content.strip() != self._system.strip():
            raise RecordError("two system turns: the field 'system' and the first message differ")
        opening = [first] if own else []
        if self._system.strip() and not own:
            opening = [Message("system", self._system)]
        return (*opening, *self._history, *(messages[1:] if own else messages))

    def groups(self, used: set[str]) -> tuple[str, ...]:
        """The group of the record, unless a turn was made of that field."""
        group = self._record.get("group")
        if "group" in used or not isinstance(group, str | int):
            return ()
        self._used.add("group")
        return (str(group),)

    def tests(self) -> str:
        """What runs behind a program that is answered: text, or several texts line by line."""
        given = self._record.get("tests")
        lines = [given] if isinstance(given, str) else given
        if not isinstance(lines, list) or not all(isinstance(one, str) for one in lines):
            return ""
        self._used.add("tests")
        return "\n".join(lines)

    def unread(self, used: set[str]) -> set[str]:
        """Keys that nothing was made of, when the turns were made of `used`."""
        return (self._record.keys() - used - self._used) | self.unused


def _history(value: Any, unused: set[str]) -> list[Message]:
    """Earlier turns, read only: pairs of a question and its answer, or messages."""
    if not isinstance(value, list):
        raise RecordError(f"'history' is {kind(value)}; expected a list of earlier turns")
    if value and isinstance(value[0], dict):
        return read_only(chat(value, "history", unused))
    turns = []
    for i, pair in enumerate(value):
        if not isinstance(pair, list) or len(pair) != 2:
            raise RecordError(f"history[{i}] is no pair of a question and its answer")
        asked, said = (checked(one, f"history[{i}]") for one in pair)
        turns += [Message("user", asked, False), Message("assistant", said, False)]
    return turns


def alpaca(record: Mapping[str, Any]) -> Message:
    """The question of Alpaca's form: an instruction, and its input below it where it has one."""
    asked = text(record, "instruction")
    given = text(record, "input") if "input" in record else ""
    return Message("user", f"{asked}\n\n{given}" if given.strip() else asked)


def _missing(what: str, names: tuple[str, ...], record: Mapping[str, Any]) -> RecordError:
    if not record:
        return RecordError("an empty record")
    for name in (*names, *CHATS):
        if nearest := near(name, record):
            said = f"did you mean {name!r} where it says {nearest!r}?"
            return RecordError(f"no field {name!r}; {said}")
    fields = ", ".join(map(repr, list(record)[:8]))
    if "text" in record and what == "completion":
        return RecordError(
            f"no completion: the fields are {fields}",
            f"{NAME_KEYS}; data.fields.text=text to learn from that text alone",
        )
    if {"chosen", "rejected"} <= record.keys():
        hint = "pairs of answers are read with data=pairs, and learned with method=dpo"
        return RecordError(f"no {what}: the fields are {fields}", hint)
    return RecordError(f"no {what}: the fields are {fields}", NAME_KEYS)


def _pair(
    record: Mapping[str, Any], prompt: str, completion: str, unused: set[str]
) -> tuple[Message, ...]:
    if isinstance(record[prompt], list) or isinstance(record[completion], list):
        before = chat(record[prompt], prompt, unused)
        after = chat(record[completion], completion, unused)
        # What lies in the prompt was said before: it is read, not learned from.
        return tuple(read_only(before) + after)
    return Message("user", text(record, prompt)), Message("assistant", text(record, completion))


def _check_order(messages: tuple[Message, ...]) -> None:
    if messages[-1].role != "assistant":
        raise RecordError(
            f"the last message is the {messages[-1].role}'s; expected the assistant's"
        )
    if not any(message.role == "assistant" and message.scored for message in messages):
        raise RecordError("no answer of the assistant has weight 1: nothing to learn from")
