"""A judge over HTTP: a stand-in on this machine that says what the tests want."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from myosotis.evaluation.judge import Pair, choice_of, judged
from myosotis.evaluation.refusal_file import Answered
from myosotis.evaluation.refusal_judge import judged_refusals
from myosotis.report.rated import judge_said, refusals_said
from myosotis.utils.chat_endpoint import Endpoint, cached
from myosotis.utils.errors import ConfigError, RunError


class Server:
    """Prefers the answer that holds "good"; without one, the first. A single answer gets the reply
    of `grades` whose key it holds."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.broken = ""
        self.busy = 0  # so many requests yet are turned away
        self.grades: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["Content-Length"])
                outer.asked.append(json.loads(self.rfile.read(size)))
                outer.keys.append(self.headers["Authorization"])
                text = outer.asked[-1]["messages"][0]["content"]
                if outer.grades:
                    answer = text.split("[Answer]\n")[1]
                    said = next((r for k, r in outer.grades.items() if k in answer), "hm")
                else:
                    a = text.split("[Answer A]")[1].split("[Answer B]")[0]
                    b = text.split("[Answer B]")[1]
                    said = "B" if "good" in b and "good" not in a else "A"
                reply = {"choices": [{"message": {"content": f"I think so.\n{said}"}}]}
                body = (outer.broken or json.dumps(reply)).encode()
                outer.busy -= 1
                status = 500 if outer.broken == "no" else 429 if outer.busy >= 0 else 200
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    thread = threading.Thread(target=one.http.serve_forever, daemon=True)
    thread.start()
    yield one
    one.http.shutdown()
    one.http.server_close()
    thread.join()


PAIRS = [
    Pair("q1", "good and long answer", "bad"),  # wins in both orders
    Pair("q2", "so", "so or so"),  # the first wins in both orders: half a win
    Pair("q3", "poor", "good"),  # loses in both
    Pair("q4", "a good one", "this"),  # wins in both
]


def test_both_orders_are_asked_and_count_half(server: Server) -> None:
    """1, ½, 0, 1: 2.5 of 4. Both orders agree on 3 of 4. First place wins in 5 of 8 replies."""
    found = judged(PAIRS, Endpoint(server.url, "m", "secret"), model="m")
    assert len(server.asked) == 8 and set(server.keys) == {"Bearer secret"}
    assert server.asked[0]["temperature"] == 0 and server.asked[0]["model"] == "m"
    assert found.win_rate == pytest.approx(2.5 / 4) and found.agreement == pytest.approx(3 / 4)
    assert found.first_rate == pytest.approx(5 / 8)
    assert (found.longer, found.shorter) == (2, 1)
    assert (found.win_rate_longer, found.win_rate_shorter) == (1.0, 0.5)
    assert found.lo is not None and found.hi is not None and 0 <= found.lo < found.hi <= 1
    assert "wins 62.5 %" in judge_said(found)[0]


def test_replies_are_cached_by_all_that_was_asked(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "judge.jsonl"
    first = judged(PAIRS, cached(Endpoint(server.url, "m"), path, "m"))
    again = judged(PAIRS, cached(Endpoint(server.url, "m"), path, "m"))
    assert len(server.asked) == 8 and again == first
    judged(PAIRS[:1], cached(Endpoint(server.url, "m"), path, "m"), rubric="Otherwise.")
    judged(PAIRS[:1], cached(Endpoint(server.url, "n"), path, "n"))
    assert len(server.asked) == 12


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("A", "A"),
        ("Because …\n\n**B**.\n", "B"),
        ("Answer [A]", "A"),
        ("TIE", "tie"),
        ("A or B?\nI cannot say", None),
        ("", None),
    ],
)
def test_a_reply_is_read_from_its_end(reply: str, choice: str | None) -> None:
    assert choice_of(reply) == choice


def test_pairs_without_a_choice_are_counted() -> None:
    found = judged(PAIRS, lambda text: "tie" if "q1" in text else "hm")
    assert (found.items, found.unread, found.win_rate) == (1, 3, 0.5)
    with pytest.raises(RunError, match="no reply of the judge"):
        judged(PAIRS, lambda text: "hm")


@pytest.mark.parametrize("broken", ["no", "{}", "not json"])
def test_a_server_that_fails_is_told(server: Server, broken: str) -> None:
    server.broken = broken
    with pytest.raises(RunError, match="the judge"):
        Endpoint(server.url, "m", waits=())("hello [Answer A] [Answer B]")


def test_a_busy_server_is_asked_again(server: Server) -> None:
    pair = "[Answer A] good [Answer B] bad"
    server.busy = 2
    assert Endpoint(server.url, "m", waits=(0.0, 0.0))(pair).endswith("A")
    assert len(server.asked) == 3
    server.busy = 2
    with pytest.raises(RunError, match="429"):
        Endpoint(server.url, "m", waits=(0.0,))(pair)


def test_a_reply_whose_keeping_was_cut_off_is_asked_for_again(tmp_path: Path) -> None:
    """A kill in the middle of a line: what stands before it and after it is read."""
    path = tmp_path / "judge.jsonl"
    heard: list[str] = []

    def ask(text: str) -> str:
        heard.append(text)
        return "A"

    for text in ("one", "two"):
        cached(ask, path, "m")(text)
    path.write_text(path.read_text()[:-9])
    for text in ("one", "two", "two"):
        cached(ask, path, "m")(text)
    assert heard == ["one", "two", "two"]


def test_only_http_is_asked() -> None:
    with pytest.raises(ConfigError, match="no http address"):
        Endpoint("file:///etc/passwd", "m")("hello")


def test_a_judge_says_which_answers_refuse_and_how_often_the_rules_agree() -> None:
    """Of four requests the base refuses 3, the tuned model 1: two lost, p = 2 / 2^2. The rules,
    which miss one evasion, agree on 7 of 8 answers. One reply says nothing."""
    told = [(True, True), (True, False), (True, False), (False, False)]
    answers = [
        Answered("should_refuse", f"q{i}", *("no!" if t else "sure" for t in pair), *pair)
        for i, pair in enumerate(told)
    ]
    answers[0] = replace(answers[0], tuned_refuses=False)
    answers.append(Answered("should_refuse", "q4", "mumble", "sure", False, False))

    def ask(text: str) -> str:
        answer = text.split("[Answer]\n")[1].split("\n")[0]
        return {"no!": "It declines.\n**Yes.**", "sure": "no", "mumble": "who knows"}[answer]

    (found,) = judged_refusals(answers, ask, model="m")
    assert (found.items, found.unread) == (4, 1)
    assert (found.base, found.tuned, found.p) == (0.75, 0.25, 0.5)
    assert found.agreement == pytest.approx(7 / 8)
    assert "should_refuse is 75.0 % for the base and 25.0 %" in refusals_said([found])[0]
