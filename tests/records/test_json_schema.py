"""The JSON Schema of the run record says what the reader accepts, and is the one in docs/."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from myosotis.records.codec import plain
from myosotis.records.json_schema import json_schema
from myosotis.records.schema import RunRecord
from myosotis.utils.errors import DataError
from tests.report import made
from tests.report.conftest import make_record

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
DOCS = Path(__file__).parents[2] / "docs"


def valid(document: Any) -> bool:
    return jsonschema.Draft202012Validator(json_schema()).is_valid(document)


def test_the_schema_in_docs_is_up_to_date():
    assert json.loads((DOCS / "record.schema.json").read_text()) == json_schema(), (
        "python -m myosotis.records.json_schema > docs/record.schema.json"
    )
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_our_own_records_are_valid():
    for record in (make_record(), *made.rank_lr()[:2], *made.preferences()[:1], RunRecord("x")):
        assert valid(plain(record))


def test_the_example_in_the_documentation_is_valid_and_read():
    (text,) = re.findall(r"```json\n(.*?)```", (DOCS / "record.md").read_text(), re.DOTALL)
    assert valid(json.loads(text))
    assert RunRecord.from_json(text).status == "FINISHED"


@pytest.mark.parametrize(
    "change",
    [
        {"run_id": None},
        {"schema": 2},
        {"status": "done"},
        {"task": {"delta": 0.1}},
        {"task": {"metric": "acc", "delta": "much"}},
        {"retention": {"piqa": 0.5}},
        {"cost": {"train_seconds": "long"}},
        {"halves": {"selection": 3}},
    ],
)
def test_schema_and_reader_refuse_the_same(change: dict[str, Any]):
    document = {**plain(RunRecord("x")), **change}
    assert not valid(document)
    with pytest.raises(DataError):
        RunRecord.from_json(json.dumps(document))
