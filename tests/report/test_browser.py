"""The page in a real browser: it fits, it is quiet, it fetches nothing, hostile text stays text."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from myosotis.records.schema import RunRecord
from myosotis.report.scorecard import scorecard

from . import kept
from .conftest import make_record
from .test_scorecard import HOSTILE, study, with_text

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
REPORTS = Path(__file__).parents[2] / "reports"
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

# WCAG 2 contrast of every piece of text against the nearest background behind it.
CONTRAST = """
() => {
  const channel = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = c => .2126 * channel(c[0]) + .7152 * channel(c[1]) + .0722 * channel(c[2]);
  const rgb = s => s.match(/[\\d.]+/g).map(Number);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const texts = 'h1,h2,h3,h4,p,small,strong,span,td,th,dt,dd,li,em,summary,a';
  for (const e of document.querySelectorAll(texts)) {
    if (!e.checkVisibility() || !e.innerText.trim()) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) faint.push([e.className || e.tagName, e.innerText.slice(0, 30), ratio]);
  }
  return faint;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        launched = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


class Visit:
    """A page opened from disk, with everything it complained about or asked for."""

    def __init__(self, browser: Any, path: Path, width: int, scheme: str) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        for summary in self.page.query_selector_all("details:not([open]) > summary"):
            summary.evaluate("s => s.parentElement.open = true")

    def sideways(self) -> int:
        """Pixels the page is wider than its window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")


def records(kind: str) -> list[RunRecord]:
    one = make_record()
    if kind == "one":
        return [one]
    if kind == "empty":
        return [RunRecord("x")]
    if kind == "study":
        return study()
    failed = copy.deepcopy(one)
    failed.status, failed.error, failed.suite_verdict = "FAILED", "out of memory", None
    return [one, failed, RunRecord("y", "never measured")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", ["one", "several", "empty", "study"])
def test_it_fits_and_is_quiet(browser: Any, tmp_path: Path, kind: str, width: int, scheme: str):
    path = scorecard(records(kind), tmp_path / "card.html")
    visit = Visit(browser, path, width, scheme)
    assert visit.said == []
    assert [url for url in visit.asked if not url.startswith("data:")] == [path.as_uri()]
    assert visit.sideways() <= 0
    assert visit.page.evaluate(CONTRAST) == []
    visit.page.close()


def test_hostile_text_neither_runs_nor_breaks_the_layout(browser: Any, tmp_path: Path):
    together = " ".join(text for text in HOSTILE if len(text) < 100)
    texts = [together, *(text for text in HOSTILE if len(text) >= 100)]
    for number, text in enumerate(texts):
        few = [*study()[:4], study()[-1]]
        made = [make_record()] if number % 2 else few
        path = scorecard([with_text(r, text) for r in made], tmp_path / f"{number}.html")
        visit = Visit(browser, path, 390, "light")
        assert visit.page.evaluate("typeof window.pwned") == "undefined"
        assert visit.page.evaluate("document.scripts.length") == 1
        assert visit.said == []
        assert [url for url in visit.asked if not url.startswith("data:")] == [path.as_uri()]
        assert visit.sideways() <= 0, text[:40]
        visit.page.close()


def test_it_prints_with_everything_open(browser: Any, tmp_path: Path, record: RunRecord):
    page = browser.new_page()
    page.goto(scorecard(record, tmp_path / "card.html").as_uri())
    page.emulate_media(media="print")
    assert page.get_by_text("a copper rod").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.close()


def test_it_prints_a_study_in_black_on_white(browser: Any, tmp_path: Path):
    page = browser.new_page(color_scheme="dark")
    page.goto(scorecard(study(), tmp_path / "card.html").as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    scrolls = "[...document.querySelectorAll('.scroll')].map(e => getComputedStyle(e).overflowX)"
    assert set(page.evaluate(scrolls)) == {"visible"}
    page.close()


def test_print_keeps_a_plane_with_its_heading(browser: Any, tmp_path: Path):
    """On A4 with margins of a centimetre: 718 by 1047 pixels, in which the section has room."""
    page = browser.new_page(viewport={"width": 718, "height": 1047})
    page.goto(scorecard(study(), tmp_path / "card.html").as_uri())
    page.emulate_media(media="print")
    section = page.locator("#plane")
    assert section.evaluate("e => getComputedStyle(e).breakInside") == "avoid"
    assert section.evaluate("e => e.offsetHeight") < 1047
    for what in ("h2", ".how", ".keys"):
        assert section.locator(what).first.evaluate("e => getComputedStyle(e).breakAfter") == (
            "avoid"
        )
    page.close()


def test_no_table_is_cut_off(browser: Any, tmp_path: Path):
    """At 1280 and at 390 pixels every table of the page has room; the runs in full are closed."""
    path = scorecard(kept.read(REPORTS / "rank_lr"), tmp_path / "card.html")
    for width in (1280, 390):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.goto(path.as_uri())
        wide = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(e => e.checkVisibility() && "
            "e.scrollWidth > e.clientWidth + 1).map(e => e.getAttribute('aria-label'))"
        )
        assert wide == []
        page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_every_verdict_has_room(browser: Any, tmp_path: Path, record: RunRecord, width: int):
    """The longest of the four words, in the strips and everywhere else on the page of a run."""
    assert record.suite_verdict is not None
    record.suite_verdict.verdict = record.suite_verdict.mean_verdict = "inconclusive"
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(scorecard(record, tmp_path / "card.html").as_uri())
    chips = page.locator(".chip:visible")
    assert "inconclusive" in chips.all_inner_texts()
    assert not page.evaluate(
        "[...document.querySelectorAll('.chip')].filter(e => e.checkVisibility() && "
        "e.scrollWidth > e.clientWidth).map(e => e.innerText)"
    )
    page.close()


def test_settings_are_filtered_and_sorted(browser: Any, tmp_path: Path):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(
        scorecard(kept.read(Path(__file__).parent / "fixed_set"), tmp_path / "card.html").as_uri()
    )
    rows = page.locator("#settings-table tbody tr:visible")
    before = rows.all_inner_texts()
    assert len(before) == 15
    page.get_by_role("button", name="forgotten").click()
    assert len(rows.all()) == 12
    page.get_by_role("searchbox").fill("r=16 5e-4")
    assert [row.split("\n")[0].split()[0] for row in rows.all_inner_texts()] == ["8", "7"]
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="forgotten").click()
    assert rows.all_inner_texts() == before

    def order(column: int) -> list[float]:
        cells = page.locator(f"#settings-table tbody tr td:nth-of-type({column})")
        return [float(cell.get_attribute("data-value")) for cell in cells.all()]

    page.get_by_role("button", name="Mean accuracy").click()
    assert order(2) == sorted(order(2), reverse=True)
    page.get_by_role("button", name="Mean accuracy").click()
    assert order(2) == sorted(order(2))
    page.get_by_role("button", name="Mean accuracy").click()
    assert rows.all_inner_texts() == before
    page.close()


@pytest.mark.parametrize(
    ("kind", "width", "scheme"), [("one", 390, "dark"), ("study", 1280, "light")]
)
def test_axe_finds_no_fault(browser: Any, tmp_path: Path, kind: str, width: int, scheme: str):
    """axe-core's rules for WCAG and good practice; of a study without the runs it nests."""
    bundle = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    axe = Path(bundle.__file__).with_name("axe.min.js").read_text()
    visit = Visit(browser, scorecard(records(kind), tmp_path / "card.html"), width, scheme)
    visit.page.evaluate("document.querySelectorAll('.run').forEach(d => d.open = false)")
    visit.page.evaluate(axe)
    found = visit.page.evaluate("axe.run()")
    assert len(found["passes"]) > 20
    faults = [(v["impact"], v["id"], v["nodes"][0]["html"][:120]) for v in found["violations"]]
    assert faults == []
    visit.page.close()
