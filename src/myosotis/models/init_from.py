"""Going on from a tuned model: what was tuned before is merged into the base, which is then tuned
on (SFT, then DPO).

A *place* is a folder with `update/`, as run folders are, and `start/` where that run went on from
another in turn. The place a run went on from is copied into its own folder, so that the run needs
no other one to be loaded.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from myosotis import updates
from myosotis.models.load import BaseModel
from myosotis.records.find import find_run, has_update
from myosotis.records.run_folder import RunFolder
from myosotis.utils.atomic_write import new_folder
from myosotis.utils.errors import ConfigError, MyosotisError
from myosotis.utils.own_files import refuse_links


@dataclass(frozen=True)
class InitialUpdate:
    """An update that is merged into the base before anything else happens."""

    name: str
    update: Path
    before: InitialUpdate | None = None  # what that update stood on in turn

    @classmethod
    def named(cls, name: str) -> InitialUpdate:
        """A run (as `find_run` finds it) or the folder of an update.

        Raises `ConfigError` where nothing is finished, or the update cannot be merged.
        """
        folder = Path(name)
        if (folder / "update.json").is_file() or (folder / "adapter_config.json").is_file():
            return cls(folder.resolve().name, folder)._mergeable()
        try:
            run = find_run(name, able=has_update)
        except MyosotisError as error:
            raise ConfigError(f"model.start={name}: {error.message}", error.hint) from None
        found = cls.at(run.path, run.load().run_name)
        if found is None:
            raise ConfigError(
                f"model.start={name}: that run has no finished update.",
                f"If it was stopped, `myosotis train resume={run.path}` finishes it.",
            )
        return found._mergeable()

    @classmethod
    def of(cls, name: str | None, run: RunFolder) -> InitialUpdate | None:
        """What a run goes on from: the copy it keeps, else what `name` names, copied now."""
        if name is not None and not run.start.is_dir():
            cls.named(name).keep(run.start)
        return cls.at(run.start, name or "start")

    @classmethod
    def at(cls, place: Path, name: str = "start") -> InitialUpdate | None:
        """What lies in a place; None where there is no update."""
        if not (place / "update").is_dir():
            return None
        return cls(name, place / "update", cls.at(place / "start"))

    def _mergeable(self) -> InitialUpdate:
        able = updates.from_folder(self.update).capabilities
        if not able.mergeable:
            raise ConfigError(
                f"model.start={self.name}: its update cannot be merged into the base: "
                f"{able.reasons['mergeable']}."
            )
        return self

    @property
    def note(self) -> str:
        """For the record, beside what is noted about the base."""
        return f"continues from {self.name}"

    def keep(self, place: Path) -> None:
        """Copy it to `place`, once."""
        if place.is_dir():
            return
        refuse_links(self.update)
        with new_folder(place) as partial:
            shutil.copytree(self.update, partial / "update")
            if self.before is not None:
                self.before.keep(partial / "start")

    def merged_into(self, base: BaseModel) -> BaseModel:
        """The base that this start makes of `base`, whose weights are used up."""
        if self.before is not None:
            base = self.before.merged_into(base)
        update = updates.from_folder(self.update)
        update.attach(base.model, base.tokenizer)
        update.load(self.update)
        model = update.merged().eval()
        digest = hashlib.sha256(base.content_hash.encode())
        for file in sorted(p for p in self.update.rglob("*") if p.is_file()):
            digest.update(file.name.encode() + file.read_bytes())
        note = "; ".join(filter(None, (base.note, self.note)))
        return replace(
            base,
            model=model,
            id=f"{base.id}+{self.name}",
            note=note,
            content_hash=digest.hexdigest(),
        )
