"""Interactions as read from files: users and items numbered, with ratings and times."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from face_lightning.data.plain_values import MISSING
from face_lightning.data.tables import Progress, Table, TableFormat, open_table, parts_of
from face_lightning.errors import DataError

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_MAX_ID_LENGTH = 256  # characters: ids are stored in a fixed-width array


@dataclass(frozen=True)
class Columns:
    """Names of the columns of interactions; rating and time are optional."""

    user: str = "user_id"
    item: str = "item_id"
    rating: str | None = None
    time: str | None = None

    def named(self) -> dict[str, str]:
        """Names of the columns to read, by argument."""
        columns = {"user": self.user, "item": self.item, "rating": self.rating, "time": self.time}
        return {argument: name for argument, name in columns.items() if name is not None}


@dataclass(frozen=True, eq=False)
class RawPairs:
    """Rows of files of interactions, in file order.

    Attributes:
        users: Number of each row's user `(N,)`, int32.
        items: Number of each row's item `(N,)`, int32.
        user_ids: Original ids, sorted `(U,)`: numerically if all are numbers, else as strings.
        item_ids: Likewise `(I,)`.
        ratings: `(N,)` float64, or None.
        times: `(N,)` float64 in seconds or the unit of the file, or None.
        files: Number of the file of each row `(N,)`, int8.
        num_without_id: Number of rows dropped because an id is missing.
    """

    users: np.ndarray
    items: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    ratings: np.ndarray | None
    times: np.ndarray | None
    files: np.ndarray
    num_without_id: int


def read_pairs(
    paths: Sequence[Path],
    columns: Columns,
    form: TableFormat | None = None,
    *,
    drop_missing: bool = False,
    progress: Progress | None = None,
) -> RawPairs:
    """Read files of interactions.

    Args:
        paths: One file or folder of part files, or one per split.
        columns: Names of their columns.
        form: Format of text files.
        drop_missing: Drop rows without an id instead of rejecting the file.
        progress: Called with the share that has been read.

    Raises:
        DataError: If a file cannot be read, lacks a column, or has no interactions, or a value is not a valid id,
            number, or time.
    """
    numberings = {"user": _Numbering("user"), "item": _Numbering("item")}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("user", "item", "rating", "time", "file")}
    num_without_id = 0
    files_of = [(number, part) for number, path in enumerate(paths) for part in parts_of(path)]
    for index, (number, path) in enumerate(files_of):
        table = open_table(path, form or TableFormat())
        wanted = columns.named()
        table.require(wanted)
        num_rows = 0
        share = None if progress is None else _share(progress, index, len(files_of))
        for batch in table.batches(list(wanted.values()), share):
            values = dict(zip(wanted, batch, strict=True))
            converted = {kind: numberings[kind].add(values[kind], table, num_rows, drop_missing) for kind in numberings}
            for argument, convert in (("rating", _numbers), ("time", _times)):
                if argument in values:
                    converted[argument] = convert(values[argument], table, wanted[argument], num_rows)
            num_rows += len(batch[0])
            known = (converted["user"] >= 0) & (converted["item"] >= 0)
            num_without_id += int((~known).sum())
            converted["file"] = np.full(len(known), number, dtype=np.int8)
            for name, array in converted.items():
                parts[name].append(array if known.all() else array[known])
        if num_rows == 0 and path in paths:
            raise DataError(f"source: expected interactions in {path}, got no rows; give at least one")
    joined = {name: np.concatenate(arrays) if arrays else None for name, arrays in parts.items()}
    user_ids, user_ranks = numberings["user"].ordered()
    item_ids, item_ranks = numberings["item"].ordered()
    users, items, files = joined["user"], joined["item"], joined["file"]
    if users is None or items is None or files is None or not len(users):
        raise DataError(f"source: expected interactions in {paths[0]}, got no row with both ids; check --user, --item")
    return RawPairs(
        user_ranks[users],
        item_ranks[items],
        user_ids,
        item_ids,
        joined["rating"],
        joined["time"],
        files,
        num_without_id,
    )


class _Numbering:
    """Numbers ids in order of appearance, batch by batch."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.known = pa.array([], pa.string())

    def add(self, column: pa.Array, table: Table, first_row: int, drop_missing: bool) -> np.ndarray:
        """Return the numbers of a column of ids `(N,)`, int32; -1 for missing ids."""
        texts = id_texts(column, table.path, self.kind)
        encoded = texts.dictionary_encode()
        values = pc.utf8_trim_whitespace(encoded.dictionary)
        values = pc.if_else(pc.is_in(values, value_set=pa.array(MISSING)), pa.scalar(None, pa.string()), values)
        self._check(values, table.path)
        position = pc.index_in(values, value_set=self.known, skip_nulls=True)
        fresh = pc.unique(values.filter(pc.and_(pc.is_null(position), pc.is_valid(values))))
        among_fresh = pc.add(pc.index_in(values, value_set=fresh, skip_nulls=True), len(self.known))
        self.known = pa.concat_arrays([self.known, fresh])
        result = np.append(pc.coalesce(position, among_fresh).fill_null(-1).to_numpy(zero_copy_only=False), -1)
        result = result.astype(np.int32)
        indices = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
        rows: np.ndarray = result[indices]
        if not drop_missing and (rows < 0).any():
            where = int(np.argmax(rows < 0))
            raise DataError(
                f"{self.kind}: expected an id in every row of {table.path}, got {texts[where].as_py()!r} in row "
                f"{first_row + where + 1}; add the id, or drop such rows with --drop_missing"
            )
        return rows

    def _check(self, values: pa.Array, path: Path) -> None:
        lengths = pc.utf8_length(values)
        if (pc.max(lengths).as_py() or 0) > _MAX_ID_LENGTH:
            raise DataError(
                f"{self.kind}: expected ids of at most {_MAX_ID_LENGTH} characters in {path}, got one of "
                f"{pc.max(lengths).as_py():,}; check separator and quotes"
            )
        broken = values.filter(pc.match_substring_regex(values, r"[\r\n\x00]").fill_null(False))
        if len(broken):
            raise DataError(
                f"{self.kind}: expected ids without line breaks in {path}, got {broken[0].as_py()[:60]!r}; check that "
                "quotes are closed"
            )

    def ordered(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sorted ids `(K,)`, and the rank of every number among them `(K,)`, int32."""
        ids = self.known
        plain = pc.match_substring_regex(ids, r"^(0|[1-9][0-9]{0,17})$")
        key = ids.cast(pa.int64()) if len(ids) and pc.all(plain).as_py() else ids
        order = pc.sort_indices(key).to_numpy()
        ranks = np.empty(len(order), dtype=np.int32)
        ranks[order] = np.arange(len(order), dtype=np.int32)
        return np.asarray(ids.take(pa.array(order)).to_pylist(), dtype=np.str_), ranks


def id_texts(column: pa.Array, path: Path, argument: str) -> pa.Array:
    """Convert ids of any type to strings, integers without a decimal point; None for missing ids.

    Raises:
        DataError: If they are neither strings nor integers.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    try:
        if pa.types.is_floating(kind):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column).cast(pa.int64())
        elif not (pa.types.is_integer(kind) or _is_text(kind) or pa.types.is_null(kind)):
            raise pa.ArrowInvalid(f"type {kind}")
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{argument}: expected ids as text or whole numbers in {path}, got: {' '.join(str(error).split())[:100]}; "
            "convert the column"
        ) from error


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _numbers(column: pa.Array, table: Table, name: str, first_row: int) -> np.ndarray:
    """Return a column of finite numbers `(N,)` as float64."""
    values = _as_floats(column)
    wrong = ~np.isfinite(values)
    if wrong.any():
        where = int(np.argmax(wrong))
        raise DataError(
            f"rating: expected a number in every row of column {name!r} of {table.path}, got "
            f"{_format_value(column, where)!r} in row {first_row + where + 1}; correct or remove it, or omit --rating"
        )
    return values


