"""Metadata of users and items from JSONL, CSV, TSV, Parquet or RecBole files, joined by original id."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from face_lightning.data.pairs import id_texts
from face_lightning.data.plain_values import MISSING, is_missing, names_in, parsed, whole_number, without_markup
from face_lightning.data.prepared import Record
from face_lightning.data.table_streams import open_lines
from face_lightning.data.tables import TableFormat, holds_json, open_table
from face_lightning.errors import ConfigurationError, DataError
from face_lightning.plain_text import whole

TAG_FIELDS = ("tags", "genres", "categories")
_TITLES, _PROSE = ("title", "name"), ("text", "profile", "description")
_KNOWN = {
    *(*TAG_FIELDS, *_TITLES, *_PROSE),
    *("year", "release_date", "author", "developer", "city", "age", "occupation"),
}
_ALIASES = {"genre": "genres", "tag": "tags", "category": "categories", "release_year": "year"}
_MAX_LINE = 1 << 24  # bytes


@dataclass(frozen=True)
class MetadataFile:
    """A file of metadata of users or items.

    Attributes:
        path: JSONL (one object per line), or a table that `open_table` reads.
        kind: "user" or "item".
        key: Field or column of original ids.
        fields: Maps the field names of this package to those of the file, such as `{"title": "movie_title"}`. Templates
            use title, tags, genres, categories, year, author, developer, city and profile (a description) of items, and
            age, occupation and city of users; `text` of either replaces the template's text.
        form: Format of text files.

    Raises:
        ConfigurationError: If one field is given two names.
    """

    path: Path
    kind: str
    key: str
    fields: Mapping[str, str] = field(default_factory=dict)
    form: TableFormat = field(default_factory=TableFormat)

    def __post_init__(self) -> None:
        if len(set(self.fields.values())) < len(self.fields):
            raise ConfigurationError(
                f"{self.kind}_fields: expected every field once, got {', '.join(self.fields.values())}; correct them"
            )

    @property
    def argument(self) -> str:
        """Argument that names the file, for messages."""
        return f"{self.kind}_metadata"


class Metadata(NamedTuple):
    """Metadata of users or items.

    Attributes:
        records: Record of each requested id `(K,)`, empty if the file has none.
        others: Records of other ids by id, if requested.
        num_rows: Number of rows in the file, including rows of other ids.
    """

    records: list[Record]
    others: dict[str, Record]
    num_rows: int


def read_metadata(file: MetadataFile, ids: np.ndarray, keep_others: bool = False) -> Metadata:
    """Join the metadata in a file with users or items.

    Args:
        file: The file.
        ids: Original ids `(K,)`.
        keep_others: Whether to return the records of other ids too.

    Raises:
        DataError: If the file is missing or damaged, lacks a field, or has an id twice or none of `ids`.
    """
    positions = {name: position for position, name in enumerate(ids.tolist())}
    records: list[Record] = [{} for _ in positions]
    others: dict[str, Record] = {}
    seen: dict[str, int] = {}
    for number, name, record in _rows(file):
        if name in seen:
            raise DataError(
                f"{file.argument}: expected one row for each id in {file.path}, but {name[:60]!r} is in rows "
                f"{seen[name]} and {number}; remove one"
            )
        seen[name] = number
        if name in positions:
            records[positions[name]] = _clean_record(record, file)
        elif keep_others:
            others[name] = _clean_record(record, file)
    if not seen.keys() & positions.keys():
        shown = f"{next(iter(seen))[:60]!r}" if seen else "no rows"
        raise DataError(
            f"{file.argument}: expected ids of the interactions, such as {ids[0]!s:.60}, in field {file.key!r} of "
            f"{file.path}, got {shown}; choose another field with --{file.kind}_key, or give the file of these data"
        )
    return Metadata(records, others, len(seen))


def _rows(file: MetadataFile) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield the number (from 1), id and fields of every row."""
    if not file.path.is_file():
        raise DataError(f"{file.argument}: expected a file, got {file.path}; correct the path")
    yield from _json_rows(file) if holds_json(file.path) else _table_rows(file)


def _json_rows(file: MetadataFile) -> Iterator[tuple[int, str, dict[str, Any]]]:
    path = file.path
    known: set[str] = set()
    try:
        with open_lines(path) as stream:
            number = 0
            while line := stream.readline(_MAX_LINE + 1):
                number += 1
                if len(line) > _MAX_LINE:
                    raise ValueError(f"line {number} is longer than {_MAX_LINE >> 20} MiB")
                if line.strip():
                    record = _json_object(line, number)
                    known |= record.keys() if len(known) < 100 else set()
                    yield number, _json_id(record, file, number), record
    except (OSError, EOFError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"{file.argument}: expected one JSON object per line in {path}, in UTF-8, got: {reason}; correct the file"
        ) from error
    missing = [source for source in file.fields.values() if source not in known]
    if missing and len(known) < 100:
        raise DataError(_no_field(file, missing[0], sorted(known)))


