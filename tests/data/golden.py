"""Data sets of every form, and digests of the batches that a run makes of them.

The digests in `test_token_cache.py` are those of the code that tokenised examples span by span and
kept their trees in memory: whatever makes batches must make the same.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from myosotis.data import sources
from myosotis.data.convert import viewed
from myosotis.data.datamodule import ExampleModule, StepLoader
from myosotis.data.kinds import kind_of
from myosotis.data.template_text import TemplateOptions
from myosotis.trees.tree import Tree, digest
from tests.data.conftest import byte_level, sentence_piece

WORDS = [
    "the",
    "answer",
    "is",
    "in",
    "prompt",
    "and",
    "hello",
    "there",
    "one",
    "two",
    "three",
    "why",
]
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}"
    "{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)


def said(i: int, k: int, count: int) -> str:
    return " ".join(WORDS[(i * j + k * j * j + j) % len(WORDS)] for j in range(1, count + 1))


def answer(i: int) -> dict[str, Any]:
    return {"prompt": f"{said(i, 1, 5)} {i}", "completion": said(i, 2, 3 + i % 9)}


def chat(i: int) -> dict[str, Any]:
    turns = [
        {"role": "system", "content": "be kind <|im_end|> always"},
        {"role": "user", "content": f"{i} {said(i, 1, 4)}"},
        {"role": "assistant", "content": said(i, 2, 4), "weight": i % 2},
        {"role": "user", "content": said(i, 3, 3)},
        {"role": "assistant", "content": f"{said(i, 4, 5)} <|im_start|>"},
    ]
    return {"messages": turns[i % 3 == 0 :]}


def pair(i: int) -> dict[str, Any]:
    both = {"chosen": said(i, 2, 4 + i % 5), "rejected": said(i, 3, 4 + i % 3) + " no"}
    return {"prompt": f"{i} {said(i, 1, 6)}", **both}


def grade(i: int) -> dict[str, Any]:
    return answer(i) | {"label": i % 3 != 0}


def text(i: int) -> dict[str, Any]:
    return {"text": f"{i} {said(i, 1, 12 + 40 * (i % 4 == 0))}"}


def label(i: int) -> dict[str, Any]:
    return {"prompt": f"{i} {said(i, 1, 6)}", "completion": ["yes", "no", "maybe"][i % 3]}


CASES: dict[str, dict[str, Any]] = {
    "answers": {"of": answer},
    "answers without a template": {"of": answer, "template": "none"},
    "answers of a sentence piece": {"of": answer, "tokenizer": "sentence_piece"},
    "cut answers": {"of": answer, "max_length": 64, "overlong": "truncate"},
    "dropped answers": {"of": answer, "max_length": 64},
    "chats": {"of": chat},
    "chats, all scored": {"of": chat, "mask": "full"},
    "chats, last answer": {"of": chat, "mask": "last"},
    "pairs": {"of": pair, "reads": "pairs", "as": "pairs"},
    "pairs as answers": {"of": pair, "reads": "pairs"},
    "pairs as grades": {"of": pair, "reads": "pairs", "as": "grades"},
    "grades": {"of": grade, "reads": "grades", "as": "grades"},
    "rewards": {"of": pair, "reads": "pairs", "as": "pairs", "rewards": True},
    "labels": {"of": label, "labels": True},
    "texts": {"of": text, "max_length": 64},
    "two sources": {"of": answer, "sources": 2},
}


def module(case: dict[str, Any], place: Path, count: int) -> ExampleModule:
    """The data of a case, of `count` records."""
    lines = [json.dumps(case["of"](i)) + "\n" for i in range(count)]
    cut = count // 3 if "sources" in case else 0
    (place / "a.jsonl").write_text("".join(lines[cut:]))
    where: dict[str, Any] = {"path": place / "a.jsonl"}
    if cut:
        (place / "b.jsonl").write_text("".join(lines[:cut]))
        weights = {"a.jsonl": 3, "b.jsonl": 1}
        listed = [{"path": str(place / name), "weight": w} for name, w in weights.items()]
        where = {"sources": listed}
    dataset = sources.files(**where, reads=case.get("reads", "answers"))
    dataset = viewed(dataset, case.get("as", "answers"), "one")
    kind = kind_of(
        dataset, reads_labels="labels" in case, needs_value_head=case.get("rewards", False)
    )
    piece = case.get("tokenizer") == "sentence_piece"
    tokenizer = sentence_piece(INST) if piece else byte_level()
    options = TemplateOptions(mask=case.get("mask", "answers"))
    return ExampleModule(
        dataset,
        kind.renderer(tokenizer, case.get("template", "chat"), options),
        kind=kind,
        batch_size=5,
        max_length=case.get("max_length", 512),
        overlong=case.get("overlong", "drop"),
        seed=3,
    )


def summary(data: ExampleModule) -> str:
    """A digest of all that a run makes of its data: the batches of two epochs, what is held out,
    what did not fit, and of which examples the trees are."""
    loader = StepLoader(data.train_trees, data.batch_size, data.seed, order=data.order())
    found = hashlib.sha256()
    for epoch in range(2):
        for step in range(len(loader)):
            found.update(_trees(loader.step(epoch, step)).encode())
    found.update(_trees(data.validation_trees).encode() + _trees(data.test_trees).encode())
    for part, encoded in sorted(data.encoded.items()):
        lengths = [[int(a), int(b)] for a, b in encoded.lengths]
        places = [example.where for example in encoded.examples]
        told = [part, encoded.counts(), encoded.warnings(part), lengths, places]
        found.update(json.dumps(told).encode())
    return found.hexdigest()[:16]


def _trees(trees: Any) -> str:
    others = [tree.other for tree in trees if isinstance(tree, Tree) and tree.other is not None]
    grades = str([tree.grade for tree in trees])
    return digest(grades, trees) + digest("", others)
