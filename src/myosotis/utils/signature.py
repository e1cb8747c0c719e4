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

from myosotis.utils.atomic_write import write_text
from myosotis.utils.read_file import read_bytes, read_json_object

KEY_BYTES = 32


def sign(path: Path, files: Sequence[str] = ()) -> None:
    """Say that `path` was written by this user, for use with `files` (absolute paths)."""
    key = _key()
    with suppress(OSError):
        if key is None:
            _beside(path).unlink(missing_ok=True)
            return
        named = sorted(files)
        document = {"hmac": _digest(key, path.read_bytes(), named), "files": named}
        write_text(_beside(path), json.dumps(document, indent=1) + "\n")


def signed(path: Path) -> list[str] | None:
    """The files named when `path` was signed by this user; None where it was not, or was changed
    since."""
    try:
        document = read_json_object(_beside(path))
        given, named = document["hmac"], document["files"]
        content = read_bytes(path)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(given, str) or not isinstance(named, list):
        return None
    key = _key(make=False)
    if key is None or not hmac.compare_digest(
        given.encode(), _digest(key, content, named).encode()
    ):
        return None
    return [str(name) for name in named]


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
