"""A trained reward model as a reward: the value head of a run of `method=reward`.

Its numbers have no unit of their own: only differences mean something. So they are standardised on
answers of the model it was trained from, to prompts that were held out: `reward.json` beside the
run's update says by which shift and scale.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from myosotis.data.label_template import RewardRenderer
from myosotis.data.sft import Example
from myosotis.rewards import Load, Numbers, Reward, RewardFunction
from myosotis.trees.scorer import Scorer
from myosotis.trees.tree import Tree
from myosotis.utils.atomic_write import write_text
from myosotis.utils.errors import AssetError, ConfigError
from myosotis.utils.read_file import read_json_object

FILE = "reward.json"


@dataclass(frozen=True)
class RewardRun(Reward):
    """`run`: a run of method=reward, by its id, a unique prefix of it, its name, or last."""

    run: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.run:
            raise ConfigError(
                "a reward model is a run, and none is named.",
                "Add reward.model.run=RUN; `myosotis train method=reward` makes one.",
            )

    def prepare(self, load: Load) -> RewardFunction:
        assert self.run is not None
        return load(self.run)


@dataclass(frozen=True)
class Scale:
    """What makes rewards of mean 0 and standard deviation 1 of a model's numbers, on `answers`
    answers of the model it was trained from, to held-out prompts."""

    shift: float
    scale: float
    answers: int

    @classmethod
    def of(cls, numbers: Numbers) -> Scale:
        """The scale on which these have mean 0 and standard deviation 1 (of n − 1). Numbers that
        are all alike keep their unit."""
        spread = float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
        return cls(float(numbers.mean()), spread if spread > 0 else 1.0, len(numbers))

    def __call__(self, numbers: Numbers) -> Numbers:
        return (numbers - self.shift) / self.scale

    def save(self, folder: Path) -> None:
        """Write `reward.json` into a run's folder."""
        write_text(folder / FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Scale:
        """Read it. Raises `AssetError` where there is none, or it does not say what it should."""
        try:
            said = read_json_object(folder / FILE)
            shift, scale, answers = (said[name] for name in ("shift", "scale", "answers"))
            found = cls(float(shift), float(scale), int(answers))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AssetError(
                f"{folder / FILE} does not say on which scale this run's rewards are ({error}).",
                "Name a finished run of `myosotis train method=reward`.",
            ) from None
        if not (math.isfinite(found.shift) and math.isfinite(found.scale) and found.scale > 0):
            raise AssetError(f"{folder / FILE} has a scale of {found.scale}, which is none.")
        return found


class RewardModel:
    """A value head at work; `scorer` scores with it, and `renderer` is the template it was trained
    with. Answers that are too long for its context are cut there, as `max_length` says."""

    def __init__(
        self, scorer: Scorer, renderer: RewardRenderer, scale: Scale, max_length: int
    ) -> None:
        self.scorer = scorer
        self.renderer = renderer
        self.scale = scale
        self.max_length = max_length

    def __call__(self, examples: Sequence[Example], texts: Sequence[str]) -> Numbers:
        return self.scale(raw_rewards(self.scorer, self.renderer, examples, texts, self.max_length))


def raw_rewards(
    scorer: Scorer,
    renderer: RewardRenderer,
    examples: Sequence[Example],
    texts: Sequence[str],
    max_length: int,
) -> Numbers:
    """The numbers of a value head, not yet standardised. An answer that does not fit loses its end:
    its number is that of what is left."""
    trees = []
    for example, text in zip(examples, texts, strict=True):
        path = renderer.render(example.answered(text))
        room = max_length - 1  # one place is for the number
        trees.append(Tree.of([path._replace(ids=path.ids[:room], weights=path.weights[:room])]))
    return np.array([score.logp[0] for score in scorer.evaluate(trees)], np.float64)
