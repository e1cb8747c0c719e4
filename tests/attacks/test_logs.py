"""Logs that a stranger prepared: read as data, shown as text, refused in one message."""

from __future__ import annotations

import copy
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from myosotis.cli import main
from myosotis.retention.logs import files
from myosotis.retention.logs.find import one_side
from myosotis.retention.logs.match import match
from myosotis.retention.logs.scores import measured
from myosotis.utils.errors import MyosotisError
from tests.attacks.test_text import HOSTILE, MUST_NOT_SHOW
from tests.retention.logs import made
from tests.retention.logs.test_inspect import DATA, as_json

Refused = Callable[..., str]


# ---------------------------------------------------------------------------- text


def test_text_of_a_log_is_text(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In the names of models and tasks, in ids, prompts, choices, clusters: terminal and pages."""
    text = "".join(HOSTILE.values())
    asked = {
        "gen_args_0": {"arg_0": text, "arg_1": text},
        "gen_args_1": {"arg_0": text, "arg_1": "n"},
    }
    sides = []
    for side, right in (("a", 1.0), ("b", 0.0)):
        changes = {"arguments": asked, "doc": {"passage": text}, "filtered_resps": [["1", "x"]] * 2}
        lines = [made.sample(n, right, **{**changes, "doc_id": f"{text}{n}"}) for n in range(40)]
        about = {"model_name": f"{text}{side}", "versions": {"quiz": text}}
        about |= {"groups": {text: {}}, "group_subtasks": {text: ["quiz", "more"]}}
        sides.append(made.log(here / side, lines, results=about))
        made.log(sides[-1], lines, task="more", results=about)
    for ending in ("html", "md", "csv", "json"):
        assert main(["compare", *map(str, sides), "--out", f"page.{ending}"]) == 0
        shown = "".join(capfd.readouterr())
        page = (here / f"page.{ending}").read_text("utf-8", "surrogatepass")
        if ending != "json":  # whose own escape is JSON's
            shown += page
        assert not [c for c in MUST_NOT_SHOW if c in shown]
        plain = "".join(shown.replace("\\", "").split())
        assert "[boldred]x[/]" in plain, "markup is shown, not followed"
    assert not [path for path in here.iterdir() if path.name.startswith("compare")]


def test_a_name_cannot_choose_where_the_page_goes(here: Path) -> None:
    sides = [
        str(made.log(here / side, [1.0] * 3, results={"model_name": name}))
        for side, name in (("a", "../../etc/../x\n"), ("b", "/root/.ssh/authorized_keys"))
    ]
    assert main(["compare", *sides]) == 0
    assert [path.name for path in here.glob("*.html")] == ["compare-x-authorized-keys.html"]


# ---------------------------------------------------------------------------- files


def test_links_are_not_followed(here: Path, tmp_path: Path, refused: Refused) -> None:
    """A folder from elsewhere may hold links to the user's files; what is typed is the user's."""
    real = made.log(tmp_path / "real", [1.0] * 3)
    (samples,) = real.glob("*.jsonl")
    theirs = here / "theirs"
    theirs.mkdir()
    (theirs / samples.name).symlink_to(samples)
    assert "symbolic link" in refused("compare", theirs, real)
    (here / "mine").symlink_to(real)
    assert one_side(str(here / "mine")).digest == one_side(str(real)).digest
    outside = here / "outside"
    outside.mkdir()
    (outside / "in").symlink_to(real)
    assert "holds no log" in refused("compare", outside, real)
    run = here / "run"
    run.mkdir()
    (run / "record.json").symlink_to(here / "secret.json")
    (here / "secret.json").write_text('{"schema": 1, "run_id": "x"}')
    assert "symbolic link" in refused("compare", run)


def test_what_is_no_regular_file_is_not_waited_for(here: Path, refused: Refused) -> None:
    os.mkfifo(here / "samples_x.jsonl")
    os.mkfifo(here / "x.csv")
    assert "is no regular file" in refused("compare", here / "x.csv", here / "x.csv")
    assert "is no regular file" in refused("compare", here, here)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "is not text in UTF-8"),
        (b'{"doc_id": 1, "filt', "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"a":' * 450 + b"1" + b"}" * 450, "has no 'item'"),
        (b"[1, 2]", "is not a JSON object"),
        (b'{"doc_id": ' + b"9" * 5000 + b', "filtered_resps": []}', "is not JSON"),
        (b'{"doc_id": 1, "filtered_resps": []}\n{"x": 1}', "x.jsonl:2 is no sample of lm-eval"),
        (b"", "holds no items"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_broken_lines_are_one_message(
    here: Path, refused: Refused, content: bytes, said: str
) -> None:
    (here / "x.jsonl").write_bytes(content)
    assert said in refused("compare", here / "x.jsonl", here / "x.jsonl")


def test_files_of_other_kinds_are_one_message(here: Path) -> None:
    for ending in (".json", ".eval", ".parquet", ".jsonl", ".csv", ".txt"):
        for content in (b"", b"{}", b"null", b"PK\3\4" + b"\0" * 60, b"PAR1" * 9):
            (here / f"x{ending}").write_bytes(content)
            with pytest.raises(MyosotisError, match=f"x{ending}"):
                one_side(f"x{ending}")


def test_bounds_are_kept(here: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "x.jsonl").write_text(json.dumps({"item": 1, "score": 1, "text": "x" * 3_000_000}))
    (here / "x.csv").write_text("item,score\n" + "1,1\n" * 10)
    monkeypatch.setattr(files, "MOST_LINE", 1_000_000)
    assert "is longer than" in refused("compare", here / "x.jsonl", here / "x.jsonl")
    monkeypatch.setattr("myosotis.retention.logs.table.MOST_TABLE", 20)
    assert "at most" in refused("compare", here / "x.csv", here / "x.csv")


# ---------------------------------------------------------------------------- archives


def archive(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made_:
        made_.writestr("header.json", json.dumps(as_json(DATA / "base", "numbers", samples=None)))
        for name, content in entries.items():
            made_.writestr(f"samples/{name}.json", content)
    return path


def test_a_bomb_does_not_go_off(
    here: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the directory says, and where it says less than there is."""
    bomb = archive(here / "x.eval", a=b"[" + b"0," * 4_000_000 + b"0]")
    monkeypatch.setattr(files, "MOST_ENTRY", 1_000_000)
    assert "is larger than" in refused("compare", bomb, bomb)
    monkeypatch.setattr(files, "MOST_BYTES", 2_000_000)
    assert "would unpack to more" in refused("compare", bomb, bomb)
    content = bomb.read_bytes()
    size = struct.pack("<L", 8_000_003)
    assert size in content
    bomb.write_bytes(content.replace(size, struct.pack("<L", 10)))
    refused("compare", bomb, bomb)


def test_damaged_archives_are_one_message(here: Path, refused: Refused) -> None:
    """Real ones, cut off or changed anywhere."""
    (real,) = (DATA / "base").glob("*_numbers_*.eval")
    content = real.read_bytes()
    path = here / "x.eval"
    for cut in (10, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:cut])
        assert "no whole zip archive" in refused("compare", path, path)
    for place in range(0, len(content), 900):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            one_side(str(path))
        except MyosotisError as error:
            assert "x.eval" in error.message


