"""Graded answers: a prompt, one answer, and whether it is one to give (KTO's data).

    {"prompt": "…", "completion": "…", "label": true}       label, kto_tag or desirable; 1 and 0 too
    {"messages": [messages …], "kto_tag": false}

Everything else is as in sft.py. Answers without text are left out and counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from myosotis.data.conversation import meant, one_of
from myosotis.data.fields import Fields
from myosotis.data.places import Place
from myosotis.data.records import RecordError, kind
from myosotis.data.sft import AnswerReader, Records, each_record
from myosotis.utils.errors import DataError

LABELS = ("label", "kto_tag", "desirable")
WORDS = {"true": True, "false": False, "1": True, "0": False}


def read_grades(path: Place, fields: Fields | None = None) -> Records:
    """Read and check all records of a place. Raises `DataError` for lines without an answer or a
    grade."""
    reader, records = AnswerReader(), Records([])

    def add(record: dict[str, Any], where: str) -> None:
        name = one_of(LABELS, record)
        if name is None:
            raise RecordError(f"no field 'label'{meant('label', record)}")
        grade = record[name]
        if isinstance(grade, str):  # a table has no other values
            grade = WORDS.get(grade.strip().lower(), grade)
        if grade not in (True, False):  # 1 and 0 are equal to them
            raise RecordError(f"{name!r} is {kind(grade)}; expected true or false")
        reader.add({key: value for key, value in record.items() if key != name}, where)
        example = replace(reader.records.examples[-1], desirable=bool(grade))
        if not example.completion.strip() and not example.messages[-1].calls:
            records.empty_answers.append(where)
        else:
            records.examples.append(example)

    each_record(path, add, fields, records)
    if not records.examples:
        raise DataError(f"{path} holds no graded answers", "prompt, completion and label a line")
    records.unused.update(reader.records.unused)
    records.forms.update(reader.records.forms)
    return records