def _json_object(line: bytes, number: int) -> dict[str, Any]:
    """Parse a line; raises ValueError with its number if it is not a JSON object."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {number} is not an object")
    return record


def _json_id(record: dict[str, Any], file: MetadataFile, number: int) -> str:
    """Return the id of a record as a string."""
    if file.key not in record:
        raise DataError(_no_field(file, file.key, list(record), f", line {number}"))
    value = record.pop(file.key)
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    text = str(value).strip()
    if isinstance(value, bool) or not isinstance(value, str | int) or text in MISSING:
        raise DataError(
            f"{file.argument}: expected an id as text or whole number in {file.path}, line {number}, got "
            f"{str(value)[:60]!r}; correct the line"
        )
    return text


def _table_rows(file: MetadataFile) -> Iterator[tuple[int, str, dict[str, Any]]]:
    table = open_table(file.path, file.form, file.argument)
    for name in (file.key, *file.fields.values()):
        if table.columns.count(name) != 1:
            raise DataError(_no_field(file, name, list(table.columns)))
    columns = list(dict.fromkeys(name for name in table.columns if table.columns.count(name) == 1))
    sequences = {name for name, kind in zip(table.columns, table.kinds, strict=True) if kind.endswith("_seq")}
    number = 0
    for batch in table.batches(columns):
        names = id_texts(batch[columns.index(file.key)], file.path, file.argument).to_pylist()
        values = [_plain(column, file.path, file.argument) for column in batch]
        for name, row in zip(names, zip(*values, strict=True), strict=True):
            number += 1
            text = (name or "").strip()
            if text in MISSING:
                raise DataError(
                    f"{file.argument}: expected an id in every row of {file.path}, got {name!r} in row {number}; "
                    "correct the row"
                )
            record = {
                column: value.split() if column in sequences and isinstance(value, str) else value
                for column, value in zip(columns, row, strict=True)
                if column != file.key and value is not None and value != ""
            }
            yield number, text, record


def _plain(column: pa.Array, path: Path, argument: str) -> list[Any]:
    """Return a column as JSON values: numbers, strings and lists as they are, dates and decimals as strings."""
    try:
        kind = column.type
        if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
            column = column.cast(pa.string())
        values: list[Any] = column.to_pylist()
        return [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values]
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise DataError(
            f"{argument}: expected plain values in {path}, got: {' '.join(str(error).split())[:100]}; "
            "convert the column"
        ) from error


def _no_field(file: MetadataFile, name: str, known: list[str], where: str = "") -> str:
    shown = ", ".join(repr(one[:60]) for one in known[:20]) or "none"
    option = f"--{file.kind}_key" if name == file.key else f"--{file.kind}_fields"
    return f"{file.argument}: expected a field {name!r} in {file.path}{where}, got {shown}; choose one with {option}"


def _clean_record(record: dict[str, Any], file: MetadataFile) -> Record:
    """Return the fields under the names of this package, as plain text or numbers, tags as lists."""
    names = {source: name for name, source in file.fields.items()}
    cleaned: dict[str, Any] = {}
    # Later entries take precedence: first aliases, then fields named as in this package, then those mapped by the user.
    for source, raw in sorted(record.items(), key=lambda entry: (entry[0] in names, entry[0] in _KNOWN)):
        name = names.get(source) or known_name(source)
        value = _plain_value(name, _json_value(raw), " " if file.path.suffix in (".item", ".user") else ", ")
        if value != [] and not is_missing(value):
            cleaned[name] = value
    return cleaned


def known_name(source: str) -> str:
    """Return the name that templates use for a field such as `Title` or `Release Date`; unknown names unchanged."""
    name = re.sub(r"[\s-]+", "_", source.strip()).lower()
    name = _ALIASES.get(name, name)
    return name if name in _KNOWN else source


def _plain_value(name: str, value: Any, separator: str) -> Any:  # noqa: ANN401
    """Return tags as a list, and any other field as text or a number."""
    if name not in _TITLES:
        value = parsed(value)
    if name in TAG_FIELDS:
        return _as_list(value)
    if isinstance(value, list | tuple | set | dict):
        return (" " if name in _PROSE else separator).join(names_in(value))
    if isinstance(value, str):
        value = without_markup(value).strip()
    return value if name in _TITLES else whole_number(value)


def _as_list(value: object) -> list[str]:
    """Return tags as a list; strings are split at bars, semicolons or commas."""
    if not isinstance(value, str):
        return names_in(value if isinstance(value, list | tuple | set | dict) else [value])
    text = re.sub(r"^\s*\[(.*)\]\s*$", r"\1", without_markup(value), flags=re.DOTALL)
    mark = next((mark for mark in ("|", ";", ",") if mark in text), ",")
    return names_in([one.strip(" '\"\t\r\n") for one in text.split(mark)])


def _json_value(value: object) -> Any:  # noqa: ANN401 JSON's values
    """Convert a value to JSON: without lone surrogates, non-finite numbers, and types of Parquet."""
    if isinstance(value, str):
        return whole(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [part for part in map(_json_value, value) if part is not None]
    if isinstance(value, dict):
        return {str(name).encode("utf-8", "replace").decode(): _json_value(part) for name, part in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if value is None or isinstance(value, int | float) else str(value)
