"""The records of a data set, wherever it lies and in whatever format (places.py)."""

from __future__ import annotations

import codecs
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from myosotis.data import tables
from myosotis.data.places import HubData, Place, files_of, format_of, packing_of, place_of
from myosotis.data.records import RecordError, parse, present
from myosotis.utils.errors import DataError
from myosotis.utils.read_file import read_bytes

Rows = tables.Rows

MOST_UNPACKED = 16 * 2**30
"""Bytes of one packed file: a few kilobytes can stand for all that a machine holds."""


def rows(place: Place) -> Rows:
    """Where each record stands (file and line), and the record or what is wrong with it. Keys that
    are null are left out.

    Raises `DataError` when a file or data set cannot be read at all.
    """
    found = place_of(place)
    if isinstance(found, HubData):
        yield from _present(_of_hub(found), columns=True)
        return
    for file in files_of(found):
        columns = format_of(file) == ".parquet"
        yield from _present(_of_file(file), columns=columns)


def _present(found: Rows, *, columns: bool) -> Rows:
    for where, record in found:
        yield where, record if isinstance(record, RecordError) else present(record, columns)


def _of_file(path: Path) -> Rows:
    """The records of one file, by the ending of its name; JSON by what it begins with, too."""
    ending = format_of(path)
    if ending == ".parquet":
        return tables.of_parquet(path)
    raw = _content(path)
    if ending in (".csv", ".tsv"):
        return tables.of_csv(path, _text(path, raw), "," if ending == ".csv" else "\t")
    if ending == ".txt":
        return iter([(path.name, {"text": _text(path, raw)})])
    if raw.lstrip()[:1] == b"[" or (ending == ".json" and _is_document(raw)):
        return tables.of_document(path, _text(path, raw))
    return _of_lines(path, raw)


def _is_document(raw: bytes) -> bool:
    """Whether a file is one object, on one line or over several, rather than one on each."""
    first, _, rest = raw.strip().partition(b"\n")
    if not rest.strip():
        return True
    try:
        parse(first.decode("utf-8"))
    except (RecordError, UnicodeDecodeError):
        return True
    return False


def _of_lines(path: Path, raw: bytes) -> Rows:
    for number, line in _lines(path, raw):
        try:
            record: dict[str, Any] | RecordError = parse(line)
        except RecordError as fault:
            record = fault
        yield f"{path.name}:{number}", record


def _of_hub(data: HubData) -> Rows:
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        # Data files only: `datasets` no longer runs a repository's own code.
        records = datasets.load_dataset(
            data.name, data.config, split=data.split, revision=data.revision
        )
    except (OSError, ValueError, DatasetsError) as error:
        said = " ".join(str(error).split())
        raise DataError(
            f"the data set {data} of the hub cannot be loaded: {said[:300]}",
            "data.hub.config and data.hub.split name its configuration and split; without a "
            "network: HF_HUB_OFFLINE=1 and a filled cache, or data.path=FILE",
        ) from None
    features = (records.features or {}).items()
    classes = {name: kind.names for name, kind in features if isinstance(kind, datasets.ClassLabel)}
    for number, record in enumerate(records, 1):
        yield f"{data.name}:{number}", tables.in_words(dict(record), classes)  # type: ignore[call-overload]


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank.

    Raises `DataError` when the file is missing, empty, in another format or not UTF-8.
    """
    (file,) = files_of(path)
    return _lines(file, _content(file))


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked, without a mark of their order. Raises `DataError`."""
    try:
        raw = _unpacked(read_bytes(path), packing_of(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except (EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{path} is UTF-16", f"iconv -f UTF-16 -t UTF-8 {path.name} > utf8.jsonl")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if not raw or raw.isspace():
        raise DataError(f"{path} is empty", "one JSON object a line is expected")
    return raw


def _unpacked(raw: bytes, packing: str | None) -> bytes:
    if packing is None:
        return raw
    if packing == "gzip":
        import gzip

        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as packed:
            found = packed.read(MOST_UNPACKED + 1)
    else:
        import pyarrow as pa  # Python itself reads zstd from 3.14 on

        found = pa.input_stream(pa.BufferReader(raw), compression="zstd").read(MOST_UNPACKED + 1)
    if len(found) > MOST_UNPACKED:
        raise ValueError(f"unpacked it has more than {MOST_UNPACKED / 1e9:.0f} GB")
    return found


def _text(path: Path, raw: bytes) -> str:
    return "\n".join(_decoded(path, number, line) for number, line in _split(raw))


def _lines(path: Path, raw: bytes) -> Iterator[tuple[int, str]]:
    for number, line in _split(raw):
        if text := _decoded(path, number, line).strip():
            yield number, text


def _split(raw: bytes) -> Iterator[tuple[int, bytes]]:
    # Only b"\n" ends a line: str.splitlines would also cut at U+2028, which JSON strings may hold.
    # One line at a time: a list of all would hold a large file a second time.
    number, start = 1, 0
    while (end := raw.find(b"\n", start)) >= 0:
        yield number, raw[start:end]
        number, start = number + 1, end + 1
    yield number, raw[start:]


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        hint = f"if it is Latin-1: iconv -f LATIN1 -t UTF-8 {path.name} > utf8.jsonl"
        raise DataError(f"{path.name}:{number}: not UTF-8 ({byte})", hint) from None
