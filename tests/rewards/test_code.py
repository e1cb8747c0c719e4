"""Programs as answers: what is taken for the program, what its tests decide, and who may run it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from myosotis.data.fields import Fields
from myosotis.data.sft import Example, Message, read_answers
from myosotis.rewards.code import PassesTests, code_of
from myosotis.utils import sandbox
from myosotis.utils.errors import ConfigError, DataError

TESTS = "assert double(2) == 4\nassert double(-1) == -2"
RIGHT = "def double(x):\n    return 2 * x"


def asked(tests: str = TESTS) -> Example:
    return Example((Message("user", "?"), Message("assistant", RIGHT)), "here", tests=tests)


@pytest.mark.parametrize(
    ("answer", "program"),
    [
        (RIGHT, RIGHT),
        (f"Here it is:\n```python\n{RIGHT}\n```\nIt doubles.", RIGHT),
        (f"```\n{RIGHT}\n```", RIGHT),
        (f"```py\n{RIGHT}", RIGHT),  # cut off before the fence is closed
        (f"```python\n{RIGHT}\n```\n```python\nx = 1\n```", RIGHT),
    ],
)
def test_the_program_of_an_answer(answer: str, program: str) -> None:
    assert code_of(answer) == program


def test_what_a_model_writes_is_not_run_unasked() -> None:
    with pytest.raises(ConfigError, match=r"runs what a model writes"):
        PassesTests()


def test_without_a_sandbox_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "_obstacle", lambda: "bwrap is not installed")
    with pytest.raises(ConfigError, match="bwrap is not installed"):
        PassesTests(run=True).prepare(lambda run: pytest.fail(run))


def test_tests_decide() -> None:
    try:
        reward = PassesTests(run=True).prepare(lambda run: pytest.fail(run))
    except ConfigError as error:
        pytest.skip(str(error))
    wrong = "def double(x):\n    return x * x"  # right for 2, wrong for -1
    given = reward([asked()] * 3, [f"```python\n{RIGHT}\n```", wrong, "I cannot."])
    assert np.array_equal(given, [1, 0, 0])
    with pytest.raises(DataError, match="no tests"):
        reward([asked("")], [RIGHT])


def test_tests_are_read_from_a_record(tmp_path: Path) -> None:
    """As text, or line by line as MBPP has them; nothing is left unread."""
    usual, named = tmp_path / "usual.jsonl", tmp_path / "named.jsonl"
    lines = TESTS.split("\n")
    usual.write_text(json.dumps({"prompt": "?", "completion": RIGHT, "tests": TESTS}))
    named.write_text(json.dumps({"text": "?", "code": RIGHT, "test_list": lines}))
    fields = Fields({"prompt": "text", "completion": "code", "tests": "test_list"})
    for read in (read_answers(usual), read_answers(named, fields)):
        assert read.examples[0].tests.split() == TESTS.split()
        assert not read.unused
