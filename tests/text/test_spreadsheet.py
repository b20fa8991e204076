import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.errors import DataError, MissingDependencyError
from face_lightning.text.lexicon import read_word_list
from face_lightning.text.spreadsheet import read_sheets

openpyxl = pytest.importorskip("openpyxl")
COCA = (("rank", "PoS", "word"), (1, "n", "time"), (2, "v", "make"), (3, "j", "new"))
SHEET = "xl/worksheets/sheet1.xml"


def write(path: Path, *sheets: Sequence[Sequence[object]]) -> Path:
    workbook = openpyxl.Workbook(write_only=True)
    for rows in sheets:
        sheet = workbook.create_sheet()
        for row in rows:
            sheet.append(row)
    workbook.save(path)
    return path


def replace_part(path: Path, name: str, content: str) -> Path:
    """Replace a part of a spreadsheet by content that no program would write."""
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, data in {**parts, name: content}.items():
            archive.writestr(part, data)
    return path


def test_nouns_and_adjectives_of_the_sheet_with_the_columns(tmp_path: Path) -> None:
    assert read_word_list(write(tmp_path / "coca.xlsx", [("notes", "word")], COCA)) == ["time", "new"]


def test_cells_are_text_and_empty_rows_are_skipped(tmp_path: Path) -> None:
    (rows,) = read_sheets(write(tmp_path / "a.xlsx", [(), ("a", None, 2, 0.5, True), (None, None)]))
    assert rows == [["a", "", "2", "0.5", "True", *[""] * 59]]


def test_sheet_without_the_columns_raises(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected the columns word and PoS in .*, got the first line 'rank, time'"):
        read_word_list(write(tmp_path / "a.xlsx", [("rank", "time")]))


@pytest.mark.parametrize("content", [b"", b"word,PoS\ntime,n\n"])
def test_other_files_raise(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.xlsx").write_bytes(content)
    with pytest.raises(DataError, match=r"word_list: cannot read .* save it again as \.xlsx or \.csv"):
        read_word_list(tmp_path / "a.xlsx")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        read_word_list(tmp_path / "none.xlsx")


def test_decompression_bomb_raises(tmp_path: Path) -> None:
    path = replace_part(write(tmp_path / "a.xlsx", COCA), SHEET, " " * (1 << 28))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DataError, match=r"it unpacks to 268,\d{3},\d{3} bytes"):
        read_word_list(path)


def test_distant_rows_and_columns_are_ignored(tmp_path: Path) -> None:
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    cells = '<row r="1"><c r="A1"><v>1</v></c><c r="XFD1"><v>2</v></c></row><row r="999999999"><c><v>3</v></c></row>'
    sheet = f'<worksheet xmlns="{space}"><sheetData>{cells}</sheetData></worksheet>'
    (rows,) = read_sheets(replace_part(write(tmp_path / "a.xlsx", COCA), SHEET, sheet))
    assert rows == [["1", *[""] * 63]]


def test_nested_entities_raise(tmp_path: Path) -> None:
    """Billion laughs: ten entity definitions that expand to 10^9 characters."""
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    sheet = f'<!DOCTYPE x [<!ENTITY e0 "ha">{entities}]><worksheet><sheetData>&e9;</sheetData></worksheet>'
    with pytest.raises(DataError, match="cannot read"):
        read_word_list(replace_part(write(tmp_path / "a.xlsx", COCA), SHEET, sheet))


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.xlsx", COCA)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'face-lightning\[xlsx\]'"):
        read_word_list(path)


@pytest.fixture(scope="module")
def coca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("xlsx") / "coca.xlsx", COCA)


@given(damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_files_raise_or_are_read(coca: Path, damage: list[tuple[float, int]]) -> None:
    content = bytearray(coca.read_bytes())
    for place, byte in damage:
        content[int(place * len(content))] = byte
    path = coca.with_name("damaged.xlsx")
    path.write_bytes(content)
    try:
        words = read_word_list(path)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017 -- either way is right
    else:
        assert all(word.isalpha() for word in words)
