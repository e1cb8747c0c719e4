"""`myosotis prefer`: choosing in the terminal, on the page and by a judge; the file that grows."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from myosotis.commands.prefer import by_judge, in_terminal
from myosotis.commands.prefer_page import PreferPage
from myosotis.data.preference import read_pairs
from myosotis.data.sft import Message
from myosotis.evaluation.chosen import ChosenFile, Duel, key_of
from myosotis.utils.errors import ConfigError, RunError
from tests.evaluation.test_judge import Server
from tests.world import build, call, settings


def duel(prompt: str, *texts: str) -> Duel:
    first, second = texts or (f"one of {prompt}", f"two of {prompt}")
    return Duel((Message("user", prompt),), (first, second), ("r1", "r2"))


@pytest.fixture
def out(tmp_path: Path) -> ChosenFile:
    return ChosenFile(tmp_path / "pairs.jsonl")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# The file.


def test_a_choice_is_a_pair_that_says_who_and_when(out: ChosenFile) -> None:
    one = duel("q")
    out.add(one, "B", "me")
    (kept,) = lines(out.path)
    assert (kept["prompt"], kept["chosen"], kept["rejected"]) == ("q", one.b, one.a)
    assert kept["chosen_by"] == "me" and kept["chosen_at"].endswith("+00:00")
    assert kept["runs"] == [("r1", "r2")[one.sides[1]], ("r1", "r2")[one.sides[0]]]
    (example,) = read_pairs(out.path).examples
    assert (example.completion, example.rejected) == (one.b, one.a)


def test_a_tie_stands_beside_the_pairs_and_is_not_asked_again(out: ChosenFile) -> None:
    out.add(duel("q"), "tie", "me")
    assert not out.path.exists() and len(lines(out.ties)) == 1
    assert out.known() == {key_of("q")}


def test_a_conversation_stays_one(out: ChosenFile) -> None:
    turns = (Message("system", "Be kind."), Message("user", "q"))
    out.add(Duel(turns, ("one", "two"), ("r", "r")), "A", "me")
    (example,) = read_pairs(out.path).examples
    assert [(m.role, m.content) for m in example.prompt] == [("system", "Be kind."), ("user", "q")]


def test_a_line_that_a_kill_cut_is_taken_off(out: ChosenFile) -> None:
    out.add(duel("q"), "A", "me")
    whole = out.path.read_bytes()
    out.path.write_bytes(whole + b'{"prompt": "r", "cho')
    assert out.known() == {key_of("q")}
    assert out.path.read_bytes() == whole
    out.path.write_text("not a pair\n")
    with pytest.raises(ConfigError, match="line 1 is no preference"):
        out.known()


# Who chooses.


def test_which_side_is_whose_goes_by_the_prompt_alone() -> None:
    sides = [duel(str(n)).sides for n in range(200)]
    assert 60 < sum(one == (0, 1) for one in sides) < 140
    assert sides == [duel(str(n)).sides for n in range(200)]


def test_in_the_terminal_until_one_quits(out: ChosenFile) -> None:
    said = iter(["?", "a", "T", "s", "q"])
    asked = [duel(q) for q in "pqrst"]
    assert in_terminal(asked, out, "me", lambda question: next(said)) == 3
    assert [one["prompt"] for one in lines(out.path)] == ["p"]
    assert lines(out.path)[0]["chosen"] == asked[0].a
    assert [one["prompt"] for one in lines(out.ties)] == ["q"]


def test_a_judge_chooses_where_both_orders_agree(out: ChosenFile) -> None:
    """The answer with "good" wins; of two like ones the first wins in each order: a tie; and what
    says nothing is asked again the next time."""

    def ask(text: str) -> str:
        if "mumble" in text:
            return "who knows"
        a, b = text.split("[Answer A]")[1].split("[Answer B]")
        return "B" if "good" in b and "good" not in a else "A"

    asked = [duel("p", "bad", "good"), duel("q", "so", "so so"), duel("r", "mumble", "x")]
    assert by_judge(asked, out, ask, "m", "rubric") == 1
    assert [(one["chosen"], one["chosen_by"]) for one in lines(out.path)] == [("good", "m")]
    assert out.known() == {key_of("p"), key_of("q")}


# The page.


@pytest.fixture
def page(out: ChosenFile) -> Iterator[PreferPage]:
    asked = [duel("<b>p</b>"), duel("q")]
    with PreferPage(asked, lambda one, choice: out.add(one, choice, "me")) as served:
        yield served


def request(
    page: PreferPage, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, str]:
    wire = http.client.HTTPConnection("127.0.0.1", page.server.server_port, timeout=20)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    wire.request(method, path, body, given)
    answer = wire.getresponse()
    assert answer.getheader("Access-Control-Allow-Origin") is None
    return answer.status, answer.read().decode()


def choose(page: PreferPage, said: Any, **headers: str) -> int:
    given = {"Content_Type": "application/json", "Origin": page.origin, **headers}
    body = said if isinstance(said, str) else json.dumps(said)
    return request(page, "POST", f"/{page.token}/choose", body, **given)[0]


def test_the_page_keeps_each_choice_and_ends_with_the_last(
    page: PreferPage, out: ChosenFile
) -> None:
    assert page.server.server_address[0] == "127.0.0.1" and len(page.token) >= 32
    status, html = request(page, "GET", f"/{page.token}/")
    assert status == 200 and "&lt;b&gt;p&lt;/b&gt;" in html and "connect-src 'self'" in html
    assert choose(page, {"item": 0, "choice": "A"}) == 200
    assert choose(page, {"item": 0, "choice": "B"}) == 409  # it stays as it was
    assert "&lt;b&gt;p" not in request(page, "GET", f"/{page.token}/")[1]
    assert not page.done.is_set()
    assert choose(page, {"item": 1, "choice": "tie"}) == 200
    page.wait()
    assert [one["chosen"] for one in lines(out.path)] == [page.asked[0].a]


def test_what_comes_from_elsewhere_is_refused(page: PreferPage, out: ChosenFile) -> None:
    said = {"item": 0, "choice": "A"}
    assert request(page, "GET", "/")[0] == 404
    other = "x" if page.token[-1] != "x" else "y"  # the token is random and may end in either
    assert request(page, "GET", f"/{page.token[:-1]}{other}/")[0] == 404
    assert request(page, "GET", f"/{page.token}/", Host="evil.example")[0] == 404
    assert choose(page, said, Origin="http://evil.example") == 403
    assert choose(page, said, Origin="null") == 403
    path = f"/{page.token}/choose"
    assert request(page, "POST", path, json.dumps(said), Content_Type="application/json")[0] == 403
    assert choose(page, said, Content_Type="text/plain") == 400
    assert choose(page, {"item": True, "choice": "A"}) == 400
    assert choose(page, {"item": 0, "choice": "C"}) == 400
    assert choose(page, "x" * 2000) == 400
    assert not out.path.exists()


def test_a_choice_that_cannot_be_kept_is_not_taken(tmp_path: Path) -> None:
    def full(one: Duel, choice: str) -> None:
        raise RunError("no space left")

    with PreferPage([duel("p")], full) as served:
        assert choose(served, {"item": 0, "choice": "A"}) == 500
        assert "p" in request(served, "GET", f"/{served.token}/")[1] and not served.done.is_set()


# Through the command line.


@pytest.mark.slow
def test_a_judge_collects_pairs_and_goes_on_where_it_was(tmp_path: Path) -> None:
    world = build(tmp_path / "world")
    words = settings(world, tmp_path / "it", tracking="none", **{"trainer.max_steps": 2})
    call(["train", *words, "retention=none"], tmp_path)
    server = Server()
    import threading

    threading.Thread(target=server.http.serve_forever, daemon=True).start()
    asked = ["prefer", "it", "--items", "3", "--max-new-tokens", "4", "--judge", server.url, "m"]
    out, _ = call(asked, tmp_path)
    call(asked, tmp_path)
    server.http.shutdown()
    file = ChosenFile(tmp_path / "preferences.jsonl")
    assert 4 <= len(file.known()) <= 6 and "data=pairs" in out
    _, err = call(["prefer", "it", "--page", "--judge", "http://x", "m"], tmp_path, code=2)
    assert "one of --page and --judge" in err
