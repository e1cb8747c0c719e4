"""Records of parquet files and of the hub, as of JSON Lines."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from myosotis.data.example import Dataset
from myosotis.data.fields import Fields
from myosotis.data.kinds import Texts, kind_of
from myosotis.data.places import described
from myosotis.data.preference import read_pairs
from myosotis.data.records import RecordError
from myosotis.data.sft import Example, Message, read_answers
from myosotis.data.sources import files
from myosotis.data.tokenize import encode
from myosotis.utils.errors import ConfigError, DataError
from tests.data.conftest import byte_level

RECORDS = [{"prompt": f"q{n}", "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(3)]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(RECORDS), path)
    found = read_pairs(path).examples
    assert [(e.completion, e.rejected, e.where) for e in found][:1] == [
        ("a0", "b0", "pairs.parquet:1")
    ]
    with pytest.raises(DataError, match=r"pairs.parquet:1: no completion"):
        read_answers(path)


def test_classes_have_their_names(tmp_path: Path) -> None:
    """Of a file that `datasets` wrote; -1 is how it writes that there is no label. A number that is
    no class is told how it is read."""
    features = datasets.Features(
        {"prompt": datasets.Value("string"), "answer": datasets.ClassLabel(names=["no", "yes"])}
    )
    rows = {"prompt": ["a", "b", "c"], "answer": [1, 0, 1]}
    path = tmp_path / "mine.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    assert [e.completion for e in read_answers(path).examples] == ["yes", "no", "yes"]
    rows["answer"][1] = -1
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    with pytest.raises(DataError, match=r"mine.parquet:2: no completion"):
        read_answers(path)
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "label": 1}\n')
    fields = {"prompt": "prompt", "completion": "label"}
    with pytest.raises(DataError, match=r"the number 1; expected text[\s\S]*'\{label\}'"):
        read_answers(tmp_path / "mine.jsonl", Fields(fields))
    written = read_answers(tmp_path / "mine.jsonl", Fields(fields | {"completion": "{label}"}))
    assert written.examples[0].completion == "1"


def test_what_is_missing_among_numbers_is_absent(tmp_path: Path) -> None:
    """A column of numbers has NaN where a record has none: no text, and no name of a group."""
    path = tmp_path / "mine.parquet"
    numbers = (0.0, 1.0, float("nan"), 3.0)
    rows = [{"context": n, "question": f"q{n}", "answer": "a", "site": n} for n in numbers]
    pq.write_table(pa.Table.from_pylist(rows), path)
    for named, key, lacks in (
        ({"prompt": ["context", "question"], "completion": "answer"}, None, "context"),
        ({}, "site", "site"),
    ):
        with pytest.raises(DataError, match=rf"mine.parquet:3: no field '{lacks}'"):
            read_answers(path, Fields(named, key))
    with pytest.raises(DataError, match=r"mine.jsonl:1: 'context' is the number nan"):
        (tmp_path / "mine.jsonl").write_text('{"context": NaN, "answer": "a"}')
        read_answers(
            tmp_path / "mine.jsonl", Fields({"prompt": ["context"], "completion": "answer"})
        )


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"prompt": f"q{n}", "completion": "a"}) + "\n" for n in range(20))
    )
    for name in ("b.jsonl.xz", "c.arrow", "README.md", ".hidden.bin"):
        (tmp_path / name).write_bytes(b"x")
    (said,) = files(tmp_path).manifest["warnings"]
    assert "files that are not read: b.jsonl.xz, c.arrow; read are" in said
    assert (
        "warnings" not in files(tmp_path / "a.jsonl").manifest
        or not files(tmp_path / "a.jsonl").manifest["warnings"]
    )


def test_an_empty_table_is_told_what_belongs_there(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("prompt,completion\n")
    with pytest.raises(DataError, match="the names of the fields on the first line"):
        read_answers(tmp_path / "empty.csv")


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="no readable parquet file"):
        read_pairs(path)


def test_a_data_set_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder stands in for the hub's repository: the library loads both alike."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = tmp_path / "owner" / "name"
    place.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(RECORDS), place / "train.parquet")
    pq.write_table(pa.Table.from_pylist(RECORDS[:1]), place / "test.parquet")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    assert len(read_pairs("hub:owner/name").examples) == 3
    assert len(read_pairs("hub:owner/name#test").examples) == 1
    with pytest.raises(DataError, match="of the hub cannot be loaded"):
        read_pairs("hub:owner/name#absent")
    with pytest.raises(DataError, match="of the hub cannot be loaded"):
        read_pairs("hub:owner/other")


PLAIN = [{"prompt": f"q{n}", "completion": f"a\n{n}, \u2028é"} for n in range(3)]


def every_format(folder: Path) -> list[Path]:
    """The same three records in each format, packed and not."""
    jsonl = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in PLAIN).encode()
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, ["prompt", "completion"])
    writer.writeheader()
    writer.writerows(PLAIN)
    tabbed = io.StringIO(newline="")
    writer = csv.DictWriter(tabbed, ["prompt", "completion"], delimiter="\t")
    writer.writeheader()
    writer.writerows(PLAIN)
    packed = pa.Codec("zstd").compress(jsonl).to_pybytes()
    written = {
        "a.jsonl": jsonl,
        "b.json": json.dumps(PLAIN, indent=1).encode(),
        "c.json": json.dumps({"version": 1, "data": PLAIN}, indent=1).encode(),
        "d.json": jsonl,
        "d2.json": json.dumps({"version": 1, "data": PLAIN}).encode(),
        "e.csv": b"\xef\xbb\xbf" + table.getvalue().encode(),
        "f.tsv": tabbed.getvalue().encode(),
        "g.jsonl.gz": gzip.compress(jsonl, mtime=0),
        "h.csv.gz": gzip.compress(table.getvalue().encode()),
        "i.jsonl.zst": packed,
    }
    for name, content in written.items():
        (folder / name).write_bytes(content)
    pq.write_table(pa.Table.from_pylist(PLAIN), folder / "j.parquet")
    return sorted(folder.iterdir())


def said(path: Path | str) -> list[tuple[str, str]]:
    return [(e.prompt[0].content, e.completion) for e in read_answers(path).examples]


def test_every_format_holds_the_same(tmp_path: Path) -> None:
    """As a file, as a folder, and by a pattern; each says what it was taken for."""
    wanted = [(record["prompt"], record["completion"]) for record in PLAIN]
    files = every_format(tmp_path)
    for path in files:
        assert said(path) == wanted, path.name
    assert said(tmp_path) == wanted * len(files)
    assert said(str(tmp_path / "*.json")) == wanted * 4
    assert described(tmp_path / "h.csv.gz") == "CSV (gzip)"
    assert (
        described(str(tmp_path / "*.json*"))
        == "7 files: JSON Lines, JSON, JSON Lines (gzip), JSON Lines (zstd)"
    )
    assert [e.where for e in read_answers(tmp_path / "e.csv").examples] == [
        "e.csv:2", "e.csv:4", "e.csv:6"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"prompt,prompt\na,b\n", "names 'prompt' twice"),
        ("a.csv", b"prompt,\na,b\n", "a column without a name"),
        ("a.csv", b"prompt,completion\na,b\na,b,c\n", "a.csv:3: 3 cells, the header has 2"),
        ("a.csv", b"prompt,completion\na,\n", "a.csv:2: no completion"),
        ("a.csv", b'prompt,completion\na,"b\n', "no readable row"),
        ("a.json", b'[{"prompt": "a", "completion": "b"}, 3]', "record 2: the number 3"),
        ("a.json", b'[{"prompt": "a"', "not valid JSON"),
        ("a.json", b'{"a": [{"x": 1}],\n "b": [{"x": 1}]}', "several lists of records: 'a', 'b'"),
        ("a.jsonl.gz", b"no gzip", "a.jsonl.gz is damaged|cannot be read"),
        ("a.jsonl.gz", gzip.compress(b"{}", mtime=0)[:-6], "a.jsonl.gz is damaged"),
        ("a.jsonl.zst", b"no zstd", "a.jsonl.zst (is damaged|cannot be read)"),
    ],
)
def test_files_that_are_damaged(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=told):
        read_answers(tmp_path / name)


def test_tools_and_earlier_turns_may_have_names_of_their_own(tmp_path: Path) -> None:
    path, tool = tmp_path / "mine.jsonl", {"name": "add", "parameters": {}}
    first = {"q": "b", "a": "c", "past": [["x", "y"]], "functions_there": [tool]}
    path.write_text(json.dumps(first) + "\n" + json.dumps({"q": "d", "a": "e"}))
    named = {"prompt": "q", "completion": "a", "history": "past", "tools": "functions_there"}
    found = read_answers(path, Fields(named))
    assert [[m.content for m in e.messages] for e in found.examples] == [
        ["x", "y", "b", "c"], ["d", "e"],
    ]  # fmt: skip
    assert json.loads(found.examples[0].tools)[0]["function"] == tool and not found.unused
    with pytest.raises(ConfigError, match=r"the name of a field$"):
        Fields({"tools": ["a", "b"]})


def test_fields_of_ones_own_names() -> None:
    """One, several below one another, within an object, in a text of one's own; lists of texts."""
    record = {"CONTEXTS": ["one", "two"], "QUESTION": "why?", "answers": {"text": ["so"]}, "n": 3}
    for spec, wanted in (
        ("QUESTION", "why?"),
        ("CONTEXTS", "one\n\ntwo"),
        (["CONTEXTS", "QUESTION"], "one\n\ntwo\n\nwhy?"),
        ("{CONTEXTS}\n#{n}: {QUESTION}", "one\n\ntwo\n#3: why?"),
    ):
        made, left = Fields({"prompt": spec, "completion": "answers.text"}).of(record)
        assert made == {"prompt": wanted, "completion": "so"}
        assert ("answers" not in left and "QUESTION" not in left) or spec == "CONTEXTS"
    for named, told in (
        ({"prompt": "QUESTIONS"}, "no field 'QUESTIONS'; Did you mean QUESTION?"),
        ({"prompt": "answers.texts"}, "no field 'answers.texts'"),
        ({"prompt": ["answers", "n"]}, "'answers' is an object; expected text"),
    ):
        with pytest.raises(RecordError, match=re.escape(told)):
            Fields(named).of(record)
    for named, told in (
        ({"promt": "a"}, "Did you mean prompt"),
        ({"prompt": []}, "the name of a field"),
    ):
        with pytest.raises(ConfigError, match=told):
            Fields(named)


