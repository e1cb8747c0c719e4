"""Labelled data: the answer is one of a few names, and is asked for as a number instead of text.

An example keeps its prompt as any other. Its answer is no text that the model reads: after the
prompt a classifier is asked for its label (updates/linear_probe.py). A reward model is asked for a
single number in the same way, after the answer (updates/value_head.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from myosotis.data.chat_template import ChatRenderer, Draft, Rendered
from myosotis.data.example import Dataset
from myosotis.data.sft import Example
from myosotis.data.template_text import TemplateOptions
from myosotis.trees.tree import Path, Target
from myosotis.utils.errors import DataError

FEWEST_EACH = 3
"""Training examples a label, on average, below which the answers are taken for free text."""


class LabelRenderer(ChatRenderer):
    """Renders prompts as `ChatRenderer` does, and answers as label numbers."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        kind: Literal["chat", "none"],
        labels: Sequence[str],
        options: TemplateOptions | None = None,
    ) -> None:
        super().__init__(tokenizer, kind, options)
        self.labels = list(labels)
        self._numbers = {name: k for k, name in enumerate(labels)}

    def identity(self) -> dict[str, Any] | None:
        known = super().identity()
        return known and known | {"labels": self.labels}

    def draft(self, example: Example) -> Draft:
        spans = self.prompt_spans(example.prompt, example.tools)
        messages, _ = self.options.prepared(example.prompt)
        scored = [False] * len(messages)
        notes = self.notes(messages, scored, spans, example.where, example.tools)
        return Draft(example, spans, notes)

    def finished(self, draft: Draft, path: Path) -> Rendered:
        label = self._numbers[draft.example.completion.strip()]
        asked = Path(path.ids, [0.0] * len(path.ids), Target.LABEL, label)
        return Rendered(asked, draft.notes)

    def asked(self, path: Path) -> str:
        return f"[{self.labels[path.label]}]" * (path.target is Target.LABEL)


class RewardRenderer(ChatRenderer):
    """Renders text as `ChatRenderer` does; after its last token a number is asked for."""

    def finished(self, draft: Draft, path: Path) -> Rendered:
        path, notes = super().finished(draft, path)
        return Rendered(Path(path.ids, [0.0] * len(path.ids), Target.VALUE), notes)

    def asked(self, path: Path) -> str:
        return "[reward]" * (path.target is Target.VALUE)

    def of_text(self) -> ChatRenderer:
        return ChatRenderer(self.tokenizer, self.kind, self.options)


def labels_of(dataset: Dataset) -> list[str]:
    """The label names of a data set, sorted. Raises `DataError` when its answers are no labels."""
    names = sorted({e.completion.strip() for part in dataset.parts().values() for e in part})
    learned = {e.completion.strip() for e in dataset.train}
    if len(names) < 2 or len(dataset.train) < FEWEST_EACH * len(names):
        raise DataError(
            f"{dataset.name} is no labelled data set: {len(dataset.train)} training examples have "
            f"{len(learned)} different answers",
            "update=probe learns which of a few names answers a text; take method=lora for free "
            "text, or name the label's field with data.fields.completion",
        )
    if unseen := sorted(set(names) - learned):
        raise DataError(
            f"held-out examples of {dataset.name} have a label that is never trained on: "
            f"{', '.join(unseen[:3])}",
            "another data.split_seed, or files in which every label appears",
        )
    return names
