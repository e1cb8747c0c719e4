"""The page: the same bytes for the same records, complete, and deaf to hostile text."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from myosotis.records.schema import KL, AtStart, RunRecord, SuiteVerdict
from myosotis.report.export import render_csv, render_json
from myosotis.report.markdown import render_markdown
from myosotis.report.scorecard import render_html, scorecard
from myosotis.utils.errors import ConfigError, DataError

from . import made
from .conftest import make_record

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements with their attributes, in order, the text, and whether tags are balanced."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kept = tuple((k, v if k in ("class", "id", "http-equiv") else "") for k, v in attrs)
        self.elements.append((tag, kept))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["title"], ["script"]):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_same_records_same_bytes(tmp_path: Path, record: RunRecord):
    one = scorecard(record, tmp_path / "a.html").read_bytes()
    record.save(tmp_path / "record.json")
    again = scorecard([RunRecord.load(tmp_path / "record.json")], tmp_path / "b.html")
    assert again.read_bytes() == one
    assert len(one) < 200_000


def test_it_answers_in_order(record: RunRecord):
    text = Page(render_html([record])).text
    asked = [
        "slipped",
        "Learned its task; the benchmarks are measurably worse, which may or may not exceed",
        "Task answer log-likelihood",
        "Benchmarks mean accuracy of 3",
        "General text (Python's documentation) bits per byte",
        "SmolLM2-135M-Instruct lora r=16 docstrings (4 000 examples)",
        "200 items per benchmark seed 0 11 min 34 s",
        "To settle: 810 more items, about 2 min 08 s (retention.items=470).",
        "myosotis train method=lora",
        "SVG · CSV · all numbers as CSV",
        "dequantised from Q4_1",
        "3 of 4000 training examples were longer",
        "In words",
        "+0.803; 95 % interval +0.722 to +0.884",
        "Forgetting against learning",
        "What it learned",
        "What it kept",
        "arc_easy",
        "While it trained",
        "Turning it down",
        "What it got wrong that the base got right",
        "a copper rod",
        "In its own words",
        "Clip an array to a minimum and a maximum.",
        "What it cost",
        "6 min 42 s",
        "To run it again",
        "myosotis train method=lora data=docstrings trainer.max_steps=120",
        "0a08646e0c1d with uncommitted changes",
        "update.r",
    ]
    at = 0
    for said in asked:
        assert said in text[at:], said
        at = text.index(said, at)


def test_nothing_is_fetched_and_only_the_pages_own_script_may_run(record: RunRecord):
    page = render_html([record, record])
    parsed = Page(page)
    names = [tag for tag, _ in parsed.elements]
    assert not {"iframe", "object", "embed", "img", "form", "base"} & set(names)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page
    assert names.count("script") == 1 and len(script.splitlines()) < 130
    attributes = {key for _, attrs in parsed.elements for key, _ in attrs}
    assert not {key for key in attributes if key.startswith("on") or key in ("style", "src")}
    assert "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page


def test_ids_are_unique_and_labels_refer_to_them(record: RunRecord):
    parsed = Page(render_html([record, record, record]))
    ids = [value for _, attrs in parsed.elements for key, value in attrs if key == "id"]
    assert len(ids) == len(set(ids)) > 10


def test_an_empty_record_shows_what_is_missing():
    text = Page(render_html([RunRecord("x")])).text
    for said in (
        "This run has no result yet.",
        "Task quality was not measured.",
        "No benchmark was measured.",
        "No cost was recorded.",
        "The command was not recorded.",
        "not recorded",
    ):
        assert said in text


def test_a_comparison_of_logs_names_them_and_has_no_task(record: RunRecord):
    """Nothing on the page says what a comparison lacks: it has no task, no data, no weights."""
    record.task, record.baselines = None, []
    log = {"log": "logs/base/a.jsonl", "kind": "lm-eval", "model": "base<b>", "tool": "lm_eval 0.4"}
    record.config = {"compare": {"base": log, "tuned": log | {"log": "logs/tuned/a.jsonl"}}}
    text = Page(render_html([record])).text
    assert "Log of the base model logs/base/a.jsonl, lm-eval, base<b>, lm_eval 0.4" in text
    assert "Log of the tuned model logs/tuned/a.jsonl" in text
    for lacking in ("What it learned", "task was not measured", "Data content", "Weights"):
        assert lacking not in text


def test_a_failed_run_is_in_plain_sight(record: RunRecord):
    record.status, record.error = "FAILED", "The loss became infinite at step 43."
    text = Page(render_html([record])).text
    assert text.index("failed") < text.index("The loss became infinite at step 43.") < 1200


def test_each_missing_number_is_a_dash_not_a_zero(record: RunRecord):
    row = record.retention[0]
    for part in dataclasses.fields(row):
        if part.name not in ("task", "metric", "higher_is_better", "verdict", "note"):
            setattr(row, part.name, None)
    text = Page(render_html([record])).text
    assert "no interval" in text
    assert "None" not in text
    assert "nan" not in text.lower().split()


def test_non_finite_numbers_in_memory_are_missing(tmp_path: Path, record: RunRecord):
    record.retention[0].lo = float("nan")
    record.cost["peak_memory_gb"] = float("inf")
    page = scorecard(record, tmp_path / "x.html").read_text()
    assert "no interval" in page


def test_formats_follow_the_ending(tmp_path: Path, record: RunRecord):
    said = scorecard(record, tmp_path / "card.md").read_text()
    assert said.startswith("# Learned its task; the benchmarks are measurably worse")
    assert "| arc\\_easy | 50.5 % | 47.0 % | −3.5 | −6.5 to −0.5 | 2.5 | slipped | 200 |" in said
    document = json.loads(scorecard(record, tmp_path / "card.json").read_text())
    assert document["headline"].startswith("Learned its task")
    assert document["runs"][0]["record"]["run_id"] == record.run_id
    (line,) = csv.DictReader(scorecard(record, tmp_path / "card.csv").open())
    assert float(line["retention/arc_easy/delta"]) == -0.035
    assert scorecard(record, tmp_path).name == "scorecard.html"
    with pytest.raises(ConfigError, match="--format pdf"):
        scorecard(record, tmp_path / "x", "pdf")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no runs"):
        scorecard([], tmp_path / "x.html")


def test_markdown_text_cannot_leave_its_place(tmp_path: Path, record: RunRecord):
    record.run_name = "a | b\n# <b>c</b> [d](e)"
    said = scorecard(record, tmp_path / "card.md").read_text()
    assert "a \\| b \\# &lt;b&gt;c&lt;/b&gt; \\[d\\](e)" in said


def test_report_imports_nothing_heavy():
    """Also not through the errors and the record: a scorecard is made where no model ever was."""
    code = (
        "import sys; import myosotis.report.scorecard; "
        "print([m for m in ('torch', 'lightning', 'mlflow', 'transformers', 'numpy', 'pandas', "
        "'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- hostile text and numbers ----------------------------------------------------------------


def with_text(value: Any, extra: str, key: str = "") -> Any:
    """A copy with `extra` after every string, keys of mappings included, but for the status."""
    if isinstance(value, str):
        return value if key == "status" else value + extra
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = dataclasses.fields(value)
        return dataclasses.replace(
            value, **{p.name: with_text(getattr(value, p.name), extra, p.name) for p in parts}
        )
    if isinstance(value, dict):
        return {name + extra: with_text(item, extra) for name, item in value.items()}
    if isinstance(value, list):
        return [with_text(item, extra) for item in value]
    return value


HOSTILE = [
    "</style><script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "' onmouseover='window.pwned=1",
    "</textarea></title></svg><svg onload=window.pwned=1>",
    "{{ 7*7 }}{% raw %}",
    "<!-- ]]> --!> <![CDATA[",
    "&lt;script&gt;&#60;b&#62;",
    "\x00\x1b[31m\u202eevil\u2066\ufffe\ud800",
    "W" * 3000,
    "ก็็็็็็็็็็็็็็็็็็็็" * 20,
    "javascript:alert(1)",
    "\n\n\n# h\n| a |",
]


def study() -> list[RunRecord]:
    """Few settings of every kind: several seeds, a dial, a failure, preferences."""
    return [*made.rank_lr()[6:12], *made.rank_lr()[-3:], *made.preferences()[:2]]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(text: str):
    plain = Page(render_html([with_text(make_record(), "x")]))
    hostile = Page(render_html([with_text(make_record(), text)]))
    assert hostile.elements == plain.elements


@cache
def harmless() -> Page:
    return Page(render_html([with_text(record, "x") for record in study()]))


@pytest.mark.parametrize(
    "text", [" ".join(t for t in HOSTILE if len(t) < 100), *(t for t in HOSTILE if len(t) >= 100)]
)
def test_hostile_text_is_text_in_a_study(text: str):
    hostile = Page(render_html([with_text(record, text) for record in study()]))
    assert hostile.elements == harmless().elements


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(), min_size=1, max_size=60))
def test_any_text_leaves_the_page_as_it_was(text: str):
    plain = Page(render_html([with_text(make_record(), "x")]))
    fuzzed = Page(render_html([with_text(make_record(), "x" + text)]))
    assert fuzzed.elements == plain.elements


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(), min_size=1, max_size=60))
def test_any_text_leaves_a_study_as_it_was(text: str):
    fuzzed = Page(render_html([with_text(record, "x" + text) for record in study()]))
    assert fuzzed.elements == harmless().elements


def with_numbers(value: Any, numbers: Any) -> Any:
    """A copy with every float and optional number replaced by the next of `numbers`."""
    if isinstance(value, float):
        return next(numbers)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = dataclasses.fields(value)
        return dataclasses.replace(
            value, **{p.name: with_numbers(getattr(value, p.name), numbers) for p in parts}
        )
    if isinstance(value, dict):
        return {name: with_numbers(item, numbers) for name, item in value.items()}
    if isinstance(value, list):
        return [with_numbers(item, numbers) for item in value]
    return value


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_numbers_can_be_drawn(data: st.DataObject):
    record = make_record()
    record.curves = record.curves[-40:]
    few = [record, *study()[4:8]]
    pool = data.draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4))
    rest = iter(lambda: pool[len(used) % len(pool)], object())
    used: list[float] = []

    def numbers():
        for number in rest:
            used.append(number)
            yield number

    for records in (few[:1], few[1:]):
        changed = [with_numbers(record, numbers()) for record in records]
        page = render_html(changed)
        Page(page)
        assert "nan" not in page.split("</style>")[1].replace("inan", "")
        assert "inf%" not in page
        json.loads(render_json(changed))
        render_markdown(changed)
        render_csv(changed)


def test_shift_of_predictions_and_what_was_there_before_training(record: RunRecord) -> None:
    assert "How far the predictions moved" not in render_html([record])
    record.shift = [KL("task", 0.31, 0.2, 0.4, 32, 900), KL("general", 0.0123, 0.01, 0.02)]
    page = render_html([record])
    assert "How far the predictions moved" in page and "answers of the task" in page
    assert "0.310" in page and "0.0123" in page and "before the first step" not in page
    verdict = SuiteVerdict(delta=-0.1, lo=-0.15, hi=-0.05, verdict="forgotten")
    record.at_start = AtStart(verdict, [KL("task", 0.25), KL("general", 0.002)])
    page = render_html([record])
    assert "the mean of the benchmarks had changed by −10.0 points (−15.0 to −5.0)" in page
    assert "0.250" in page


def test_calibration_and_budget_above_chance_stand_in_the_table(record: RunRecord) -> None:
    row = record.retention[0]
    row.ece_base, row.ece_tuned, row.epsilon_above_chance = 0.051, 0.123, 0.114
    page = render_html([record])
    assert "5.1 % → 12.3 %" in page and "11.4 % of what is above chance" in page
