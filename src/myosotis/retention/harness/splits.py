"""Which rows are asked, which are shown as examples, and never the same row as both.

What belongs here: standing in for splits that are not at hand (the benchmark wheel holds
validation splits only), and keeping an item out of its own few-shot prompt, which lm-eval does not
when examples and items come from one split. Both work on lm-eval's task objects from outside.
"""

from __future__ import annotations

from typing import Any

from myosotis.utils.errors import DataError

_EVAL_SPLITS = ("validation", "test", "dev", "train")
"""Which split stands in, in this order, when the one a task asks for is absent."""


def substitute(config: Any, fewshot: Any, present: set[str]) -> tuple[str, str]:
    """Point a task at splits it has; say in words where that differs from what it asks for.

    Absent splits become None; when neither of those a task is scored on is there, another stands
    in. Few-shot examples of an absent split then come from the one that is scored, and `FewShot`
    keeps the item out of its own prompt. Returns (about the scored split, about the examples).
    """
    asked, asked_examples = _scored(config), _examples(config, fewshot)
    for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if getattr(config, key) not in present:
            setattr(config, key, None)
    if fewshot.split not in present:
        fewshot.split = None
    if _scored(config) is None:
        config.validation_split = next((s for s in _EVAL_SPLITS if s in present), None)
    scored, examples = _scored(config), _examples(config, fewshot)
    if scored is None:
        raise DataError(
            f"The data of the benchmark {config.task!r} have no split to score: "
            f"found {', '.join(sorted(present)) or 'none'}.",
            f"Name one of them {' or '.join(_EVAL_SPLITS[:2])}.",
        )
    return _stands_in("scored on", scored, asked), _stands_in(
        "examples from", examples, asked_examples
    )


def _scored(config: Any) -> str | None:
    return config.test_split or config.validation_split


def _examples(config: Any, fewshot: Any) -> str | None:
    if fewshot.split is None and fewshot.samples is not None:
        return None  # written out in the task
    return fewshot.split or config.training_split or config.validation_split or config.test_split


def _stands_in(what: str, split: str | None, asked: str | None) -> str:
    return "" if split == asked else f"{what} the {split} split ({asked} is not at hand)"


class FewShot:
    """A task's few-shot sampler, which never hands out the item that is being asked.

    lm-eval leaves the item out only when the examples come from the split called `test_split`.
    Draws that do not meet the item are lm-eval's own, so that prompts stay the same.
    """

    def __init__(self, harness: Any) -> None:
        self.harness = harness
        self.inner = harness.sampler
        self.item: Any = None
        self._shown: Any = None

    def ask(self, item: Any) -> None:
        """The item whose prompt is built next."""
        self.item, self._shown = item, self._look(item)

    def sample(self, n: int, eval_doc: Any = None, df: Any = None, **kwargs: Any) -> Any:
        pool = list(self.inner.df)
        if n >= len(pool) and any(self._is_item(doc) for doc in pool):
            raise DataError(
                f"retention.num_fewshot={n}: the benchmark {self.harness.task_name!r} has only "
                f"{len(pool) - 1} examples beside the item asked.",
                "Ask for fewer examples.",
            )
        if eval_doc is not None and n + 1 > len(pool):
            eval_doc = None  # lm-eval draws one more to drop the item; there is no more
        drawn = self.inner.sample(n, eval_doc=eval_doc, df=df, **kwargs)
        if not any(self._is_item(doc) for doc in drawn):
            return drawn
        self.inner.replace_df([doc for doc in pool if not self._is_item(doc)])
        try:
            return self.inner.sample(n)
        finally:
            self.inner.replace_df(pool)

    def set_rnd(self, seed: int | None) -> None:
        self.inner.set_rnd(seed)

    def _is_item(self, doc: Any) -> bool:
        return doc == self.item or self._look(doc) == self._shown

    def _look(self, doc: Any) -> Any:
        """How a document reads: the same question may be stored with another id."""
        task = self.harness
        try:
            choices = task.doc_to_choice(doc) if task.config.doc_to_choice else None
            return task.doc_to_text(doc), choices
        except Exception:  # noqa: BLE001  (example pools of another shape: compare as stored)
            return doc


def fewshot_guard(harness: Any) -> FewShot | None:
    """Put a `FewShot` in front of the task's sampler, where it has one."""
    if not hasattr(harness, "sampler"):
        return None
    guard = FewShot(harness)
    harness.sampler = guard
    return guard