def test_the_hub_by_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Splits and configuration are keys; a folder stands in for the hub's repository."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = tmp_path / "owner" / "name"
    place.mkdir(parents=True)
    head = "---\nconfigs:\n"
    for config in ("easy", "hard"):
        head += f"- config_name: {config}\n  data_files:\n"
        for split in ("train", "test"):
            head += f"  - split: {split}\n    path: {config}-{split}.parquet\n"
            records = [{"q": f"{config} {split} {n}", "a": "b"} for n in range(4)]
            pq.write_table(pa.Table.from_pylist(records), place / f"{config}-{split}.parquet")
    (place / "README.md").write_text(head + "---\n")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    hub = {"name": "owner/name", "config": "hard", "split": "train", "val_split": "test"}
    found = files(hub=hub, fields={"prompt": "q", "completion": "a"})
    assert [e.prompt[0].content for e in found.train] == [f"hard train {n}" for n in range(4)]
    assert len(found.validation) + len(found.test) == 4
    assert found.manifest["files"][0]["name"] == "owner/name/hard#train"
    with pytest.raises(ConfigError, match=r"data\.hub\.config is set, data\.hub\.name is not"):
        files(hub={"config": "hard", "split": "train"})
    with pytest.raises(ConfigError, match="give one of them"):
        files("mine.jsonl", hub=hub)