def _times(column: pa.Array, table: Table, name: str, first_row: int) -> np.ndarray:
    """Return a column of times `(N,)` as float64: numbers as they are, dates as seconds since 1970."""
    column = _decode(column)
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        values = _seconds(column)
    else:
        values = _as_floats(column)
        if not np.isfinite(values).all() and (_is_text(kind)):
            values = _parsed_dates(column, values)
    wrong = ~np.isfinite(values)
    if wrong.any():
        where = int(np.argmax(wrong))
        raise DataError(
            f"time: expected a number or a date such as 2024-01-31 12:00:00 in every row of column {name!r} of "
            f"{table.path}, got {_format_value(column, where)!r} in row {first_row + where + 1}; correct or remove it"
        )
    return values


def _parsed_dates(column: pa.Array, otherwise: np.ndarray) -> np.ndarray:
    """Parse a column of ISO dates as seconds since 1970; `otherwise` if not all are dates."""
    texts = pc.utf8_trim_whitespace(column)
    texts = pc.replace_substring_regex(texts, r"(\.\d{1,6})\d*", r"\1")
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return _seconds(texts.cast(kind))
        except pa.ArrowInvalid:
            continue
    return otherwise


def _seconds(column: pa.Array) -> np.ndarray:
    """Convert a column of dates to seconds since 1970; NaN for missing dates."""
    kind = column.type
    counts = column.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64())
    counted = np.asarray(counts.cast(pa.float64(), safe=False).fill_null(math.nan))
    if pa.types.is_date32(kind):
        return counted * 86400
    return counted / _PER_SECOND["ms" if pa.types.is_date64(kind) else kind.unit]


def _as_floats(column: pa.Array) -> np.ndarray:
    """Convert a column to float64; NaN for values that are not numbers."""
    column = _decode(column)
    text = _is_text(column.type)
    if text:
        column = pc.utf8_trim_whitespace(column)
    try:
        return np.asarray(column.cast(pa.float64(), safe=False).fill_null(math.nan))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if not text:  # dates, lists and others, which Python may be unable to represent
            return np.full(len(column), math.nan)
        return np.array([_as_float(value) for value in column.to_pylist()], dtype=np.float64)


def _decode(column: pa.Array) -> pa.Array:
    """Decode dictionaries, and cast string views, for which Arrow lacks kernels."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.string()) if pa.types.is_string_view(column.type) else column


def _format_value(column: pa.Array, row: int) -> str:
    """Format a value of a column for an error; the column's type if it cannot be formatted."""
    try:
        return str(column.slice(row, 1).cast(pa.string())[0].as_py())[:60]
    except pa.ArrowException:
        return f"a value of type {column.type}"[:60]


def _as_float(value: object) -> float:
    text = str(value)
    return float(text) if re.fullmatch(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*", text, re.ASCII) else math.nan


def _share(progress: Progress, number: int, count: int) -> Progress:
    return lambda share: progress((number + min(share, 1.0)) / count)
