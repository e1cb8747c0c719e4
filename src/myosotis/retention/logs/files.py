"""Files that somebody else wrote: text, JSON and zip archives, within bounds and through no link.

What belongs here: opening and parsing, and the one message for what is broken. What the content
means is for the readers. Nothing is unpacked to disk and nothing is run.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from myosotis.utils import read_file
from myosotis.utils.errors import DataError
from myosotis.utils.escape import line

MOST_BYTES = 16 * 2**30
MOST_LINE = 64 * 2**20
MOST_DOCUMENT = 2**30
MOST_ENTRY = 256 * 2**20
MOST_ITEMS = 2_000_000
"""A log of more bytes, a longer line, a larger JSON document or entry of an archive, or more items
is refused. Real ones are far from these bounds: a whole MMLU with five examples takes 0.3 GB."""

ZSTANDARD, LOCAL_HEADER = 93, 30
"""A method of compression, and the bytes before an entry's name, in a zip archive."""


@contextmanager
def opened(path: Path, most: int = MOST_BYTES) -> Iterator[BinaryIO]:
    """A file to read from its beginning. Raises `DataError` for a link, for what is no regular file
    (a pipe would be waited on for ever), and for more than `most` bytes."""
    try:
        with read_file.opened(path, most, links=False) as file:
            yield file
    except OSError as error:
        if error.errno == errno.ELOOP or path.is_symlink():
            raise linked(path) from None
        raise DataError(f"{line(path)} cannot be read: {error.strerror or error}.") from None


@contextmanager
def not_too_deep(what: str) -> Iterator[None]:
    """JSON that nests some hundred levels is read by the parser, and by nothing that follows it."""
    try:
        yield
    except RecursionError:
        raise DataError(f"{what} is nested too deeply to be a log.") from None


def linked(path: Path) -> DataError:
    return DataError(
        f"{line(path)} is a symbolic link: nothing is read through one in there.",
        "Name the file it points to, or put a copy in its place.",
    )


def document(path: Path) -> Any:
    """The JSON document in a file."""
    with opened(path, MOST_DOCUMENT) as file:
        return parsed(file.read(), line(path))


def json_lines(path: Path) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """File and number, position in bytes, and content of each line that holds a JSON object.

    Raises `DataError`, naming file and line, for one that does not, or is too long.
    """
    with opened(path) as file:
        position = 0
        for number in count(1):
            content = file.readline(MOST_LINE + 1)
            if not content:
                return
            where = f"{line(path)}:{number}"
            if len(content) > MOST_LINE:
                raise DataError(f"{where} is longer than {MOST_LINE >> 20} MB.")
            if number > MOST_ITEMS:
                raise DataError(f"{line(path)} has more than {MOST_ITEMS:,} lines.")
            if content.strip():
                yield where, position, an_object(parsed(content, where), where)
            position += len(content)


def line_at(path: Path, position: int) -> dict[str, Any]:
    """The JSON object in the line that begins there."""
    with opened(path) as file:
        file.seek(position)
        content = file.readline(MOST_LINE + 1)
    return an_object(parsed(content, line(path)), line(path))


def parsed(content: bytes, where: str) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise DataError(f"{where} is not text in UTF-8.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is not JSON: {str(error)[:120]}.", "It may have been cut off, or edited."
        ) from None


def an_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where} is not a JSON object.")
    return value


class Archive:
    """A zip archive of JSON documents; entries are read by name, into memory, one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as (_, archive):
            entries = archive.infolist()
        if len(entries) > MOST_ITEMS or sum(entry.file_size for entry in entries) > MOST_BYTES:
            raise DataError(f"{line(path)} would unpack to more than {MOST_BYTES / 1e9:.0f} GB.")
        self.names = [entry.filename for entry in entries]

    @contextmanager
    def _open(self) -> Iterator[tuple[BinaryIO, zipfile.ZipFile]]:
        with opened(self.path) as file:
            try:
                with zipfile.ZipFile(file) as archive:
                    yield file, archive
            except NotImplementedError:
                raise DataError(
                    f"{line(self.path)} is compressed in a way that is not known here.",
                    "inspect log convert FILE --to json --output-dir FOLDER writes JSON.",
                ) from None
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError) as error:
                raise DataError(
                    f"{line(self.path)} is no whole zip archive: {str(error)[:120]}.",
                    "It may still be written, or have been cut off.",
                ) from None

    def documents(self, names: list[str]) -> Iterator[tuple[str, Any]]:
        """The parsed entries of these names."""
        with self._open() as (file, archive):
            for name in names:
                where = line(f"{self.path}, {name}")
                yield name, parsed(_entry(file, archive.getinfo(name), archive, where), where)

    def document(self, name: str) -> Any:
        """One of them."""
        return next(iter(self.documents([name])))[1]


def _entry(file: BinaryIO, info: zipfile.ZipInfo, archive: zipfile.ZipFile, where: str) -> bytes:
    """The bytes of an entry; what the directory says of its size may be untrue."""
    if info.compress_type == ZSTANDARD and not hasattr(zipfile, "ZIP_ZSTANDARD"):
        content = _zstandard(file, info)
    else:
        with archive.open(info) as entry:
            content = entry.read(MOST_ENTRY + 1)
    if len(content) > MOST_ENTRY:
        raise DataError(f"{where} is larger than {MOST_ENTRY >> 20} MB.")
    return content


def _zstandard(file: BinaryIO, info: zipfile.ZipInfo) -> bytes:
    """An entry as Inspect packs it by default, which Python reads by itself from 3.14 on."""
    import pyarrow as pa

    file.seek(info.header_offset)
    head = file.read(LOCAL_HEADER)
    if len(head) < LOCAL_HEADER or head[:4] != b"PK\3\4":
        raise zipfile.BadZipFile("an entry does not begin where the directory says")
    file.seek(sum(struct.unpack("<HH", head[26:30])), os.SEEK_CUR)
    try:
        with pa.CompressedInputStream(
            pa.BufferReader(file.read(info.compress_size)), "zstd"
        ) as raw:
            content = raw.read(MOST_ENTRY + 1)
    except (OSError, pa.ArrowException) as error:
        raise zipfile.BadZipFile(str(error)) from None
    if len(content) <= MOST_ENTRY and zlib.crc32(content) != info.CRC:
        raise zipfile.BadZipFile("an entry is damaged (CRC)")
    return content


def text(value: Any) -> str:
    """A value of a log as text; nothing for null."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def number(value: Any) -> float | None:
    """A value of a log as a number; None for what is none, or is not finite."""
    if isinstance(value, bool | int | float):
        try:
            found = float(value)
        except OverflowError:
            return None
        return found if abs(found) < float("inf") else None
    return None


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object of a log; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Any]:
    """A JSON array of a log; an empty one for anything else."""
    return value if isinstance(value, list) else []
