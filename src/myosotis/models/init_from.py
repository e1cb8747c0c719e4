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
        if (folder / updates.ABOUT).is_file() or (folder / "adapter_config.json").is_file():
            return cls._of_folder(name, folder.resolve())._mergeable()
        try:
            run = find_run(name, able=has_update)
        except MyosotisError as error:
            raise ConfigError(f"model.start={name}: {error.message}", error.hint) from None
        record = run.load()
        found = cls.at(run.path, record.run_name)
        if found is None:
            raise ConfigError(
                f"model.start={name}: that run has no finished update.",
                f"If it was stopped, `myosotis train resume={run.path}` finishes it.",
            )
        quantization = record.group("update").get("quantization")
        return found._mergeable(run=str(run.path), quantization=quantization)

    @classmethod
    def _of_folder(cls, name: str, folder: Path) -> InitialUpdate:
        """The update in a folder, with what it stands on in turn where that lies beside it."""
        before = cls.at(folder.parent / "start")
        if (start := updates.about(folder).get("start")) is None:
            return cls(folder.name, folder)
        if before is None:
            raise ConfigError(
                f"model.start={name} stands on a tuned model, {start}, which is not beside it.",
                "Name its run instead.",
            )
        return cls(folder.name, folder, before)

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

    def _mergeable(self, *, run: str = "RUN", quantization: str | None = None) -> InitialUpdate:
        able = updates.from_folder(self.update).capabilities
        if not able.mergeable:
            raise ConfigError(
                f"model.start={self.name}: its update cannot be merged into the base: "
                f"{able.reasons['mergeable']}."
            )
        said = updates.about(self.update).get("settings", {})
        if quantization or said.get("quantization"):
            raise ConfigError(
                f"model.start={self.name} was tuned on a base in four bits; merged into weights "
                "that were not rounded, it would be another model.",
                f"myosotis export {run} --to merged --out DIR, then model=local model.path=DIR",
            )
        return self

    def require_base(self, name: str, content_hash: str) -> None:
        """Raise `ConfigError` unless the base it was tuned on is the one of this hash, as far as
        that is known: an adapter of plain PEFT does not say."""
        if self.before is not None:
            self.before.require_base(name, content_hash)
            return
        about = updates.about(self.update)
        known = about.get("base_content_hash")
        if known and known != content_hash:
            raise ConfigError(
                f"model.start={self.name} was tuned on another base "
                f"({about.get('base_model') or 'a folder'}, {known[:12]}) than the one it is to be "
                f"merged into ({name}, {content_hash[:12]}).",
                "Give the base of that run as the model, or write it out as one: "
                "myosotis export RUN --to merged --out DIR",
            )

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
