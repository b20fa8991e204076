import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.recommending.catalogue import RankedRows
from face_lightning.recommending.ranking_files import RankingWriter, check_out, read_histories, read_ids

USERS, ITEMS = pa.array(["ann", 'b"ob, jr', "Zoë"]), pa.array(["10", "20", "30"])
TILES = [
    RankedRows(np.array([2]), np.array([[1, 0]]), np.array([[2.5, -1.0]], dtype=np.float32), np.array([2])),
    RankedRows(
        np.array([0, 1]), np.array([[2, 0], [0, 1]]), np.array([[0.1, -np.inf]] * 2, dtype=np.float32), np.array([1, 0])
    ),
]
PAIRS = [("Zoë", "20", 1, 2.5), ("Zoë", "10", 2, -1.0), ("ann", "30", 1, float(np.float32(0.1)))]


def write(path: Path) -> None:
    with RankingWriter(path, "user_id", "item_id") as writer:
        for tile in TILES:
            writer.write(tile, USERS, ITEMS)
    assert writer.num_queries == 3


@pytest.mark.parametrize("group", [1, 2, 100])
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_tables_have_a_row_per_pair(tmp_path: Path, suffix: str, group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("face_lightning.recommending.ranking_files._GROUP", group)
    path = tmp_path / f"out.{suffix}"
    write(path)
    strings = pa_csv.ConvertOptions(
        column_types={"user_id": pa.string(), "item_id": pa.string(), "score": pa.float32()}
    )
    table = pq.read_table(path) if suffix == "parquet" else pa_csv.read_csv(path, convert_options=strings)
    assert table.column_names == ["user_id", "item_id", "rank", "score"]
    assert [tuple(row.values()) for row in table.to_pylist()] == PAIRS
    if suffix == "parquet":
        assert pq.ParquetFile(path).num_row_groups == (2 if group < 3 else 1)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_jsonl_has_a_line_per_query(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == [
        {"user_id": "Zoë", "item_ids": ["20", "10"], "scores": [2.5, -1.0]},
        {"user_id": "ann", "item_ids": ["30"], "scores": [0.1]},
        {"user_id": 'b"ob, jr', "item_ids": [], "scores": []},
    ]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_an_error_leaves_the_existing_file_unchanged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    path.write_text("old")
    writer = RankingWriter(path, "user_id", "item_id")
    with pytest.raises(IndexError), writer:
        writer.write(TILES[0], USERS, ITEMS[:1])
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [(path.name, "old")]


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"out: expected a file that ends in .parquet, .csv, .jsonl, got a.txt"
    ):
        check_out(Path("a.txt"))
    with pytest.raises(
        ConfigurationError, match=r"out: expected a file in a folder that exists, got .*; make the folder"
    ):
        check_out(tmp_path / "none" / "a.csv")


def test_ids_from_the_command_line_or_a_file(tmp_path: Path) -> None:
    assert read_ids("users", ["1", "2"]) == ["1", "2"]
    (tmp_path / "ids.txt").write_text("ann\n\n Zoë \n", encoding="utf-8")
    assert read_ids("users", [str(tmp_path / "ids.txt")]) == ["ann", "Zoë"]
    (tmp_path / "ids.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="users: expected ids in UTF-8, one a line"):
        read_ids("users", [str(tmp_path / "ids.txt")])
    (tmp_path / "ids.txt").write_text("\n")
    with pytest.raises(DataError, match=r"users: expected an id a line, but .* is empty"):
        read_ids("users", [str(tmp_path / "ids.txt")])


def test_histories_from_every_format(tmp_path: Path) -> None:
    expected = [("ann", ["10", "20"]), ("7", ["30"])]
    assert list(read_histories(["10", "20"])) == [("history", ["10", "20"])]
    (tmp_path / "h.jsonl").write_text(
        '{"user_id": "ann", "item_ids": [10, "20"]}\n\n{"user_id": 7, "item_ids": [30]}\n'
    )
    (tmp_path / "h.csv").write_text("item_id,user_id\n10,ann\n20,ann\n30,7\n")
    pq.write_table(pa.table({"user_id": ["ann", "ann", "7"], "item_id": [10, 20, 30]}), tmp_path / "h.parquet")
    for path in tmp_path.iterdir():
        assert list(read_histories([str(path)])) == expected, path


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("h.jsonl", '{"user_id": "ann"}\n', "KeyError: 'item_ids'"),
        ("h.jsonl", "[]\n", "TypeError"),
        ("h.jsonl", "user_id,item_id\n", "JSONDecodeError"),
        ("h.csv", "user,item\nann,1\n", "KeyError: 'user_id'"),
        (
            "h.csv",
            "user_id,item_id\nann,1\nbob,1\nann,2\n",
            "rows of user ann are not contiguous; sort",
        ),
        ("h.parquet", "no", "ArrowInvalid"),
    ],
)
def test_histories_in_another_format_are_rejected(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(
        DataError, match=r"history: expected JSONL of user_id and item_ids, or CSV or Parquet"
    ) as caught:
        list(read_histories([str(tmp_path / name)]))
    assert reason in str(caught.value)
