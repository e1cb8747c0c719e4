"""Where the MLflow store is, and whether it can be used.

What belongs here: turning `tracking.uri` into an explicit, absolute store, and refusing a
database that MLflow would damage or that could not be written. Reads sqlite with the standard
library alone, so that a bad store is reported before MLflow, or any weights, are loaded.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sqlite3
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import HIDDEN, redacted

REASON, FOLDER, VERSION = "myosotis.reason", "myosotis.out", "myosotis.version"
"""Tags of a run: why it failed, where it lies, and which version made it."""

DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
LOCK_SECONDS = 20.0
"""How long a database may stay locked by another process; MLflow itself waits as long."""


@dataclass(frozen=True)
class Store:
    """An MLflow store. `artifacts` is None where the server decides where artifacts go."""

    uri: str
    artifacts: str | None

    @property
    def database(self) -> Path | None:
        """The sqlite file, or None for a server."""
        return Path(self.uri.removeprefix("sqlite:///")) if self.uri.startswith("sqlite:") else None

    @property
    def shown(self) -> str:
        """The uri as it may be seen: without a password."""
        return without_credentials(self.uri)


def without_credentials(text: str) -> str:
    """`text` with `***` for what stands before the @ of a uri in it, and for its passwords."""
    return redacted(text)


def resolve(uri: str | None = None, folder: Path | None = None) -> Store:
    """The store `uri` names, else MLFLOW_TRACKING_URI (read now), else `folder`/mlflow.db.

    The default is the file plain `mlflow ui` looks for in that folder (the current one), so
    both show the same runs. Artifacts lie beside the database, in `mlartifacts`.

    Raises ConfigError for the file store, for a uri that is no MLflow store, and for one that was
    recorded without its password, unless it is that of MLFLOW_TRACKING_URI.
    """
    folder = Path.cwd() if folder is None else folder
    given, known = (uri or "").strip(), os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    if not given or (HIDDEN in given and without_credentials(known) == given):
        given = known
    if HIDDEN in given:
        raise ConfigError(
            f"tracking.uri={given} was recorded without its password.",
            "Give tracking.uri=… again, or put it into MLFLOW_TRACKING_URI.",
        )
    if not given:
        return _sqlite(folder / DATABASE)
    try:
        urllib.parse.urlsplit(given).port  # noqa: B018 - raises for a port that is none
    except ValueError as error:
        raise ConfigError(
            f"tracking.uri={without_credentials(given)} is no address: {error}."
        ) from None
    scheme, _, rest = given.partition("://")
    if scheme == "sqlite" or scheme.startswith("sqlite+"):
        if "?" in rest or not rest.startswith("/") or rest in ("/", "/:memory:"):
            raise ConfigError(
                f"tracking.uri={given} is not a database file myosotis can share between runs.",
                "Give sqlite:////absolute/path/mlflow.db, without options.",
            )
        return _sqlite(folder / rest[1:])
    if scheme in ("http", "https"):
        return Store(given, artifacts=None)
    if re.fullmatch(r"(postgresql|mysql|mssql)(\+\w+)?", scheme):
        return Store(given, artifacts=str(folder / ARTIFACTS))
    if given == "databricks" or scheme == "databricks":
        return Store(given, artifacts=None)
    if "://" not in given and given.endswith((".db", ".sqlite", ".sqlite3")):
        return _sqlite(folder / Path(given).expanduser())
    raise ConfigError(
        f"tracking.uri={without_credentials(given)} is not an MLflow store myosotis can use.",
        "Give a path ending in .db, sqlite:////absolute/path/mlflow.db or http://server:port; "
        "MLflow's file store is not supported. tracking=none does without MLflow.",
    )


def _sqlite(path: Path) -> Store:
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a linked database
    if "%" in str(path) or "?" in str(path):  # SQLAlchemy versions differ in how they read these
        raise ConfigError(
            f"MLflow cannot use a database whose path has a % or a ? in it: {path}.",
            "Use another tracking.uri.",
        )
    return Store(f"sqlite:///{path}", artifacts=str(path.parent / ARTIFACTS))


def check(store: Store, *, write: bool = True, lock_seconds: float = LOCK_SECONDS) -> bool:
    """Whether a sqlite store already holds MLflow's tables; False when there is none yet.

    Raises ConfigError when the database is foreign (MLflow would migrate it without asking),
    damaged, locked for longer than `lock_seconds`, or (with `write`) cannot be written, and
    when a server does not answer.
    """
    path = store.database
    if path is None:
        _check_server(store.uri)
        return True
    if write:
        _check_writable(path)
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return False
    if not path.is_file():
        raise ConfigError(f"The MLflow database {path} is not a file.")
    try:
        tables = _tables(path, write, lock_seconds)
    except sqlite3.DatabaseError as error:
        raise _refusal(path, error, lock_seconds) from error
    if not {"alembic_version", "experiments", "runs", "metrics"} <= tables:
        raise ConfigError(
            f"{path} is a database of something else ({len(tables)} tables, not MLflow's); "
            "MLflow would rewrite it.",
            "Point tracking.uri (or MLFLOW_TRACKING_URI) at another file.",
        )
    return True


def _tables(path: Path, write: bool, lock_seconds: float) -> set[str]:
    """The names of the tables; with `write`, after waiting for the lock a writer needs."""
    uri = f"file:{urllib.parse.quote(str(path))}?mode={'rw' if write else 'ro'}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=lock_seconds)) as db:
        db.isolation_level = None  # no implicit transactions: the two below are ours
        names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        if write:
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
    return names


def _refusal(path: Path, error: sqlite3.DatabaseError, lock_seconds: float) -> ConfigError:
    reason = str(error)
    if "locked" in reason:
        return ConfigError(
            f"The MLflow database {path} has been locked by another process for "
            f"{lock_seconds:g} seconds.",
            "Close what holds it (a database browser, a stuck run), or use another tracking.uri.",
        )
    if "not a database" in reason or "malformed" in reason:
        return ConfigError(
            f"{path} is not an MLflow database, or it is damaged ({reason}).",
            "Move it away, or use another tracking.uri.",
        )
    return ConfigError(f"The MLflow database {path} cannot be used: {reason}.")


def _check_writable(path: Path) -> None:
    """The database, if there is one, and its folder, where sqlite keeps its journal."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder of the MLflow database {path} cannot be made: {error.strerror or error}.",
            "Use another tracking.uri, or tracking=none.",
        ) from error
    if path.exists() and not os.access(path, os.W_OK):
        blocked = "it is read-only"
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        blocked = "its folder is read-only"
    else:
        return
    raise ConfigError(
        f"The MLflow database {path} cannot be written: {blocked}.",
        "Change its permissions, use another tracking.uri, or tracking=none.",
    )


def _check_server(uri: str) -> None:
    """One connection attempt, because MLflow itself retries for minutes before it complains."""
    address = urllib.parse.urlsplit(uri)
    if address.scheme not in ("http", "https") or not address.hostname:
        return
    proxied = address.scheme in urllib.request.getproxies()
    if proxied and not urllib.request.proxy_bypass(address.hostname):
        return
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError as error:
        raise ConfigError(
            f"The MLflow server {address.hostname}:{port} does not answer: {error}.",
            "Start it, correct tracking.uri (or MLFLOW_TRACKING_URI), or use tracking=none.",
        ) from error


def schema_version(path: Path) -> str:
    """The alembic revision of the database at `path`; empty when it holds none."""
    uri = f"file:{urllib.parse.quote(str(path))}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS)) as db:
        row = db.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else ""
