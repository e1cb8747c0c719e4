"""Examples in the forms that hosted services take, held against what those services publish.

What belongs here: which record an example becomes for whom, and what is wrong with one that cannot.
The limits are those of the services' guides (OpenAI: "Supervised fine-tuning" and "Direct
preference optimization"; Together: "Data preparation"; Hugging Face: TRL's "Dataset formats"), as
of 2025; a service may have changed its own since.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from myosotis.data.conversation import Message
from myosotis.data.sft import Example

MB = 1024 * 1024


@dataclass(frozen=True)
class Service:
    """What a service takes: `roles` of messages, at least `fewest` examples, files of at most
    `most_bytes`, examples of at most `most_tokens` (by its own tokenizer)."""

    name: str
    roles: tuple[str, ...]
    fewest: int = 1
    most_bytes: int | None = None
    most_tokens: int | None = None
    tools: bool = False
    weights: bool = True  # a turn of the assistant may be read only
    written_calls: bool = False  # arguments of a call are text, and results name the call's id
    alternates: bool = False  # user and assistant take turns
    text: bool = True  # plain text
    grades: bool = False  # single answers that are to give, or not to give


SERVICES = {
    service.name: service
    for service in (
        Service(
            "openai",
            ("system", "developer", "user", "assistant", "tool"),
            fewest=10,
            most_bytes=512 * MB,
            most_tokens=65_536,
            tools=True,
            written_calls=True,
            text=False,
        ),
        Service(
            "together",
            ("system", "user", "assistant"),
            most_bytes=100 * 1024 * MB,
            alternates=True,
        ),
        Service(
            "hf",
            ("system", "developer", "user", "assistant", "tool"),
            tools=True,
            weights=False,
            grades=True,
        ),
    )
}


def learned_of_last(examples: Sequence[Example]) -> bool:
    """Whether of every conversation nothing but its last answer is learned: a prompt and an answer
    say so in the records of a service without weights."""
    return not any(
        message.scored and message.role == "assistant" and place < len(example.messages) - 1
        for example in examples
        for place, message in enumerate(example.messages)
    )


def record_of(example: Example, service: Service, *, last: bool = False) -> dict[str, Any]:
    """The record of an example, as the service has it; `last`: only its last answer is learned."""
    example = _numbered(example) if service.written_calls else example
    if not example.completion_only:
        return {"text": example.completion}
    more: dict[str, Any] = {"tools": json.loads(example.tools)} if example.tools else {}
    before = [_message(m, service, context=True) for m in example.prompt]
    answer = _message(example.messages[-1], service, context=True)
    if example.rejected is not None:
        worse = [_message(example.with_rejected().messages[-1], service, context=True)]
        if service.name == "hf":
            return {"prompt": before, "chosen": [answer], "rejected": worse, **more}
        return {
            "input": {"messages": before, **more},
            "preferred_output": [answer],
            "non_preferred_output": worse,
        }
    if example.desirable is not None:
        return {"prompt": before, "completion": [answer], "label": example.desirable, **more}
    if last and not service.weights:
        return {"prompt": before, "completion": [answer], **more}
    return {"messages": [_message(m, service) for m in example.messages], **more}


def _numbered(example: Example) -> Example:
    """Every call of a tool with an id, and every result with that of the call that it answers: the
    first of the turn before that has its name (or any, where it has none) and no result yet."""
    turns: list[Message] = []
    open_calls: list[dict[str, Any]] = []
    count = 0
    for message in example.messages:
        if message.calls:
            open_calls = json.loads(message.calls)
            for call in open_calls:
                count += 1
                call.setdefault("id", f"call_{count}")
                arguments = call["function"].get("arguments", {})
                if not isinstance(arguments, str):
                    call["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)
            message = replace(message, calls=json.dumps(open_calls, ensure_ascii=False))
        elif message.role == "tool":
            answered = _answered(message, open_calls)
            if answered is not None:
                open_calls = [call for call in open_calls if call is not answered]
                message = replace(message, call_id=answered["id"], name="")
        turns.append(message)
    return replace(example, messages=tuple(turns))


def _answered(result: Message, calls: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The call that a result answers."""
    for call in calls:
        if result.call_id and call["id"] == result.call_id:
            return call
        if not result.call_id and result.name in ("", call["function"]["name"]):
            return call
    return None