def test_plain_text_is_learned_from_as_a_whole_in_windows(tmp_path: Path) -> None:
    """Every token is scored once, the end too; no chat template is written around it."""
    texts = ["the answer is in the prompt", "hello there"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    (tmp_path / "b.txt").write_text(texts[0])
    examples = read_answers(tmp_path).examples
    dataset = Dataset("texts", examples, examples, examples, {}).sealed()
    kind = kind_of(dataset, reads_labels=False, needs_value_head=False)
    assert kind == Texts()
    assert [e.groups for e in examples] == [("a.jsonl:1",), ("a.jsonl:2",), ("b.txt",)]
    tokenizer = byte_level()
    renderer = kind.renderer(tokenizer, "chat")
    whole = encode(examples, renderer, max_length=512)
    cut = encode(examples, renderer, max_length=7)
    for encoded in (whole, cut):
        learned: dict[str, list[int]] = {}
        for tree, example in zip(encoded.trees, encoded.examples, strict=True):
            (path,) = tree.paths()
            scored = [i for i, w in zip(path.ids, path.weights, strict=True) if w]
            learned.setdefault(example.where, []).extend(scored)
        assert list(learned) == ["a.jsonl:1", "a.jsonl:2", "b.txt"]
        for example in examples:
            ids = tokenizer(example.completion).input_ids
            assert learned[example.where] == [*ids, tokenizer.eos_token_id]
    assert all(len(tree) <= 7 for tree in cut.trees) and len(cut.trees) > 3
    assert "windows of 7 tokens" in cut.warnings("train")[0]
    with pytest.raises(DataError, match="plain text beside prompts"):
        mixed = [*examples, Example((Message("user", "a"), Message("assistant", "b")), "x")]
        kind_of(Dataset("m", mixed, mixed, mixed, {}), reads_labels=False, needs_value_head=False)
