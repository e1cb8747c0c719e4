"""Markers of chat templates in the text of a data set.

Text that was rendered for some model already, and is rendered again for this one, teaches neither
form; a file that mixes two forms teaches whichever came last. Only what a template writes counts: a
lone `<|im_end|>` in a text about tokenizers does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from myosotis.data.sft import Example
from myosotis.utils.errors import DataError

MARKERS = {
    "chatml": r"<\|im_start\|>\s*(?:system|user|assistant|tool)\b",
    "alpaca": r"^### (?:Instruction|Response):",
    "guanaco": r"^### (?:Human|Assistant):",
    "llama2": r"\[INST\][\s\S]*?\[/INST\]|<<SYS>>",
    "llama3": r"<\|start_header_id\|>",
    "gemma": r"<start_of_turn>(?:user|model)\b",
    "phi": r"<\|(?:system|user|assistant)\|>",
    "deepseek": r"<｜(?:User|Assistant)｜>",
    "vicuna": r"^USER: [\s\S]*?ASSISTANT:",
    "plain": r"^(?:User|Human): [\s\S]*?^Assistant:",
    "harmony": r"<\|start\|>(?:system|developer|user|assistant)\b",
    "cohere": r"<\|START_OF_TURN_TOKEN\|>",
    "granite": r"<\|start_of_role\|>",
}
_PATTERNS = {name: re.compile(pattern, re.MULTILINE) for name, pattern in MARKERS.items()}
_ANY = re.compile(
    r"<\||<｜|<<SYS>>|\[INST\]|<start_of_turn>|^### |ASSISTANT:|^Assistant:", re.MULTILINE
)


@dataclass(frozen=True)
class Marked:
    """Of one template: how many examples hold its markers, and where the first stands."""

    template: str
    count: int
    first: str


def marked(examples: Iterable[Example]) -> list[Marked]:
    """The templates whose markers stand in the text of the examples, the most frequent first."""
    counts: dict[str, list[str]] = {}
    for example in examples:
        texts = [one for m in example.messages for one in (m.content, m.reasoning)]
        texts.append(example.rejected or "")
        text = "\n".join(one for one in texts if _ANY.search(one))
        for name, pattern in _PATTERNS.items():
            if text and pattern.search(text):
                counts.setdefault(name, []).append(example.where)
    found = [Marked(name, len(where), where[0]) for name, where in counts.items()]
    return sorted(found, key=lambda one: -one.count)


def check_markers(found: list[Marked], *, rendered: bool, allowed: bool) -> list[str]:
    """A sentence on what was found, for a person to read.

    Without a template of the model's (`rendered=False`) the text may be written in one form of its
    own. Raises `DataError` for anything else, unless it is `allowed`.
    """
    if not found or (not rendered and len(found) == 1):
        return []
    listed = ", ".join(f"{one.template} ({one.count}, such as {one.first})" for one in found)
    sentence = f"the text holds markers of chat templates: {listed}"
    if allowed:
        return [sentence]
    if len(found) > 1:
        hint = "one form for all: write prompts and answers without markers"
    else:
        hint = "write prompts and answers without markers, or keep them with data.template=none"
    why = "the model's own would be put around them" if rendered else "they mix"
    raise DataError(
        f"{sentence}; {why}", f"{hint}; data.allow_markers=true trains on them as they are"
    )
