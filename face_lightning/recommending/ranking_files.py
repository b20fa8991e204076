"""Input and output files of rankings: reads ids and histories, and writes results in batches."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from face_lightning.errors import ConfigurationError, DataError
from face_lightning.files import atomic_path
from face_lightning.recommending.catalogue import RankedRows

SUFFIXES = (".parquet", ".csv", ".jsonl")
_GROUP = 2**20  # rows per row group


def read_ids(argument: str, values: Sequence[str]) -> list[str]:
    """Read ids from the command line, or from a file with one id per line.

    Args:
        argument: Name of the command-line argument, for error messages.
        values: Ids, or the path of one file.

    Raises:
        DataError: If the file has no ids, or is not UTF-8 text.
    """
    if len(values) != 1 or not Path(values[0]).is_file():
        return list(values)
    try:
        lines = Path(values[0]).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{argument}: expected ids in UTF-8, one a line, in {values[0]}: {error}") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise DataError(f"{argument}: expected an id a line, but {values[0]} is empty; put ids in, or leave it out")
    return ids


def read_histories(values: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Read the names and item ids of new users from the command line or a file.

    Args:
        values: Item ids of one user, or the path of one file: JSONL with `user_id` and `item_ids`, or CSV or Parquet
            with columns `user_id` and `item_id`, grouped by user.

    Raises:
        DataError: If the file has another format.
    """
    path = Path(values[0])
    if len(values) != 1 or not path.is_file():
        yield "history", list(values)
        return
    try:
        if path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as file:
                for line in filter(str.strip, file):
                    row = json.loads(line)
                    yield str(row["user_id"]), [str(item) for item in list(row["item_ids"])]
        elif path.suffix == ".parquet":
            batches = pq.ParquetFile(path).iter_batches(columns=["user_id", "item_id"])
            rows = (row for batch in batches for row in batch.to_pylist())
            yield from _grouped((row["user_id"], row["item_id"]) for row in rows)
        else:
            with path.open(encoding="utf-8", newline="") as file:
                yield from _grouped((row["user_id"], row["item_id"]) for row in csv.DictReader(file))
    except (ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise DataError(
            f"history: expected JSONL of user_id and item_ids, or CSV or Parquet of user_id and item_id, but {path} "
            f"differs ({type(error).__name__}: {str(error).splitlines()[0]:.80}); correct it"
        ) from error


def _grouped(pairs: Iterable[tuple[Any, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Group consecutive pairs of user and item by user."""
    name: str | None = None
    items: list[str] = []
    seen: set[str] = set()
    for user, item in pairs:
        if str(user) != name:
            if name is not None:
                yield name, items
            name, items = str(user), []
            if name in seen:
                raise ValueError(f"rows of user {name} are not contiguous; sort the file by user_id")
            seen.add(name)
        items.append(str(item))
    if name is not None:
        yield name, items


def check_out(path: Path) -> None:
    """Check that an output file can be written, before the work for it starts.

    Raises:
        ConfigurationError: If its suffix is unknown or its folder does not exist.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigurationError(f"out: expected a file that ends in {', '.join(SUFFIXES)}, got {path}; rename it")
    if not path.absolute().parent.is_dir() or path.is_dir():
        raise ConfigurationError(f"out: expected a file in a folder that exists, got {path}; make the folder")


class RankingWriter:
    """Context manager that writes rankings incrementally, and atomically: no file is left or replaced after an error.

    Parquet and CSV have a row for each pair of query and result: both ids, `rank` from 1 and `score`. JSONL has a line
    for each query, with lists `<found>s` and `scores`.

    Args:
        path: File to write; the suffix decides the format.
        query: Name of the column of query ids, such as `user_id`.
        found: Name of the column of result ids, such as `item_id`.
    """

    def __init__(self, path: Path, query: str, found: str) -> None:
        check_out(path)
        self.path = path
        self.num_queries = 0
        self._found = found
        self._schema = pa.schema(
            [(query, pa.string()), (found, pa.string()), ("rank", pa.int32()), ("score", pa.float32())]
        )
        self._stack = ExitStack()  # closes the file, then renames it
        self._batches: list[Any] = []
        self._num_rows = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            if self.path.suffix == ".parquet":
                self._file: Any = pq.ParquetWriter(temporary, self._schema)
            elif self.path.suffix == ".csv":
                self._file = pa_csv.CSVWriter(temporary, self._schema)
            else:
                self._file = temporary.open("w", encoding="utf-8")
            stack.callback(self._file.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, traceback)
            return
        with self._stack:
            self._flush()

    def write(self, tile: RankedRows, query_ids: Any, found_ids: Any) -> None:  # noqa: ANN401 Arrow arrays
        """Write a tile of a ranking.

        Args:
            tile: Tile of the ranking.
            query_ids: Arrow array of ids that `tile.queries` indexes.
            found_ids: Arrow array of ids that `tile.rows` indexes.
        """
        valid = np.arange(tile.rows.shape[1]) < tile.counts[:, None]
        rows, scores = tile.rows[valid], tile.scores[valid]
        self.num_queries += len(tile.queries)
        ids = found_ids.take(pa.array(rows))
        if self.path.suffix == ".jsonl":
            self._write_lines(query_ids.take(pa.array(tile.queries)).to_pylist(), tile.counts, ids.to_pylist(), scores)
            return
        ranks = np.broadcast_to(np.arange(1, tile.rows.shape[1] + 1, dtype=np.int32), valid.shape)[valid]
        queries = query_ids.take(pa.array(np.repeat(tile.queries, tile.counts)))
        columns = [queries, ids, pa.array(ranks), pa.array(scores.astype(np.float32))]
        self._batches.append(pa.record_batch(columns, schema=self._schema))
        self._num_rows += len(rows)
        if self._num_rows >= _GROUP:
            self._flush()

    def _write_lines(self, queries: list[str], counts: np.ndarray, ids: list[str], scores: np.ndarray) -> None:
        ends = counts.cumsum().tolist()
        rounded = [float(f"{score:.8g}") for score in scores]
        for query, count, end in zip(queries, counts.tolist(), ends, strict=True):
            part = slice(end - count, end)
            line = {self._schema.names[0]: query, f"{self._found}s": ids[part], "scores": rounded[part]}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _flush(self) -> None:
        if self._batches:
            self._file.write_table(pa.Table.from_batches(self._batches, self._schema))
        self._batches, self._num_rows = [], 0
