"""A run or a sweep by what a person calls it: one order of search, and what is said when it fails.

The order: a folder, `last`, a whole run id, a name, the beginning of a run id. What belongs here:
that order, and the run folders it is applied to; for runs that only MLflow knows see
`tracking/find.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from myosotis.records.run_folder import RunFolder, SweepFolder
from myosotis.utils.did_you_mean import near
from myosotis.utils.errors import DataError, MyosotisError

ROOTS = ("runs", "multirun", "reports/demo")
"""Where runs lie, from the current folder: Hydra's run and sweep folders, and the demo."""

Place = TypeVar("Place")


class UnknownRun(DataError):
    """Nothing that was searched has this name: it may be known elsewhere."""


@dataclass(frozen=True)
class Candidate(Generic[Place]):
    """What a person can mean, and where it is. `started` is ISO 8601."""

    run_id: str
    name: str
    status: str
    started: str
    place: Place


def choose(query: str, candidates: Sequence[Candidate[Place]], where: str) -> Place:
    """The place of the candidate that `query` means; of those that began together the first counts.

    Raises `UnknownRun` with near matches when there is none, `DataError` with the candidates when
    there are several. `where` says what was searched, as in "below /a/folder".
    """
    newest = sorted(candidates, key=lambda one: one.started, reverse=True)
    if not newest:
        raise UnknownRun(f"there are no runs {where}", "myosotis train makes one")
    if query == "last":
        return newest[0].place
    for matches in (
        [one for one in newest if query and one.run_id == query],
        [one for one in newest if query and one.name == query],
        [one for one in newest if query and one.run_id.startswith(query.lower())],
    ):
        if len(matches) == 1:
            return matches[0].place
        if matches:
            raise DataError(
                f"{query!r} could be any of {len(matches)} runs:\n{_listing(matches)}",
                "Give more of the run id.",
            )
    names = {one.name: one for one in reversed(newest)} | {one.run_id: one for one in newest}
    meant = [names[name] for name in near(query, names)]
    raise UnknownRun(
        f"no run {where} is called {query!r}",
        f"{'Did you mean' if meant else 'The newest are'}:\n{_listing(meant or newest[:3])}",
    )


def _listing(candidates: Sequence[Candidate[Place]]) -> str:
    lines = [
        f"  {one.run_id[:12]}  {one.name}  {one.status}  {one.started}" for one in candidates[:10]
    ]
    return "\n".join([*lines, "  …"] if len(candidates) > 10 else lines)


Able = Callable[[RunFolder], bool]


def has_checkpoint(folder: RunFolder) -> bool:
    """Whether a run can be resumed."""
    return folder.checkpoint.is_file() and folder.config.is_file()


def has_update(folder: RunFolder) -> bool:
    """Whether a run has a tuned model; `evaluate` and `export` leave records without one."""
    return folder.update.is_dir() and folder.config.is_file()


LACKING: dict[Able, str] = {has_checkpoint: "has a checkpoint", has_update: "has a finished update"}


def find(
    query: str, root: Path | None = None, *, able: Able | None = None
) -> RunFolder | SweepFolder:
    """The folder of the run or sweep that `query` means, below `root`; default: the current folder.

    `last` is a run, the last one that is `able` to be what is wanted. Raises `UnknownRun` when
    there is none, `DataError` when there are several.
    """
    if (run := RunFolder(Path(query))).record.is_file():
        return run
    if (sweep := SweepFolder(Path(query))).about.is_file():
        return sweep
    base = root or Path.cwd()
    folders = all_runs(base)
    if query == "last" and able is not None:
        if folders and not any(map(able, folders)):
            raise UnknownRun(f"none of the {len(folders)} runs below {base} {LACKING[able]}")
        folders = [folder for folder in folders if able(folder)]
    candidates: list[Candidate[RunFolder | SweepFolder]] = [*_runs(folders)]
    if query != "last":
        candidates += _sweeps(base)
    return choose(query, candidates, f"below {base}")


def find_run(query: str, root: Path | None = None, *, able: Able | None = None) -> RunFolder:
    """The folder of the run that `query` means; see `find`. A sweep is refused, with its trials."""
    place = find(query, root, able=able)
    if isinstance(place, RunFolder):
        return place
    trials = _listing(_runs(place.trials()))
    raise DataError(f"{query!r} is a sweep: a single run is needed", f"One of:\n{trials}")


def all_runs(root: Path | None = None) -> list[RunFolder]:
    """All run folders below `root` (default: the current folder)."""
    return [RunFolder(path.parent) for path in _below(root or Path.cwd(), "record.json")]


def _below(base: Path, name: str) -> list[Path]:
    return sorted({path for root in ROOTS for path in (base / root).rglob(name)})


def _runs(folders: Sequence[RunFolder]) -> list[Candidate[RunFolder | SweepFolder]]:
    """Runs as candidates; a damaged record hides one run, not all of them."""
    candidates: list[Candidate[RunFolder | SweepFolder]] = []
    for folder in reversed(folders):
        try:
            candidates.append(Candidate(*folder.header(), folder))
        except MyosotisError:
            continue
    return candidates


def _sweeps(base: Path) -> list[Candidate[RunFolder | SweepFolder]]:
    folders = [SweepFolder(path.parent) for path in _below(base, "sweep.json")]
    return [
        Candidate(info.run_id, info.name, "sweep", info.started, folder)
        for folder in folders
        if (info := folder.load()) is not None
    ]
