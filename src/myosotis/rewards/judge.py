"""A language model as a reward: it grades every answer from 0 to 10, over any endpoint that speaks
OpenAI's chat format (utils/chat_endpoint.py), one of this machine included.

A judge can be talked round, and a policy looks for how: watch another reward beside it (weight 0).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from myosotis.data.sft import Example
from myosotis.models.wheels import cache_dir
from myosotis.rewards import Load, Numbers, Reward, RewardFunction
from myosotis.utils.chat_endpoint import KEY_ENV, Ask, asking, require_url
from myosotis.utils.console import console
from myosotis.utils.errors import ConfigError, RunError
from myosotis.utils.escape import terminal

RUBRIC = "How correct, complete and helpful is the answer? Do not prefer an answer for its length."
ASKED = """Grade an answer to a prompt.

{rubric}

[Prompt]
{prompt}
{reference}
[Answer]
{answer}

End with one line that says a score from 0 (useless) to 10 (could not be better), as in Score: 5"""
REFERENCE = """
[A right answer]
{reference}
"""
AGAIN = "\n\nThe last line of your reply has to be a score, as in Score: 5"

AT_ONCE = 8
"""Answers that are asked about at a time."""

BEST = 10.0
_MARKS = r"[\s*_\[\]():=]*"
_SCORE = re.compile(
    rf"{_MARKS}(?:(?:score|grade|rating){_MARKS})?"
    rf"(\d+(?:\.\d+)?)(?:\s*(?:/|out of)\s*10)?{_MARKS}\.?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Judge(Reward):
    """What a language model gives an answer, a tenth for each of 0 to 10 points.

    `url` is a server up to and with `/v1`, `model` the name of a model there; `key_env` names the
    environment variable with the server's key, if it needs one. The judge is told the `rubric`, the
    prompt, the answer and, where `reference` says so, the reference answer. Replies are kept in the
    cache folder by all that was asked: what a resumed run asks again is given the same.

    A reply without a score is asked for once more. Where that has none either, the answer is given
    the mean of its group (of the other answers to its prompt, else of all that were asked about
    with it), so that it teaches nothing; such replies are counted and told. `RunError` where fewer
    than half of the answers have a score.
    """

    url: str | None = None
    model: str | None = None
    rubric: str = RUBRIC
    reference: bool = False
    key_env: str = KEY_ENV

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("url", self.url), ("model", self.model)):
            if not value or not isinstance(value, str):
                raise ConfigError(
                    f"reward=judge asks a language model, and reward.judge.{name} names none.",
                    "As in reward.judge.url=http://127.0.0.1:8000/v1 reward.judge.model=NAME.",
                )
        require_url(str(self.url))
        for name, value in (("rubric", self.rubric), ("key_env", self.key_env)):
            if not isinstance(value, str) or not value.strip():
                raise ConfigError(f"reward.judge.{name} is a text, not {value!r}.")
        if not isinstance(self.reference, bool):
            raise ConfigError(f"reward.judge.reference={self.reference}", "It is true or false.")

    def prepare(self, load: Load) -> RewardFunction:
        url, model = str(self.url), str(self.model)
        return Grades(asking(url, model, self.key_env, _kept(url, model)), self)

    def question(self, example: Example, text: str) -> str:
        """What the judge is asked about an answer."""
        reference = REFERENCE.format(reference=example.completion) if self.reference else ""
        return ASKED.format(
            rubric=self.rubric, prompt=prompt_of(example), reference=reference, answer=text
        )


def _kept(url: str, model: str) -> Path:
    """Where the replies of a judge are kept."""
    folder = cache_dir() / "judge"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{hashlib.sha256(f'{url} {model}'.encode()).hexdigest()[:16]}.jsonl"


class Grades:
    """A judge at work; `asked` counts the answers it was asked about, `unread` those it gave none
    of its scores."""

    def __init__(self, ask: Ask, judge: Judge) -> None:
        self.ask, self.judge = ask, judge
        self.asked = self.unread = 0

    def __call__(self, examples: Sequence[Example], texts: Sequence[str]) -> Numbers:
        pairs = zip(examples, texts, strict=True)
        questions = [self.judge.question(example, text) for example, text in pairs]
        once = list(dict.fromkeys(questions))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            given = dict(zip(once, pool.map(self._grade, once), strict=True))
        scores = [given[question] for question in questions]
        self._tell(scores)
        return filled(scores, [prompt_of(example) for example in examples])

    def _grade(self, question: str) -> float | None:
        found = score_of(self.ask(question))
        return score_of(self.ask(question + AGAIN)) if found is None else found

    def _tell(self, scores: Sequence[float | None]) -> None:
        """Raises `RunError` where fewer than half of the answers have a score."""
        unread = scores.count(None)
        self.asked += len(scores)
        self.unread += unread
        if not unread:
            return
        said = f"{unread} of {len(scores)} answers got no score of the judge {self.judge.model}"
        if 2 * unread > len(scores):
            raise RunError(
                f"{said}, asked twice", "another reward.judge.model, or another reward.judge.rubric"
            )
        console.print(
            terminal(
                f"{said}, and count as the mean of their group ({self.unread} of {self.asked} "
                "so far)."
            ),
            style="yellow",
            soft_wrap=True,
        )


def score_of(reply: str) -> float | None:
    """From 0 to 1, by the last line that says a score of 0 to 10; None where none does."""
    for line in reversed(reply.splitlines()):
        if (found := _SCORE.fullmatch(line)) and float(found[1]) <= BEST:
            return float(found[1]) / BEST
    return None


def filled(scores: Sequence[float | None], groups: Sequence[str]) -> Numbers:
    """(n,) scores, with the mean of its group where there is none; of all where the group has none.
    One score at least is there."""
    found = np.array([np.nan if score is None else score for score in scores], np.float64)
    missing = np.isnan(found)
    names = np.array(groups)
    for name in {groups[int(i)] for i in np.flatnonzero(missing)}:
        own = found[(names == name) & ~missing]
        rest = own if len(own) else found[~missing]
        found[(names == name) & missing] = rest.mean()
    return found


def prompt_of(example: Example) -> str:
    """The prompt of an example as a judge reads it."""
    turns = example.prompt
    if len(turns) == 1:
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in turns)