def test_a_compression_nobody_knows_is_said(here: Path, refused: Refused) -> None:
    path = archive(here / "x.eval", a=zlib.compress(b"{}"))
    content = path.read_bytes()
    for mark, place in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        at = content.index(mark) + place
        content = content[:at] + struct.pack("<H", 77) + content[at + 2 :]
    path.write_bytes(content)
    assert "inspect log convert" in refused("compare", path, path)


# ---------------------------------------------------------------------------- every field

ODD: list[Any] = [
    *(None, True, -1, 10**400, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "a\0b"),
    *([], [[]], [None], [[1, 2], [3]], {}, {"a": {}}, {"a": [{"b": None}]}, [["nan", "False"]] * 3),
]


def changed(document: Any) -> Iterator[Any]:
    """The document with each of its fields, at two depths, one after the other something odd."""
    for key in document:
        for odd in ODD:
            yield {**document, key: odd}
        below = document[key]
        if isinstance(below, dict):
            for inner in below:
                for odd in (None, "x", [], {}, 10**400):
                    yield {**document, key: {**below, inner: odd}}


def survives(a: Path, b: Path) -> None:
    """Compared or refused, and nothing else."""
    try:
        with files.not_too_deep("it"):
            measured(match(one_side(str(a)), one_side(str(b))))
    except MyosotisError as error:
        assert len(str(error)) < 5000


def test_lm_evals_lines_may_hold_anything(tmp_path: Path) -> None:
    plain = made.log(tmp_path / "plain", [1.0] * 3)
    (path,) = made.log(tmp_path / "odd", [1.0] * 3).glob("samples_*.jsonl")
    count = 0
    for line in changed(made.sample(0, 1.0)):
        path.write_text(json.dumps(line) + "\n")
        survives(path.parent, plain)
        survives(plain, path.parent)
        count += 1
    assert count > 250


def test_lm_evals_results_may_hold_anything(tmp_path: Path) -> None:
    odd = made.log(tmp_path / "odd", [1.0] * 3)
    (path,) = odd.glob("results_*.json")
    about = json.loads(path.read_text()) | {"groups": {"g": {}}, "group_subtasks": {"g": ["quiz"]}}
    about |= {"configs": {"quiz": {"target_delimiter": " "}}, "chat_template_sha": "x"}
    for document in changed(about):
        path.write_text(json.dumps(document))
        survives(odd, odd)


def test_inspects_logs_may_hold_anything(tmp_path: Path) -> None:
    about = as_json(DATA / "base", "numbers")
    about["samples"] = about["samples"][:2]
    for sample in about["samples"]:
        sample.pop("events")
    path = tmp_path / "x.json"
    for document in changed(about):
        path.write_text(json.dumps(document))
        survives(path, path)
    for sample in changed(copy.deepcopy(about["samples"][0])):
        path.write_text(json.dumps({**about, "samples": [sample]}))
        survives(path, path)


def test_what_nests_as_deep_as_the_parser_allows(here: Path, refused: Refused) -> None:
    """The parser reads what a function that calls itself does not."""
    about = as_json(DATA / "base", "numbers")
    deep: Any = "x"
    for _ in range(480):
        deep = [deep]
    about["samples"][0]["input"] = deep
    (here / "x.json").write_text(json.dumps(about))
    said = main(["compare", "x.json", "x.json"])
    assert said in (0, 2)
