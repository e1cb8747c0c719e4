"""`myosotis ui`: MLflow's own server on the right store, reachable from this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Any

from myosotis.utils import children
from myosotis.utils.console import console
from myosotis.utils.errors import ConfigError, RunError
from myosotis.utils.escape import redacted, terminal

HOST = "127.0.0.1"


def serve(uri: str | None, port: int) -> Any:
    """Run MLflow's server until Ctrl-C; for a remote store, only say where it is.

    Raises `ConfigError` when there is no store yet or the port is taken.
    """
    from myosotis.tracking import mlflow_store as stores

    store = stores.resolve(uri)
    if store.uri.startswith(("http://", "https://")):
        shown = terminal(redacted(store.uri))
        console.print(f"These runs are on an MLflow server; open {shown}")
        return {"url": store.uri, "store": store.uri}
    if not stores.check(store, write=False):
        raise ConfigError(
            f"There are no runs to show yet: {store.uri} does not exist.",
            "`myosotis train` creates it; for another store: myosotis ui tracking.uri=URI",
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"Port {port} cannot be used: {error.strerror}.", "Choose another with --port."
            ) from None
    url = f"http://{HOST}:{port}"
    shown = terminal(redacted(store.uri))
    console.print(f"MLflow on {shown}\n[bold]{url}[/]  (Ctrl-C stops it)", soft_wrap=True)
    command = children.python("-m", "mlflow", "server", "--host", HOST, "--port", str(port))
    command += ["--backend-store-uri", store.uri, "--workers", "1"]
    if store.artifacts:
        command += ["--default-artifact-root", store.artifacts]
    # The job runner is for MLflow's GenAI features and takes 0.9 GB.
    environment = children.environment(
        {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    )
    # As an exception, so that the server ends too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    # In an empty folder: uvicorn, which MLflow starts, puts its own first on the path.
    with tempfile.TemporaryDirectory(prefix="myosotis-ui-") as empty:
        _run(command, environment, empty)
    return {"url": url, "store": store.uri}


def _run(command: list[str], environment: dict[str, str], folder: str) -> None:
    """The server, until it ends or Ctrl-C. Raises `RunError` for an exit code other than 0."""
    server = subprocess.Popen(command, env=environment, cwd=folder, start_new_session=True)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        code = 0
    finally:
        if server.poll() is None:  # MLflow's workers are children of their own
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=20)
    if code != 0:
        raise RunError(f"MLflow's server ended with exit code {code}.")
