"""Records of parquet files and of the hub, as of JSON Lines."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from myosotis.data.preference import read_pairs
from myosotis.data.sft import read_answers
from myosotis.utils.errors import DataError

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
