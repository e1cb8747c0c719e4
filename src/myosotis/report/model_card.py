"""The README.md beside an exported model: what it is, what it stands on, what it learned and lost.

In the form that the hub reads. It names no file of this machine: a card is published.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from myosotis.records.schema import RunRecord
from myosotis.report.markdown import render_markdown
from myosotis.utils.escape import line, markdown

ADAPTER = """from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(base, "FOLDER")"""
MERGED = """from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("FOLDER")"""


def model_card(record: RunRecord, *, base: str | None, peft: bool, whole: bool) -> str:
    """Markdown with the hub's front matter. `base` is the hub's name of the base, if it has one;
    `whole` says that the folder is a model of its own, `peft` that PEFT reads it."""
    library = "transformers" if whole else "peft" if peft else "myosotis"
    head = ["---", f"library_name: {library}"]
    head += [f"base_model: {json.dumps(line(base), ensure_ascii=False)}"] if base else []
    head += ["pipeline_tag: text-generation", "tags:", "- myosotis"]
    head += [f"- {record.update.name}"] if record.update.name in ("lora", "ia3") else []
    said = render_markdown([replace(record, command=[])]).rstrip()
    return "\n".join([*head, "---", "", said, "", *_origin(record, base), *_use(base, peft, whole)])


def _origin(record: RunRecord, base: str | None) -> Sequence[str]:
    model = record.model
    name = markdown(base or model.id)
    note = f" ({markdown(model.note)})" if model.note else ""
    trained = f"{record.update.trainable:,} of {record.update.total:,} parameters"
    return [
        f"- Base: {name}{note}, sha256 of its files {model.content_hash[:16]}",
        f"- Update: {markdown(record.update.name)}, {trained} trained",
        f"- Data: {markdown(record.data.name)}",
        "",
    ]


def _use(base: str | None, peft: bool, whole: bool) -> Sequence[str]:
    if not (whole or peft):
        return ["Read by `myosotis evaluate FOLDER --base MODEL`.", ""]
    named = json.dumps(line(base or "BASE"), ensure_ascii=False)
    code = MERGED if whole else ADAPTER.replace("{base}", named)
    return ["```python", code, "```", ""]
