import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from face_lightning.errors import DataError
from face_lightning.text.lexicon import read_word_list
from face_lightning.text.spreadsheet import read_sheets

SPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
STRINGS = ["rank", "PoS", "word", "n", "v", "j", "time", "make", "new"]


def write(path: Path, sheets: list[str], strings: list[str] | None = STRINGS) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        if strings is not None:
            entries = "".join(f"<si><t>{text}</t></si>" for text in strings)
            archive.writestr("xl/sharedStrings.xml", f"<sst {SPACE}>{entries}</sst>")
        for number, rows in enumerate(sheets, start=1):
            archive.writestr(
                f"xl/worksheets/sheet{number}.xml", f"<worksheet {SPACE}><sheetData>{rows}</sheetData></worksheet>"
            )
    return path


def row(number: int, *cells: int | str) -> str:
    """A row of shared strings by number, and of numbers as text."""
    parts = []
    for column, cell in zip("ABCDE", cells, strict=False):
        kind = ' t="s"' if isinstance(cell, int) else ""
        parts.append(f'<c r="{column}{number}"{kind}><v>{cell}</v></c>')
    return f'<row r="{number}">{"".join(parts)}</row>'


COCA = row(1, 0, 1, 2) + row(2, "1", 3, 6) + row(3, "2", 4, 7) + row(4, "3", 5, 8)


def test_nouns_and_adjectives_of_the_sheet_with_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "coca.xlsx", [row(1, 0, 6), COCA])
    assert read_word_list(path) == ["time", "new"]
    assert list(read_sheets(path))[1][1] == ["1", "n", "time"]


def test_gaps_and_texts_in_cells(tmp_path: Path) -> None:
    inline = '<row><c r="A1"/><c r="C1" t="inlineStr"><is><t>wo</t><t>rd</t></is></c><c><v>7</v></c></row>'
    (rows,) = read_sheets(write(tmp_path / "a.xlsx", [inline], None))
    assert rows == [["", "", "word", "7"]]


def test_a_sheet_without_the_columns_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs the columns word and PoS, its first line is 'rank, time'"):
        read_word_list(write(tmp_path / "a.xlsx", [row(1, 0, 6)]))


@pytest.mark.parametrize(
    "rows",
    [
        '<row><c r="A1" t="s"><v>99</v></c></row>',
        '<row><c r="A1" t="s"><v>x</v></c></row>',
        '<row><c r="B1"><v>1</v></c><c r="A1"><v>1</v></c></row>',
        '<row><c r="ABCDE1"><v>1</v></c></row>',
        "<row>",
    ],
)
def test_damaged_sheets_are_told(tmp_path: Path, rows: str) -> None:
    with pytest.raises(DataError, match=r"word_list: cannot read .* save it again"):
        read_word_list(write(tmp_path / "a.xlsx", [rows]))


def test_what_is_no_spreadsheet_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    for content in (b"", b"word,PoS\ntime,n\n"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot read"):
            read_word_list(path)
    with pytest.raises(DataError, match="it holds no sheet"):
        read_word_list(write(path, []))
    with pytest.raises(DataError, match="cannot read"):
        read_word_list(tmp_path / "none.xlsx")


@given(st.data())
def test_any_damage_is_told_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = write(tmp_path_factory.mktemp("xlsx") / "a.xlsx", [COCA])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        words = read_word_list(path)
    except DataError as error:
        assert "\n" not in str(error)  # noqa: PT017 -- either way is right
    else:
        assert all(word.isalpha() for word in words)
