"""The end of a run as a step that can be repeated: what a kill left undone of it, done.

What belongs here: half-written files, and the page of a finished run. What MLflow lacks is brought
by `sync.py`. Where nothing is missing nothing is touched.
"""

from __future__ import annotations

import shutil
from contextlib import suppress

from myosotis.records.run_folder import RunFolder
from myosotis.report.scorecard import scorecard


def mend_folder(folder: RunFolder) -> list[str]:
    """Mend what lies in a folder that this process holds; what was done, in words."""
    done = []
    if litter := clear(folder):
        done.append(f"removed {litter} half-written files")
    record = folder.load()
    if record.status == "FINISHED" and not folder.scorecard.exists():
        scorecard(record, folder.scorecard)
        done.append(f"wrote {folder.scorecard.name}")
    return done


def clear(folder: RunFolder) -> int:
    """Remove what a killed process was writing when it ended; returns how much there was."""
    left = list(folder.path.rglob("*.partial"))
    for path in left:
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    return len(left)
