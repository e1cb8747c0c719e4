"""The names lm-eval knows, and the file each is defined in.

`lm_eval.tasks.TaskManager()` parses some 14,000 YAML files to find that out, ten seconds a start.
Here their text is scanned for the five keys that matter, once for each lm-eval version; the result
is kept in the cache folder. lm-eval itself is not imported.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from myosotis.models import wheels
from myosotis.records.schema import GENERAL_TEXTS
from myosotis.utils.atomic_write import write_text
from myosotis.utils.console import progress
from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError

_FORMAT = 1
_KEY = re.compile(r"^[\"']?(task|group|tag|include|class)[\"']?[ \t]*:[ \t]*(.*)$", re.MULTILINE)
_MEMBER = re.compile(r"\s*\n[ \t]*-[ \t]+([^\n]*)")

Keys = dict[str, list[str]]


@dataclass(frozen=True)
class TaskFiles:
    """Every name of lm-eval. Files are relative to `root`, its folder of task definitions."""

    root: Path
    tasks: dict[str, str]  # task -> file
    groups: dict[str, str]  # group -> file
    tags: dict[str, list[str]]  # tag -> tasks; a shorthand for them, with no score of its own

    def file(self, name: str) -> Path | None:
        """The file that defines a task or a group; None for a tag."""
        relative = self.groups.get(name) or self.tasks.get(name)
        return self.root / relative if relative else None

    def __contains__(self, name: object) -> bool:
        return name in self.tasks or name in self.groups or name in self.tags

    def unknown(self, name: str) -> ConfigError:
        """The error for a name that is not here, with the nearest that are."""
        names = [*self.groups, *self.tags, *self.tasks, *GENERAL_TEXTS]
        hint = f"{meant} " if (meant := did_you_mean(name, names, "")) else ""
        return ConfigError(
            f"retention.suite: no benchmark is called {name!r}.",
            f"{hint}Names are those of lm-eval {version()} (`lm-eval ls tasks`), "
            f"and {', '.join(GENERAL_TEXTS)}.",
        )


def version() -> str:
    """The installed lm-eval version."""
    return importlib.metadata.version("lm-eval")


@lru_cache(maxsize=1)
def task_files() -> TaskFiles:
    """Those of the installed lm-eval; scanned on first use, then read from the cache."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise ConfigError("lm-eval is not installed.", "pip install lm-eval")
    root = Path(spec.origin).parent / "tasks"
    kept = wheels.cache_dir() / f"lm-eval-{version()}-names-{_FORMAT}.json"
    try:
        return TaskFiles(root, **json.loads(kept.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        with progress("Reading the names of lm-eval's benchmarks (once)", None):
            files = scan(root)
        _keep(kept, files)
        return files


def _keep(path: Path, files: TaskFiles) -> None:
    """Write the cache file in one step; a folder that cannot be written costs 3 s a start."""
    fields = {key: value for key, value in asdict(files).items() if key != "root"}
    with contextlib.suppress(OSError):
        write_text(path, json.dumps(fields))


def scan(root: Path) -> TaskFiles:
    """Read every definition below `root`, in lm-eval's order: of two with one name the first."""
    files = TaskFiles(root, {}, {}, {})
    read: dict[Path, Keys] = {}
    for path in sorted(root.rglob("*.yaml"), key=lambda p: p.as_posix()):
        keys = _with_includes(path, read, ())
        where = path.relative_to(root).as_posix()
        if "class" not in keys and "group" in keys:
            files.groups.setdefault(keys["group"][0], where)
        elif (name := next(iter(keys.get("task", [])), "")) and name not in files.tasks:
            files.tasks[name] = where
            for tag in keys.get("tag", []):
                files.tags.setdefault(tag, []).append(name)
    return files


def _with_includes(path: Path, read: dict[Path, Keys], above: tuple[Path, ...]) -> Keys:
    if path not in read:
        own = _keys(path)
        merged: Keys = {}
        for name in own.get("include", []):
            included = Path(os.path.normpath(path.parent / name))
            if included not in above:
                merged |= _with_includes(included, read, (*above, path))
        read[path] = {**merged, **own}
    return read[path]


def _keys(path: Path) -> Keys:
    try:
        text = path.read_text("utf-8", errors="replace")
    except OSError:  # an include that does not exist: lm-eval skips the file as well
        return {}
    return {match[1]: list(_values(match, text)) for match in _KEY.finditer(text)}


def _values(match: re.Match[str], text: str) -> Iterator[str]:
    inline = _plain(match[2])
    if inline.startswith("["):
        yield from (_plain(part) for part in inline.strip("[]").split(",") if part.strip())
    elif inline:
        yield inline
    else:
        at = match.end()
        while member := _MEMBER.match(text, at):
            yield _plain(member[1])
            at = member.end()


def _plain(value: str) -> str:
    """A YAML scalar without its quotes and its comment."""
    value = value.strip()
    if value[:1] in ("'", '"'):
        return value[1:].split(value[0])[0]
    return value.split(" #")[0].strip()