def _message(message: Message, service: Service, *, context: bool = False) -> dict[str, Any]:
    """A turn; `context` where nothing is said about learning it."""
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        told["tool_calls"] = json.loads(message.calls)
    if message.name:
        told["name"] = message.name
    if message.call_id:
        told["tool_call_id"] = message.call_id
    if service.weights and not context and message.role == "assistant" and not message.scored:
        told["weight"] = 0
    return told


def faults(example: Example, service: Service, tokens: int = 0, *, last: bool = False) -> list[str]:
    """What the service would refuse of an example, or silently leave out of it, a clause each;
    `tokens` are those of the example by another tokenizer, to compare with the limit. `last`: only
    the last answers are learned, of all examples of the file."""
    found = []
    if not example.completion_only:
        return [] if service.text else ["plain text, which the service does not learn from"]
    if example.desirable is not None and not service.grades:
        found.append("a graded answer, which the service does not learn from (objective=sft)")
    roles = [message.role for message in example.messages]
    if odd := sorted(set(roles) - set(service.roles)):
        found.append(f"a turn of the {odd[0]}, which the service does not know")
    if not service.tools and (example.tools or any(m.calls for m in example.messages)):
        found.append("tools, which the service does not take")
    if any(message.reasoning for message in example.messages):
        found.append("reasoning, which has no place in its records (data.reasoning=drop)")
    answers = [message for message in example.messages if message.role == "assistant"]
    if not service.weights and not last and not all(message.scored for message in answers):
        found.append("a turn that is only to be read, which its records cannot say")
    if service.written_calls and not _paired(_numbered(example)):
        found.append("calls of tools and their results, which do not pair")
    if service.alternates:
        found += _alternation(roles)
    texts = [example.messages[-1].content, example.rejected]
    if any(text is not None and not text.strip() for text in texts) and not any(
        message.calls for message in example.messages[-1:]
    ):
        found.append("an answer without text")
    if service.most_tokens is not None and tokens > service.most_tokens:
        found.append(f"{tokens:,} tokens, above the limit of {service.most_tokens:,}")
    return found


def _paired(example: Example) -> bool:
    """Whether every call but those of the last turn has one result behind it, and every result a
    call."""
    waiting: set[str] = set()
    for message in example.messages:
        if message.role == "tool":
            if message.call_id not in waiting:
                return False
            waiting.remove(message.call_id)
        elif waiting:
            return False
        if message.calls:
            waiting = {call["id"] for call in json.loads(message.calls)}
    return not waiting or bool(example.messages[-1].calls)


def _alternation(roles: Sequence[str]) -> list[str]:
    turns = list(roles[1:] if roles[:1] == ["system"] else roles)
    wanted = ["user" if i % 2 == 0 else "assistant" for i in range(len(turns))]
    return [] if turns == wanted else ["turns that do not alternate between user and assistant"]


@dataclass(frozen=True)
class Price:
    """What tuning costs and when it pays; prices are of 1,000 tokens, in any currency."""

    tokens: int  # of one pass over the data
    epochs: float
    per_thousand: float

    @property
    def training(self) -> float:
        """tokens × epochs × price."""
        return self.tokens * self.epochs * self.per_thousand / 1000

    def pays_after(
        self, *, call_tokens: float, saved_tokens: float, base_price: float, tuned_price: float
    ) -> int | None:
        """Calls after which the training has paid for itself; None: never.

        A call of the tuned model has `call_tokens`, one of the base `saved_tokens` more: examples
        and instructions that tuning makes needless.
        """
        saved = (call_tokens + saved_tokens) * base_price - call_tokens * tuned_price
        if saved <= 0:
            return None
        calls = self.training / (saved / 1000)
        return -int(-calls // 1)


def lines_of(
    examples: Sequence[Example],
    service: Service,
    written: Callable[[str], object],
    *,
    last: bool = False,
) -> None:
    """Hand each record to `written`, a line of JSON each; `last` as in `record_of`."""
    for example in examples:
        written(json.dumps(record_of(example, service, last=last), ensure_ascii=False) + "\n")
