"""A sample of what the model will see when it is used (`data.deploy`), as held-out examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from myosotis.data.chat_template import ChatRenderer
from myosotis.data.convert import viewed
from myosotis.data.example import Dataset
from myosotis.data.kinds import TaskKind
from myosotis.data.sources import files
from myosotis.data.tokenize import Encoded, Overlong, encode
from myosotis.utils.errors import ConfigError, DataError

FEWEST = 10
"""Examples below which nothing is claimed of what the model will see."""


def deploy_dataset(path: str, words: Mapping[str, Any], data_kind: str, objective: str) -> Dataset:
    """The examples of `path`, read as those of the run's own files are; `words` are the keywords of
    its source. Raises `DataError` for a line that is wrong, or too few of them.
    """
    kept = (
        *("fields", "group_key", "reads", "prompt_key", "completion_key"),
        *("allow_markers", "split_seed"),
    )
    same = {key: value for key, value in words.items() if key in kept}
    read = files(path, val_path=path, test_path=path, name="deploy", **same)
    if len(read.test) < FEWEST:
        raise DataError(
            f"data.deploy={path} holds {len(read.test)} examples; {FEWEST} are needed",
            "a larger sample of what the model will see",
        )
    return viewed(read, data_kind, objective)


def encoded(
    dataset: Dataset,
    template: ChatRenderer,
    kind: TaskKind,
    *,
    max_length: int,
    overlong: Overlong,
) -> Encoded:
    """The examples as the model reads them.

    Raises `ConfigError` where they are of another kind than the run's held-out ones, `DataError`
    where none fits.
    """
    made = encode(dataset.test, template, max_length=max_length, overlong=overlong)
    made.require_some("data.deploy")
    if type(kind.of_part(dataset.test)) is not type(kind):
        raise ConfigError(
            "data.deploy holds examples of another kind than the held-out ones of the run.",
            "The two are compared by one metric: give them the same fields.",
        )
    return made
