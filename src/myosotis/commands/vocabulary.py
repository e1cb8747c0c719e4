"""Token ids that the tokenizer knows and the model does not.

Some tokenizers are larger than the embedding by words that no text of theirs has (Gemma 3's
`<image_soft_token>`, a padding token that was added without a row for it). Such a model is as good
as any; a text that has such a word cannot be read, and is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from myosotis.data.datamodule import ExampleModule
from myosotis.models.accept import num_embeddings
from myosotis.models.load import ModelSource, load_config
from myosotis.retention.benchmarks.task import Suite
from myosotis.utils.errors import DataError


def require_known(data: ExampleModule, source: ModelSource) -> None:
    """Raise `DataError` for an example with a token that the model has no row for."""
    tokenizer: Any = data.template.tokenizer
    rows = num_embeddings(load_config(source))
    if len(tokenizer) <= rows:
        return
    for encoded in data.encoded.values():
        largest, where = encoded.largest_id
        _require([largest], rows, tokenizer, where)


def require_known_items(suite: Suite, tokenizer: Any, source: ModelSource) -> None:
    """The same for the items of a suite."""
    rows = num_embeddings(load_config(source))
    if len(tokenizer) <= rows:
        return
    for task in suite:
        for item in task.items:
            for request in item.requests:
                windows = [*request.windows, *([request.prompt] if request.prompt else [])]
                for one in windows:
                    _require(one.ids, rows, tokenizer, f"benchmark {task.name}, item {item.id}")


def _require(ids: Iterable[int], rows: int, tokenizer: Any, where: str) -> None:
    if (unknown := max(ids, default=0)) >= rows:
        raise DataError(
            f"{where}: the tokenizer has the token {tokenizer.convert_ids_to_tokens(unknown)!r} "
            f"(id {unknown}), but the model's embedding has {rows} rows.",
            "Take it out of the text, or give the model a row for it: "
            "model.resize_token_embeddings(len(tokenizer)) in transformers. Where many texts have "
            "such tokens, model and tokenizer do not belong together.",
        )
