"""Several processes that are the ranks of one run, without their imports (tests/warm.py)."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from tests import warm


def on_ranks(world: int, script: str, folder: Path) -> None:
    """Run a script `world` times at once, in processes that Lightning takes for ranks of its own.

    It is called with `folder` and the number of ranks, and knows its own by LOCAL_RANK. Its errors
    are the test's.
    """
    (folder / "rank.py").write_text(script)
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "NODE_RANK": "0",
    }
    ranks = [
        warm.start(
            [str(folder), str(world)],
            folder,
            {**env, "LOCAL_RANK": str(rank)},
            str(folder / "rank.py"),
        )
        for rank in range(world)
    ]
    said = [process.communicate(timeout=600)[1] for process in ranks]
    codes = [process.returncode for process in ranks]
    assert codes == [0] * world, "\n".join(text[-3000:] for text in said)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
