import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from face_lightning.commands.describe import main, read_words, select
from face_lightning.errors import ConfigurationError, DataError

ROWS = [
    {"kind": "user", "id": "1", "label": "1", "words": ["war", "ship"], "text": "Viewer who loves war."},
    {"kind": "item", "id": "1", "label": "Véronique (1991)", "words": ["love", "music"], "text": None},
    {"kind": "item", "id": "50", "label": "Star Wars (1977)", "words": ["space", "robot"], "text": "Space."},
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "stage3"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "descriptors.parquet")
    return folder


def test_table_names_entities_and_their_words(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(run), "--items", "50", "1", "--users", "1"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "item" in line or "user" in line]
    assert ["Star Wars (1977)" in lines[0], "space robot" in lines[0]] == [True, True]
    assert ["Véronique (1991)" in lines[1], "love music" in lines[1]] == [True, True]
    assert "war ship" in lines[2]
    assert len(lines) == 3


def test_data_are_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "kind": "item",
        "id": "[red]1",
        "label": "\x1b]8;;http://evil\x07[bold]x[/bold]\u202e",
        "words": [],
        "text": None,
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "descriptors.parquet")
    assert main(["--run", str(tmp_path), "--items", "[red]1"]) == 0
    shown = capsys.readouterr().out
    assert "[red]1" in shown
    assert "[bold]x[/bold]" in shown
    assert not {*"\x1b\x07\u202e"} & {*shown}
    assert main(["--run", str(tmp_path), "--items", "[red]1", "--json"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["label"] == row["label"]
    assert not {*"\x1b\x07\u202e"} & {*shown}


def test_json_has_one_object_per_line_in_the_given_order(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", str(run), "--users", "1", "--items", "50", "1", "--json"]) == 0
    shown = capsys.readouterr().out
    expected = [{key: row[key] for key in ("kind", "id", "label", "words")} for row in ROWS]
    assert [json.loads(line) for line in shown.splitlines()] == [expected[2], expected[1], expected[0]]
    assert "Véronique" in shown


def test_all_words_go_to_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "words.parquet"
    assert main(["--run", str(run), "--out", str(out)]) == 0
    assert pq.read_table(out).to_pylist() == ROWS
    assert capsys.readouterr().out == f"{out}: words of 3 entities\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage3", "words.parquet"]


def test_ids_of_one_kind_are_not_those_of_the_other(run: Path) -> None:
    words = read_words(run)
    assert [row["label"] for row in select(words, "item", ["1"])] == ["Véronique (1991)"]
    with pytest.raises(DataError, match=r"users: 50 not among the users of this run .*; look them up"):
        select(words, "user", ["1", "50"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], ConfigurationError, "items, users: expected at least one id, got none; or write all with --out"),
        (["--items", "7"], DataError, "items: 7 not among the items of this run"),
        (["--out", "/no/such/folder/a.parquet"], ConfigurationError, "out: expected a file in a folder that exists"),
    ],
)
def test_mistakes(run: Path, arguments: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        main(["--run", str(run), *arguments])


def test_run_without_words_and_damaged_words(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run: .* has no descriptors.parquet; name the folder"):
        read_words(tmp_path)
    path = run / "descriptors.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"run: .*descriptors.parquet is damaged .*; run that stage again"):
        read_words(run)


def test_words_with_a_damaged_block(run: Path) -> None:
    path = run / "descriptors.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = bytes(196)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"(?s)run: .*descriptors.parquet is damaged .*; run that stage again"):
        read_words(run)
