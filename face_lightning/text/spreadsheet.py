"""Rows of an .xlsx file, as the COCA frequency list comes; needs no spreadsheet package."""

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from face_lightning.errors import DataError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_LARGEST = 1 << 29  # bytes of one unpacked part: more than any list of words, less than a trap

_MOST_COLUMNS = 64
_DAMAGE = (  # what zipfile and the parser raise for files that are none, damaged, encrypted or packed in other ways
    *(OSError, ValueError, KeyError, IndexError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, struct.error, ET.ParseError),
)


def read_sheets(path: Path) -> Iterator[list[list[str]]]:
    """Yield the rows of every sheet, the first 64 cells of each as text, empty ones as "".

    Raises:
        DataError: If the file is no spreadsheet, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", name)]
            if not names:
                raise ValueError("it holds no sheet")
            shared = _strings(archive)
            for name in sorted(names, key=lambda name: int(re.sub(r"\D", "", name))):
                yield _rows(archive, name, shared)
    except _DAMAGE as error:
        raise DataError(
            f"word_list: cannot read {path} ({str(error) or type(error).__name__}); save it again as .xlsx or .csv"
        ) from error


def _strings(archive: zipfile.ZipFile) -> list[str]:
    """Return the texts that cells refer to by number."""
    if "xl/sharedStrings.xml" not in archive.namelist():
        return []
    return [_text(entry) for _, entry in _elements(archive, "xl/sharedStrings.xml", "si")]


def _rows(archive: zipfile.ZipFile, name: str, shared: list[str]) -> list[list[str]]:
    rows = []
    for _, row in _elements(archive, name, "row"):
        cells: list[str] = []
        for cell in row.iter(f"{_MAIN}c"):
            place = _column(cell.get("r", ""), len(cells))
            if place >= _MOST_COLUMNS:
                break
            cells += [""] * (place - len(cells))
            value = cell.find(f"{_MAIN}v")
            text = _text(cell) if value is None else value.text or ""
            cells.append(shared[int(text)] if cell.get("t") == "s" else text)
        rows.append(cells)
        row.clear()
    return rows


def _elements(archive: zipfile.ZipFile, name: str, tag: str) -> Iterator[tuple[str, ET.Element]]:
    """Yield the elements of a part one after the other."""
    if archive.getinfo(name).file_size > _LARGEST:
        raise ValueError(f"{name} unpacks to {archive.getinfo(name).file_size:,} bytes")
    with archive.open(name) as file:
        for event, element in ET.iterparse(file):
            if element.tag == f"{_MAIN}{tag}":
                yield event, element


def _text(element: ET.Element) -> str:
    return "".join(part.text or "" for part in element.iter(f"{_MAIN}t"))


def _column(reference: str, following: int) -> int:
    """Return the number of a cell's column from a reference such as "AB12"; the next one where it has none."""
    letters = reference.rstrip("0123456789")
    if not letters:
        return following
    if not (letters.isascii() and letters.isupper() and len(letters) <= 3):
        raise ValueError(f"a cell is called {reference!r}")
    number = 0
    for letter in letters:
        number = 26 * number + ord(letter) - ord("A") + 1
    if number - 1 < following:
        raise ValueError(f"the cell {reference!r} comes late")
    return number - 1
