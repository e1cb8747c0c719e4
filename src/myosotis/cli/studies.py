"""Studies: where a sweep of that name is described, and the command that runs one of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import redacted


def packaged() -> list[str]:
    """The studies that come with myosotis."""
    return sorted(Path(f.name).stem for f in files("myosotis.sweeps").iterdir() if _is_yaml(f.name))


def found(name: str) -> Path:
    """The file of a study. Raises `ConfigError` with near names when there is none."""
    here = Path("sweeps") / f"{name}.yaml"
    for path in (Path(name), here):
        if _is_yaml(path.name) and path.is_file():
            return path.absolute()
    with as_file(files("myosotis.sweeps")) as folder:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    own = [p.stem for p in Path("sweeps").glob("*.yaml")]
    known = sorted({*own, *packaged()})
    hint = did_you_mean(name, known) or f"Known: {', '.join(known)}."
    raise ConfigError(f"There is no sweep {name!r}.", hint)


def _is_yaml(name: str) -> bool:
    return name.endswith(".yaml")


def command(words: Sequence[str]) -> list[str]:
    """The shell's words for `myosotis train WORDS`; by its name where they are of a study.

    `-cd=FOLDER -cn=NAME` says where a study lies on this machine, `myosotis sweep NAME` finds it on
    any other.
    """
    words = [redacted(word) for word in words]
    if len(words) > 1 and words[0].startswith("-cd=") and words[1].startswith("-cn="):
        name = words[1].removeprefix("-cn=")
        try:
            path = found(name)
        except ConfigError:
            path = None
        if path == Path(words[0].removeprefix("-cd=")) / f"{name}.yaml":
            return ["myosotis", "sweep", name, *words[2:]]
    return ["myosotis", "train", *words]
