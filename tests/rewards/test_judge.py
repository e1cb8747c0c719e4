"""A language model as a reward: what it is asked, how its replies are read, and what is made of
replies that say nothing. The server is a stand-in on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from myosotis.config import compose, instantiate
from myosotis.data.sft import Example, Message
from myosotis.rewards.judge import AGAIN, Grades, Judge, filled, score_of
from myosotis.utils.errors import RunError
from tests.evaluation.test_judge import Server, server

__all__ = ["server"]


def asked(prompt: str, reference: str = "a right one") -> Example:
    return Example((Message("user", prompt), Message("assistant", reference)), "here")


def answer_in(question: str) -> str:
    return question.split("[Answer]\n")[1].split("\n\nEnd with")[0]


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Score: 7", 0.7),
        ("It names 3 reasons.\n\n**Score: 8/10**\n", 0.8),
        ("Rating: 2.5.", 0.25),
        ("6 out of 10", 0.6),
        ("10", 1.0),
        ("0", 0.0),
        ("Score: 4\nthank you", 0.4),
        ("11", None),
        ("-3", None),
        (".5", None),
        ("I would give it a seven", None),
        ("", None),
    ],
)
def test_a_score_is_read_from_the_end_of_a_reply(reply: str, score: float | None) -> None:
    assert score_of(reply) == score


def test_what_got_no_score_has_the_mean_of_its_group() -> None:
    """a: (.2 + .6)/2 = .4. c has no score at all: the mean of all, (.2 + .6 + 1)/3 = .6."""
    given = filled([0.2, None, 0.6, 1.0, None], ["a", "a", "a", "b", "c"])
    assert given == pytest.approx([0.2, 0.4, 0.6, 1.0, 0.6])


def test_a_reply_without_a_score_is_asked_for_once_more_counted_and_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of four answers to a prompt two are read at once (.8), one on asking again (.4), and one
    never: it has the mean of the other three, (.8 + .4 + .8)/3, and not 0. An answer that two gave
    is asked about once."""
    heard: list[str] = []

    def ask(question: str) -> str:
        heard.append(question)
        answer = answer_in(question)
        if answer == "clear":
            return "Score: 8"
        return "Score: 4" if answer == "late" and question.endswith(AGAIN) else "Well."

    grades = Grades(ask, Judge(url="http://h/v1", model="m"))
    texts = ["clear", "late", "never", "clear"]
    given = grades([asked("q")] * 4, texts)
    assert given == pytest.approx([0.8, 0.4, 2.0 / 3, 0.8])
    assert sorted(map(answer_in, heard)) == ["clear", "late", "late", "never", "never"]
    assert (grades.asked, grades.unread) == (4, 1)
    assert "1 of 4 answers got no score" in capsys.readouterr().err


def test_a_judge_that_scores_fewer_than_half_is_refused() -> None:
    judge = Judge(url="http://h/v1", model="m")
    grades = Grades(lambda text: "5" if "one" in answer_in(text) else "hm", judge)
    with pytest.raises(RunError, match="2 of 3 answers got no score"):
        grades([asked("q")] * 3, ["one", "two", "three"])


def test_a_configured_judge_asks_the_server_and_keeps_what_it_said(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rubric, the prompt, the answer and, where it is asked for, the reference reach the
    server, with its key; a second judge of the same name finds the replies kept."""
    monkeypatch.setenv("MYOSOTIS_CACHE", str(tmp_path))
    monkeypatch.setenv("MY_KEY", "secret")
    server.grades = {"good": "Score: 9", "bad": "Score: 1"}
    cfg = compose(
        [
            "reward=judge",
            f"reward.judge.url={server.url}",
            "reward.judge.model=m",
            "reward.judge.rubric='Is it kind?'",
            "reward.judge.reference=true",
            "reward.judge.key_env=MY_KEY",
        ]
    )
    judge = instantiate.rewards(cfg)["judge"]
    examples, texts = [asked("q1"), asked("q2", "the other")], ["good", "bad"]
    for _ in range(2):
        given = judge.prepare(lambda run: pytest.fail(run))(examples, texts)
        assert np.allclose(given, [0.9, 0.1])
    assert len(server.asked) == 2 and set(server.keys) == {"Bearer secret"}
    said = " ".join(sorted(one["messages"][0]["content"] for one in server.asked))
    for part in ("Is it kind?", "[Prompt]\nq1", "[A right answer]\nthe other", "[Answer]\ngood"):
        assert part in said


def test_without_a_reference_none_is_sent() -> None:
    said = Judge(url="http://h/v1", model="m").question(asked("q", "hidden"), "mine")
    assert "hidden" not in said and "right answer" not in said and "How correct" in said
