"""From what a person names to a log: a folder, a file, or a run of one's own.

What belongs here: which reader reads what, told by content rather than by name where names are
free. A folder is walked without following links.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from myosotis.records.find import UnknownRun, find_run
from myosotis.records.run_folder import RunFolder
from myosotis.retention.logs import files, inspect_ai, lm_eval, own, table
from myosotis.retention.logs.log import Log
from myosotis.retention.logs.own import SIDES, Both
from myosotis.utils.errors import DataError

MOST_FILES = 100_000
FORMS = (
    "A log is a folder or file of lm-eval (--log_samples) or Inspect, a run of yours, its "
    "retention_items.parquet, or a .csv or .jsonl of items."
)


def sides(words: Sequence[str], cluster: str | None, metrics: Sequence[str]) -> Both:
    """The base's and the tuned model's log of two words, or of the one word that names a run.

    Of two words each is one model: a run stands for its tuned model, RUN#base for its base.
    """
    if len(words) == 1:
        found = _opened(words[0], cluster, metrics)
        if isinstance(found, Both):
            return found
        raise DataError(
            f"{words[0]} is a log of one model: with what is it to be compared?",
            "compare A B takes two logs, the base's first; of one run, compare RUN takes both.",
        )
    base, tuned = (one_side(word, cluster, metrics) for word in words)
    return Both(base, tuned)


def one_side(word: str, cluster: str | None = None, metrics: Sequence[str] = ()) -> Log:
    """The log of one model that a word names. Raises `DataError` for what is none."""
    name, side = word, "tuned"
    for one in SIDES:
        if word.endswith(f"#{one}") and not os.path.exists(word):  # noqa: PTH110 - never raises
            name, side = word.removesuffix(f"#{one}"), one
    found = _opened(name, cluster, metrics)
    if isinstance(found, Both):
        return found.base if side == "base" else found.tuned
    if name != word:
        raise DataError(f"{name} is a log of one model: it has no side {side!r} to choose.")
    return found


def _opened(word: str, cluster: str | None, metrics: Sequence[str]) -> Log | Both:
    try:
        path = Path(word).expanduser()
        if path.is_symlink():  # what a person names is theirs; what lies in it may be anybody's
            path = path.resolve()
        if path.is_dir():
            return _folder(path, word, cluster)
        if path.exists():
            return _file(path, word, cluster, metrics)
        return own.read_run(find_run(word), word, cluster)
    except OSError as error:
        raise DataError(f"{word} cannot be read: {error.strerror or error}.") from None
    except UnknownRun as error:
        raise DataError(f"There is no file {word}, and {error.message}.", FORMS) from None


def _folder(path: Path, word: str, cluster: str | None) -> Log | Both:
    if (run := RunFolder(path)).record.is_file():
        return own.read_run(run, word, cluster)
    found = _walk(path)
    samples = [one for one in map(lm_eval.Samples.of, found) if one is not None]
    if samples:
        folders = sorted({one.path.parent for one in samples})
        if len(folders) > 1:
            raise DataError(
                f"{word} holds lm-eval logs in {len(folders)} folders, one for each model: "
                f"{', '.join(str(folder.relative_to(path)) for folder in folders[:6])}.",
                "Name one of them.",
            )
        return lm_eval.read(samples, word, cluster)
    headers = [inspect_ai.header(one) for one in found if one.suffix == inspect_ai.ENDING]
    for one in found:
        if one.suffix == ".json" and one.stat().st_size <= files.MOST_DOCUMENT:
            with suppress(DataError):  # any JSON may lie beside logs
                headers.append(inspect_ai.header(one))
    if headers:
        return inspect_ai.read(headers, word, cluster)
    items = [one for one in found if one.name == run.items.name]
    if len(items) == 1:
        return own.read_items(items[0], word, cluster=cluster)
    with_results = any(lm_eval.RESULTS.fullmatch(one.name) for one in found)
    raise DataError(
        f"{word} holds no log: "
        + ("results of lm-eval, and no samples." if with_results else "nothing that is one."),
        "Run lm_eval with --log_samples." if with_results else FORMS,
    )


def _walk(folder: Path) -> list[Path]:
    """The files below a folder that may be logs, in order. Links to such files are refused."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix in (".json", ".jsonl", inspect_ai.ENDING, own.ENDING):
                if path.is_symlink():
                    raise files.linked(path)
                found.append(path)
        if len(found) > MOST_FILES:
            raise DataError(f"{folder} holds more than {MOST_FILES:,} files: name a folder in it.")
    return found


def _file(path: Path, word: str, cluster: str | None, metrics: Sequence[str]) -> Log | Both:
    ending = path.suffix.lower()
    if ending == inspect_ai.ENDING:
        return inspect_ai.read([inspect_ai.header(path)], word, cluster)
    if ending == own.ENDING:
        return own.read_items(path, word, cluster=cluster)
    if ending == ".json":
        return _document(path, word, cluster)
    if ending not in table.ENDINGS:
        raise DataError(f"{word} has none of the endings that logs have.", FORMS)
    if ending == ".jsonl":
        first = next((record for _, _, record in files.json_lines(path)), {})
        if lm_eval.is_sample(first):
            named = lm_eval.Samples.of(path) or lm_eval.Samples(path, path.stem, "")
            return lm_eval.read([named], word, cluster)
    return table.read(path, word, cluster, metrics)


def _document(path: Path, word: str, cluster: str | None) -> Log | Both:
    """A JSON document: a run's record, lm-eval's results, or a log of Inspect."""
    document = files.an_object(files.document(path), word)
    if "run_id" in document and "schema" in document:
        return own.read_run(RunFolder(path.parent), word, cluster)
    if lm_eval.is_results(document):
        named = lm_eval.RESULTS.fullmatch(path.name)
        date = named["date"] if named else ""
        beside = map(lm_eval.Samples.of, sorted(path.parent.glob("samples_*.jsonl")))
        samples = [one for one in beside if one is not None and one.date == date]
        if not samples:
            raise DataError(
                f"{word} is the results of lm-eval, and there are no samples beside it.",
                "Run lm_eval with --log_samples.",
            )
        return lm_eval.read(samples, word, cluster)
    if inspect_ai.is_log(document):
        return inspect_ai.read([inspect_ai.header(path)], word, cluster)
    raise DataError(f"{word} is no log that is known.", FORMS)
