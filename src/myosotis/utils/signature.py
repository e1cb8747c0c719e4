"""Which files this user's own commands wrote: a signature beside each, by a secret key.

HMAC-SHA256 (RFC 2104) over the file's bytes and what is said of it. The key lies in the user's
configuration folder, readable by nobody else. Who has no key, or cannot write one, signs nothing:
their own runs are then treated as anybody's, and `--trust` answers for them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from myosotis.utils.atomic_write import write_bytes, write_text
from myosotis.utils.read_file import read_bytes, read_json_object

KEY_BYTES = 32


def write_signed(path: Path, text: str, files: Sequence[str] = ()) -> None:
    """Write `text` to `path`, and say that this user did, for use with `files` (absolute paths).

    The signature is there first, and holds for what `path` was as well where this user wrote that:
    whenever the process is killed, the file is one of the two, and signed. Raises `OSError` when
    the file cannot be written.
    """
    key, content, named = _key(), text.encode(), sorted(files)
    with suppress(OSError):
        if key is None:
            _beside(path).unlink(missing_ok=True)
        else:
            entry = {"hmac": _digest(key, content, named), "files": named}
            before = _valid(path, key)
            document = entry if before in (None, entry) else {**entry, "before": before}
            write_text(_beside(path), json.dumps(document, indent=1) + "\n")
    write_bytes(path, content)


def signed(path: Path) -> list[str] | None:
    """The files named when `path` was signed by this user; None where it was not, or was changed
    since."""
    key = _key(make=False)
    entry = None if key is None else _valid(path, key)
    return None if entry is None else [str(name) for name in entry["files"]]


def _valid(path: Path, key: bytes) -> dict[str, Any] | None:
    """Of the signatures beside `path` the one that holds for what it is; None where none does."""
    try:
        document, content = read_json_object(_beside(path)), read_bytes(path)
    except (OSError, ValueError):
        return None
    for entry in (document, document.get("before")):
        if not isinstance(entry, dict):
            continue
        given, named = entry.get("hmac"), entry.get("files")
        if not isinstance(given, str) or not isinstance(named, list):
            continue
        if hmac.compare_digest(given.encode(), _digest(key, content, named).encode()):
            return {"hmac": given, "files": named}
    return None


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sig")


def _digest(key: bytes, content: bytes, named: Sequence[object]) -> str:
    said = json.dumps(named).encode()
    message = len(said).to_bytes(8) + said + content
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def key_file() -> Path:
    """Where the key lies: `myosotis/run-key` in the user's configuration folder."""
    home = Path.home()
    if sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    elif sys.platform == "win32":
        base = Path(os.environ.get("APPDATA") or home / "AppData" / "Roaming")
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    return base / "myosotis" / "run-key"


def _key(*, make: bool = True) -> bytes | None:
    """The user's key, made at the first signature; None where it cannot be had or others own it."""
    path = key_file()
    with suppress(OSError, FileExistsError):
        if make and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            partial.touch(mode=0o600, exist_ok=False)
            partial.write_bytes(secrets.token_bytes(KEY_BYTES))
            try:
                os.link(partial, path)  # whoever is first stays
            finally:
                partial.unlink()
    with suppress(OSError):
        mine = not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
        content = path.read_bytes()
        if mine and len(content) == KEY_BYTES:
            return content
    return None
