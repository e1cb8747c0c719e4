"""Figures to take along: as links in the page, and as files for a paper."""

from __future__ import annotations

import base64
import csv
import gzip
import io
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from myosotis.records.schema import RunRecord
from myosotis.report.figure import Figure, data_link, figures_in
from myosotis.report.figures import _write, write_figures
from myosotis.report.run_page import run_view
from myosotis.report.scorecard import render_html
from myosotis.report.svg.charts import Chart, Series
from myosotis.report.sweep_page import view
from myosotis.report.tables import labelled
from myosotis.utils.errors import DataError, RunError

from . import made
from .conftest import make_record
from .test_scorecard import HOSTILE, with_text


def links(page: str, kind: str) -> list[str]:
    """What the data links of a kind hold."""
    found = re.findall(rf'href="data:{re.escape(kind)};charset=utf-8;base64,([^"]*)"', page)
    return [base64.b64decode(unescape(content)).decode() for content in found]


def test_every_figure_of_the_page_can_be_taken_along(record: RunRecord):
    page = render_html([record])
    drawings, numbers = links(page, "image/svg+xml"), links(page, "text/csv")
    # Overview, plane, task, two groups of benchmarks; of curves the loss, four benchmarks and two
    # more; two of the dial.
    assert len(drawings) == len(figures_in(run_view(record))) == 5 + 7 + 2
    assert len(numbers) == len(drawings) + 1, "and one with all numbers of the run"
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert int(root.get("width", "0")) in (336, 700)
        assert "var(--" not in drawing, "the page's colours are not there"


def test_what_is_large_is_packed_and_says_so():
    small, large = data_link("a.csv", "1,2\n"), data_link("a.csv", "1,2\n" * 20_000)
    assert small == 'href="data:text/csv;charset=utf-8;base64,MSwyCg==" download="a.csv"'
    address, _, name = large.partition(" ")
    assert name == 'download="a.csv.gz"' and len(large) < 2_000
    content = address.removeprefix('href="data:application/gzip;base64,').rstrip('"')
    assert gzip.decompress(base64.b64decode(content)) == b"1,2\n" * 20_000
    assert large == data_link("a.csv", "1,2\n" * 20_000), "the same, whenever it is made"


def test_a_sweep_has_its_figures_too():
    page = render_html(made.rank_lr())
    figures = figures_in({**view(made.rank_lr()), "told": None})
    assert len(links(page, "image/svg+xml")) > len(figures) >= 8
    names = [figure.name for figure in figures]
    assert {"settings", "plane-Mean-accuracy", "plane-General-text-Python-s-documentation"} <= set(
        names
    )
    assert len(set(names)) == len(names)


def test_the_numbers_of_a_figure_are_those_of_the_record(record: RunRecord):
    """Unrounded, better positive: prose +.009 bits per byte is -.009."""
    (overview,) = [f for f in figures_in(run_view(record)) if f.name == "overview"]
    rows = list(csv.DictReader(io.StringIO(overview.csv)))
    assert [row["row"] for row in rows] == [
        "Task",
        "Benchmarks",
        "General text (Python's documentation)",
    ]
    change, budget, verdict = (
        f"right is better: {name}" for name in ("change", "budget", "verdict")
    )
    assert [float(row[change]) for row in rows] == [0.803, -0.0167, -0.009]
    assert [row[budget] for row in rows] == ["", "0.0271", "0.0526"]
    assert [row[verdict] for row in rows] == ["better", "slipped", "retained"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_in_figures(text: str):
    hostile = with_text(make_record(), text)
    for figure in figures_in(run_view(RunRecord.from_json(hostile.to_json()))):
        root = ElementTree.fromstring(figure.svg)
        names = {element.tag.rpartition("}")[2] for element in root.iter()}
        assert not names & {"script", "foreignObject", "image", "a"}
        assert not [k for e in root.iter() for k in e.attrib if k.startswith("on")]
        cells = [cell for row in csv.reader(io.StringIO(figure.csv)) for cell in row]
        assert not [cell for cell in cells if cell[:1] in ("=", "@", "\t")]
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", figure.name)


def test_a_figure_is_a_pdf_an_svg_and_a_table(tmp_path: Path):
    few = Chart("held out", [Series("a", [(0, 1.0), (500, 2.0)])], str, "step")
    figure = Figure.of("held out: loss", few)
    paths = _write(figure, tmp_path)
    assert [p.name for p in paths] == [f"held-out-loss.{e}" for e in ("pdf", "svg", "csv")]
    assert paths[0].read_bytes().startswith(b"%PDF")
    width = ElementTree.fromstring(paths[1].read_text()).get("width")
    assert width == "241.2pt", "3.35 inches of 72 points: a column"
    assert paths[2].read_text().splitlines()[1:] == ["a,0,1.0,,", "a,500,2.0,,"]
    again = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in _write(figure, tmp_path)] == again
    assert len(list(tmp_path.iterdir())) == 3


def test_every_kind_of_figure_is_drawn(tmp_path: Path, record: RunRecord):
    record.curves = [p for p in record.curves if p.name == "val/loss"]
    record.dial = record.dial[:2]
    written = write_figures([record], tmp_path / "new")
    names = {path.stem for path in written}
    assert {"overview", "plane", "task", "benchmarks", "Loss"} <= names
    assert len(written) == 3 * len(names)


def test_what_cannot_be_drawn_is_said(tmp_path: Path):
    with pytest.raises(DataError, match="nothing to draw"):
        write_figures([RunRecord("x")], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Could not write figures"):
        write_figures(made.methods()[:1], tmp_path / "file" / "below")


def test_matplotlib_is_imported_for_figures_alone():
    code = (
        "import sys; import myosotis.report.scorecard, myosotis.report.figures; "
        "print('matplotlib' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_cells_know_their_column():
    table = Markup(
        '<table><thead><tr><td colspan="2"></td></tr><tr><th scope="col">a</th>'
        '<th scope="col" data-label="own">b<small>unit</small></th><th>c &#34;q&#34;</th></tr>'
        "</thead><tbody><tr><th>x</th><td>1</td><td>2</td></tr></tbody></table>"
    )
    done = labelled(table)
    assert '<tr><th>x</th><td data-label="own">1</td>' in done
    assert '<td data-label="c &#34;q&#34;">2</td>' in done
    assert labelled(Markup("<p>no table</p>")) == "<p>no table</p>"


def test_a_disk_that_is_full_is_told_as_the_disk(tmp_path: Path, record: RunRecord):
    """matplotlib, writing by itself, ends such a PDF in an error of its own."""
    code = (
        "import resource, signal, sys\n"
        "from myosotis.records.schema import RunRecord\n"
        "from myosotis.report.figures import write_figures\n"
        "from myosotis.utils.errors import RunError\n"
        "run = RunRecord.load(sys.argv[1])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_figures([run], sys.argv[2])\n"
        "except RunError as error:\n    print(error.message)\n"
    )
    record.save(tmp_path / "record.json")
    words = [sys.executable, "-c", code, str(tmp_path / "record.json"), str(tmp_path / "new")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "File too large" in done.stdout, done.stderr[-800:]
    assert not [path for path in (tmp_path / "new").glob("*") if path.suffix == ".pdf"]
