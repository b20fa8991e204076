"""Rows of an .xlsx file, the format in which the COCA frequency list is distributed."""

import warnings
import zipfile
from pathlib import Path

from face_lightning.errors import DataError
from face_lightning.imports import import_optional

# Limits against decompression bombs, well above the size of any word list; bytes are those of the unpacked archive.
_MAX_BYTES, _MAX_SHEETS, _MAX_ROWS, _MAX_COLUMNS = 1 << 28, 16, 1 << 20, 64


def read_sheets(path: Path) -> list[list[list[str]]]:
    """Read the non-empty rows of the first 16 sheets, with their first 64 cells as text; empty cells are "".

    Raises:
        DataError: If the file is not a spreadsheet, damaged, or larger than 256 MiB when unpacked.
        MissingDependencyError: If openpyxl is not installed.
    """
    openpyxl = import_optional("openpyxl", extra="xlsx", purpose=f"reading {path.name}")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size > _MAX_BYTES:
            raise ValueError(f"it unpacks to {size:,} bytes")
        with warnings.catch_warnings(action="ignore"):  # of styles and other features that are not read
            workbook = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                return [
                    [
                        ["" if cell is None else str(cell) for cell in row]
                        for row in sheet.iter_rows(max_row=_MAX_ROWS, max_col=_MAX_COLUMNS, values_only=True)
                        if any(cell is not None for cell in row)
                    ]
                    for sheet in workbook.worksheets[:_MAX_SHEETS]
                ]
            finally:
                workbook.close()
    except Exception as error:  # openpyxl has no common type for what it raises on damaged files
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"word_list: cannot read {path} ({reason:.200}); save it again as .xlsx or .csv") from error
