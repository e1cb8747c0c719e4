"""The records of a data set, wherever it lies: JSON Lines, parquet, or the Hugging Face hub.

mine.jsonl      one JSON object a line
mine.parquet    one record a row
hub:owner/name  a data set of the hub, its split `train`; hub:owner/name#test names another
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from myosotis.data.lines import RecordError, lines, parse
from myosotis.utils.errors import DataError

HUB = "hub:"


def rows(path: str | Path) -> Iterator[tuple[str, dict[str, Any] | RecordError]]:
    """Where each record stands (file and line), and the record or what is wrong with it.

    Raises `DataError` when the file or data set cannot be read at all.
    """
    if str(path).startswith(HUB):
        yield from _of_hub(str(path).removeprefix(HUB))
    elif Path(path).suffix.lower() == ".parquet" and Path(path).is_file():
        yield from _of_parquet(Path(path))
    else:
        yield from _of_lines(Path(path))


def _of_lines(path: Path) -> Iterator[tuple[str, dict[str, Any] | RecordError]]:
    for number, line in lines(path):
        try:
            record: dict[str, Any] | RecordError = parse(line)
        except RecordError as fault:
            record = fault
        yield f"{path.name}:{number}", record


def _of_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any] | RecordError]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is no readable parquet file: {error}") from None
    for number, record in enumerate(table.to_pylist(), 1):
        yield f"{path.name}:{number}", record


def _of_hub(name: str) -> Iterator[tuple[str, dict[str, Any] | RecordError]]:
    import datasets
    from datasets.exceptions import DatasetsError

    repository, _, split = name.partition("#")
    try:
        # Data files only: `datasets` no longer runs a repository's own code.
        found = datasets.load_dataset(repository, split=split or "train")
    except (OSError, ValueError, DatasetsError) as error:
        said = " ".join(str(error).split())
        raise DataError(
            f"the data set {repository} of the hub cannot be loaded: {said[:300]}",
            "without a network: HF_HUB_OFFLINE=1 and a filled cache, or data.path=FILE",
        ) from None
    for number, record in enumerate(found, 1):
        yield f"{repository}:{number}", dict(record)  # type: ignore[call-overload]
