"""A model of ours as an lm-eval model, so that lm-eval's own evaluator can drive it.

Retention itself does not go this way: it builds its requests once (`retention/benchmarks/build.py`)
and asks them directly. This is for `lm_eval.evaluate`, and for checking one against the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import LM

from myosotis.retention.benchmarks.eval_model import EvalModel
from myosotis.retention.benchmarks.requests import (
    LOGLIKELIHOOD,
    ROLLING,
    WRITTEN,
    Answer,
    Encoder,
    Request,
    RequestTrees,
    Tokenizer,
    chat_renderer,
    tokenizer_hash,
)
from myosotis.trees.scorer import Scorer


class _Question:
    """The requests of one document, which share a tree."""

    def __init__(self) -> None:
        self.requests: list[Request] = []


class ForestLM(LM):
    """lm-eval's model interface over a tree scorer."""

    def __init__(
        self,
        scorer: Scorer,
        tokenizer: Tokenizer,
        context_length: int,
        advance: Callable[[int], object] | None = None,
    ) -> None:
        super().__init__()
        self.scorer = scorer
        self.tokenizer = tokenizer
        self.encoder = Encoder(tokenizer, context_length)
        self.advance = advance

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """(nats, is greedy) of each continuation after its context."""
        return [(a.logp, a.greedy) for a in self._ask(LOGLIKELIHOOD, requests)]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Nats of each whole text, every token scored once."""
        return [answer.logp for answer in self._ask(ROLLING, requests)]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """What the model goes on with, greedily. Raises `ConfigError` for one that samples."""
        asked = [self.encoder.request(WRITTEN, instance.args) for instance in requests]
        prompts = [request.prompt for request in asked if request.prompt is not None]
        return EvalModel(self.scorer, self.tokenizer).write(prompts, self.advance)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        render = chat_renderer(self.tokenizer)
        return render(chat_history, add_generation_prompt=add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        return tokenizer_hash(self.tokenizer)

    def _ask(self, kind: str, instances: Sequence[Instance]) -> list[Answer]:
        questions: dict[Any, _Question] = {}
        place: list[tuple[Any, int]] = []
        for instance in instances:
            key = (instance.task_name, instance.doc_id)
            question = questions.setdefault(key, _Question())
            place.append((key, len(question.requests)))
            question.requests.append(self.encoder.request(kind, instance.args))
        request_trees = RequestTrees.of(questions.values())
        answers = request_trees.answers(self.scorer.evaluate(request_trees.trees, self.advance))
        by_key = dict(zip(questions, answers, strict=True))
        return [by_key[key][number] for key, number in place]
