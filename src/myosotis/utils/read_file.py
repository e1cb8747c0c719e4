"""Files that may come from anywhere, opened in one place: regular files, and no more than is read.

A pipe in the place of a file is waited on for ever, and a device never ends. What belongs here:
opening a file that somebody else may have written, and parsing JSON and YAML so that a document
that is broken, or made to explode, is an error like any other. All raise `OSError` where the file
cannot be read and `ValueError` where it is no such document: the caller knows what to say.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

MOST_DOCUMENT = 2**30
"""Bytes of a JSON document: a record, a list of weights, a configuration of a model."""

MOST_YAML = 1_000_000
"""Bytes of a YAML file. Ours have some thousand; a million take the parser two seconds."""

MOST_NODES = 200_000
"""Values of a YAML document once its aliases are written out."""

DEEPEST = 200
"""Levels of a YAML document."""

NOT_REGULAR = "it is no regular file"


@contextmanager
def opened(path: Path, most: int | None = None, *, links: bool = True) -> Iterator[BinaryIO]:
    """A regular file to read from its beginning, of at most `most` bytes; `links` may be followed.

    Raises `OSError`, for a pipe, a device and a socket too (a folder: `IsADirectoryError`).
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    flags |= 0 if links else getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags)
    except ValueError as error:  # a name with a NUL in it
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise OSError(errno.EINVAL, NOT_REGULAR, str(path)) from None
        raise
    try:
        _require_regular(os.fstat(handle), path, most)
        file = os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise
    with file:
        yield file


def require_regular(path: Path, most: int | None = None) -> None:
    """Raise `OSError` for what `opened` would refuse: for files that a library opens."""
    with opened(path, most):
        pass


def _require_regular(found: os.stat_result, path: Path, most: int | None) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    if most is not None and found.st_size > most:
        said = f"it has {found.st_size / 1e6:,.0f} MB, and at most {most / 1e6:,.0f} are read"
        raise OSError(errno.EFBIG, said, str(path))


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """`Path.read_bytes` of a regular file."""
    with opened(path, most) as file:
        return file.read()


def read_text(path: Path, most: int | None = None) -> str:
    """`Path.read_text` of a regular file, in UTF-8."""
    return read_bytes(path, most).decode("utf-8")


def read_json(path: Path) -> Any:
    """The JSON document in a file."""
    return json_of(read_text(path, MOST_DOCUMENT))


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file."""
    document = read_json(path)
    if not isinstance(document, dict):
        raise ValueError("it holds no JSON object")
    return document


def json_of(text: str) -> Any:
    """A JSON document; what nests too deeply to be parsed, or holds a number that is too long, is a
    `ValueError` as well."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_yaml(path: Path) -> str:
    """The text of a YAML file that can be loaded: it is parsed, and nothing is made of it."""
    text = read_text(path, MOST_YAML)
    require_yaml(text)
    return text


def require_yaml(text: str) -> None:
    """Raise `ValueError` for a text that is no YAML, or whose aliases refer to themselves or write
    out to more than `MOST_NODES` values."""
    import yaml

    if _brackets(text) > DEEPEST:  # the parser takes time by the square of them
        raise ValueError("nested too deeply")
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split()) or "nested too deeply") from None
    if node is not None and _written_out(node, {}, ()) > MOST_NODES:
        raise ValueError(f"its aliases stand for more than {MOST_NODES:,} values")


def _brackets(text: str) -> int:
    """How many brackets are open at most."""
    depth = deepest = 0
    for found in re.finditer(r"[][{}]", text):
        depth += 1 if found[0] in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _written_out(node: Any, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Values in a node, each alias counted as what it stands for."""
    import yaml

    if id(node) in above:
        raise ValueError("an alias refers to itself")
    if len(above) > DEEPEST:
        raise ValueError("nested too deeply")
    if id(node) not in known:
        here = (*above, id(node))
        total = 1
        if isinstance(node, yaml.MappingNode):
            for pair in node.value:
                total += sum(_written_out(child, known, here) for child in pair)
        elif isinstance(node, yaml.SequenceNode):
            total += sum(_written_out(child, known, here) for child in node.value)
        elif node.tag == "tag:yaml.org,2002:int" and len(node.value) > 400:
            raise ValueError("a number has more than 400 digits")
        known[id(node)] = total
    return known[id(node)]
