"""Columns of CSV, TSV, Parquet and RecBole files as Arrow batches, read in bounded memory."""

import codecs
import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from face_lightning.data.table_streams import (
    ReplacingStream,
    decompressed,
    first_line,
    is_parquet,
    open_lines,
    starts_with,
    suffix_of,
)
from face_lightning.errors import ConfigurationError, DataError

Progress = Callable[[float], None]  # called with the share that has been read, in [0, 1]
_MAX_LINE = 1 << 24  # bytes; also the block size of the parser
_PARQUET_ROWS = 1 << 18
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive or an Excel sheet",
    b"\xfd7zXZ": "compressed by xz",
    b"7z\xbc\xaf": "a 7z archive",
}
_UNIT = b"\x1f"  # ASCII unit separator, which replaces separators of several characters
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".inter": "\t", ".item": "\t", ".user": "\t"}
_NAMES = {"::": "two colons", ",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "space"}


@dataclass(frozen=True)
class TableFormat:
    r"""Format of text files; ignored for Parquet.

    Attributes:
        separator: Column separator, such as `;` or `::`; by the suffix of the file if None: `,` for .csv, tab for .tsv,
            .txt and RecBole's files. With separators of several characters, quotes have no special meaning.
        encoding: Name of a Python codec.
        header: Whether the first line contains the column names; otherwise these are 1, 2, ...
        likely: Separator to use if none is given and line 1 contains it.

    Raises:
        ConfigurationError: If the separator is invalid or the encoding is unknown.
    """

    separator: str | None = None
    encoding: str = "utf-8"
    header: bool = True
    likely: str | None = None

    def __post_init__(self) -> None:
        separator = self.separator
        if separator is not None and (not separator or not separator.isascii() or {*separator} & {*'"\r\n\0'}):
            raise ConfigurationError(
                f"separator: expected ASCII characters, got {separator!r}; omit it for comma in .csv, tab otherwise"
            )
        try:
            codecs.lookup(self.encoding)
            "".encode(self.encoding)
        except LookupError as error:
            raise ConfigurationError(
                f"encoding: expected a codec such as utf-8 or latin-1, got {self.encoding!r}; correct it"
            ) from error


@dataclass(frozen=True)
class Table:
    """A file with its column names; rows are read by `batches`.

    Attributes:
        path: The file.
        columns: Names of all columns, without RecBole's types.
        kinds: RecBole's type of every column, such as "token_seq"; "" for other files.
        separator: Column separator; "" for Parquet.
        form: Format of text files.
    """

    path: Path
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    separator: str
    form: TableFormat = field(default_factory=TableFormat)

    def require(self, wanted: dict[str, str]) -> None:
        """Check that every column of `wanted`, by name of its argument, exists exactly once.

        Raises:
            DataError: If one is missing or duplicated.
        """
        for argument, name in wanted.items():
            count = self.columns.count(name)
            if count == 1:
                continue
            if count > 1:
                raise DataError(f"{argument}: expected one column {name!r} in {self.path}, got {count}; rename them")
            cure = f"choose one with --{argument}"
            similar = [column for column in self.columns if _letters(column) == _letters(name)]
            if similar:
                cure = f"choose one with --{argument}, such as --{argument} {similar[0]}"
            elif len(self.columns) == 1 and self.separator:
                found = [mark for mark in ("::", "\t", ";", ",", "|", " ") if mark in self.columns[0]]
                if found:
                    cure = f"columns seem to be separated by {_NAMES[found[0]]}, add --separator {found[0]!r}"
            elif self.form.header and any(re.fullmatch(r"[-+]?\d+(\.\d+)?", column) for column in self.columns):
                cure = "line 1 seems to have data instead of names, add --no_header and give numbers, as in --user 1"
            shown = ", ".join(repr(column[:60]) for column in self.columns[:20])
            raise DataError(f"{argument}: expected a column {name!r} in {self.path}, got {shown}; {cure}")

    def batches(self, wanted: Sequence[str], progress: Progress | None = None) -> Iterator[list[pa.Array]]:
        """Yield the columns of `wanted` in batches of rows; columns of text files as strings.

        Raises:
            DataError: If the file is damaged.
        """
        report = progress or _ignore
        with _translate_errors(self.path, self.form):
            yield from self._parquet(wanted, report) if is_parquet(self.path) else self._text(wanted, report)

    def _parquet(self, wanted: Sequence[str], report: Progress) -> Iterator[list[pa.Array]]:
        with pq.ParquetFile(self.path) as file:
            done, total = 0, max(file.metadata.num_rows, 1)
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=list(dict.fromkeys(wanted))):
                yield [batch.column(name) for name in wanted]
                done += len(batch)
                report(done / total)

    def _text(self, wanted: Sequence[str], report: Progress) -> Iterator[list[pa.Array]]:
        # Names of unused columns may be duplicated, which Arrow rejects: columns are numbered instead.
        numbers = [str(self.columns.index(name)) for name in wanted]
        last = str(len(self.columns) - 1)
        read = list(dict.fromkeys([*numbers, last]))
        size = max(self.path.stat().st_size, 1)
        mark, many = self.separator, len(self.separator) > 1
        with pa.OSFile(str(self.path)) as raw:
            stream = decompressed(raw, self.path)
            if many:
                stream = pa.PythonFile(ReplacingStream(stream, mark.encode(self.form.encoding), _UNIT), mode="r")
            reader = pacsv.open_csv(
                stream,
                read_options=pacsv.ReadOptions(
                    use_threads=False,  # errors then include the row, at no cost in time
                    block_size=_MAX_LINE,
                    column_names=[str(number) for number in range(len(self.columns))],
                    skip_rows=int(self.form.header),
                    encoding=self.form.encoding,
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=_UNIT.decode() if many else mark,
                    quote_char=False if many or _is_recbole(self.path) else '"',
                    newlines_in_values=not (many or _is_recbole(self.path)),
                ),
                convert_options=pacsv.ConvertOptions(
                    include_columns=read, column_types=dict.fromkeys(read, pa.string()), null_values=[]
                ),
            )
            ending = ""
            for batch in reader:
                yield [batch.column(number) for number in numbers]
                if len(batch):
                    ending = batch.column(last)[len(batch) - 1].as_py()
                report(raw.tell() / size)
        if not many and ("\n" in ending.strip("\r\n") or ending.endswith("\n")):
            raise DataError(
                f"{self.path}: expected closed quotes, got one that is open at the end of the file; correct it"
            )


def holds_json(path: Path) -> bool:
    """Whether a file contains JSON, by its name or first character; compressed files may lack the suffix."""
    if is_parquet(path):
        return False
    if suffix_of(path) in (".jsonl", ".ndjson", ".json"):
        return True
    with _translate_errors(path, TableFormat()), open_lines(path) as stream:
        return stream.read(64).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{")


def parts_of(path: Path) -> list[Path]:
    """Return the files of a table: the file itself, or the part files in a folder written by Spark or Hive.

    Raises:
        DataError: If a folder has no part files.
    """
    if not path.is_dir():
        return [path]
    parts = sorted(part for part in path.rglob("*") if part.is_file() and part.name[0] not in "._")
    parts = [part for part in parts if part.stat().st_size]
    if not parts:
        raise DataError(f"source: expected a folder with part files, got {path} without any; give another folder")
    return parts


def open_table(path: Path, form: TableFormat, argument: str = "source") -> Table:
    """Read the column names of a file.

    Args:
        path: Text file, optionally compressed (.gz, .bz2, .zst), or Parquet (.parquet).
        form: Format of text files.
        argument: Argument that names the file, for errors.

    Raises:
        DataError: If the file is missing, empty or damaged.
    """
    if not path.is_file():
        raise DataError(f"{argument}: expected a file, got {path}; correct the path")
    if path.suffix in (".pkl", ".pickle"):
        raise DataError(
            f"{argument}: expected CSV, TSV, Parquet or a RecBole file, got the pickle {path}, which could run code; "
            "save it as Parquet, or give the folder if it has RLMRec's layout"
        )
    if path.stat().st_size == 0:
        raise DataError(f"{argument}: expected a table in {path}, got an empty file; write it again")
    archive = next((kind for mark, kind in _ARCHIVES.items() if starts_with(path, mark)), None)
    if archive is not None:
        raise DataError(f"{argument}: expected a table, got {path}, which is {archive}; unpack it")
    if is_parquet(path):
        with _translate_errors(path, form):
            names = tuple(pq.read_schema(path).names)
        return Table(path, names, ("",) * len(names), "", form)
    separator = form.separator or _SEPARATORS.get(suffix_of(path), ",")
    with _translate_errors(path, form):
        line = first_line(path, form.encoding)
    if line.lstrip().startswith(("{", "[{")):
        raise DataError(
            f"{argument}: expected CSV, TSV, Parquet or a RecBole file, got {path}, which looks like JSON; convert it, "
            "such as with pandas.read_json(..., lines=True).to_csv(index=False)"
        )
    if form.separator is None and form.likely is not None and form.likely in line:
        separator = form.likely
    if form.separator is None and _is_recbole(path) and separator not in line and " " in line.strip():
        separator = " "
    if not line.strip():
        raise DataError(f"{argument}: expected column names in line 1 of {path}, got an empty line; add them")
    try:
        names = (
            tuple(line.split(separator))
            if _is_recbole(path) or len(separator) > 1
            else tuple(next(csv.reader([line], delimiter=separator)))
        )
    except csv.Error as error:
        raise DataError(f"{argument}: expected column names in line 1 of {path}, got: {error}") from error
    if not form.header:
        names = tuple(str(number) for number in range(1, len(names) + 1))
    parts = [name.strip().partition(":") if _is_recbole(path) else (name.strip(), "", "") for name in names]
    return Table(path, tuple(part[0] for part in parts), tuple(part[2] for part in parts), separator, form)


def _ignore(_: float) -> None:
    """Progress callback that does nothing."""


def _is_recbole(path: Path) -> bool:
    return suffix_of(path) in (".inter", ".item", ".user")


def _letters(name: str) -> str:
    """Return the letters and digits of a name in lower case, the same for `userId` and `user_id`."""
    return re.sub(r"[\W_]", "", name.lower())


@contextmanager
def _translate_errors(path: Path, form: TableFormat) -> Iterator[None]:
    """Translate errors of Arrow and of the operating system for damaged files."""
    try:
        yield
    except UnicodeError as error:
        raise _not_encoded(path, form, "") from error
    except (pa.ArrowException, OSError, EOFError) as error:
        reason = " ".join(str(error).split())
        row = re.search(r"Row #(\d+)", reason)
        where = f", row {int(row[1]) - form.header}" if row else ""
        if "invalid UTF8" in reason:
            raise _not_encoded(path, form, where) from error
        if "straddling" in reason or "block boundaries" in reason or "larger than block size" in reason:
            raise DataError(
                f"{path}: expected lines of at most {_MAX_LINE >> 20} MiB, got a longer one; check line ends and quotes"
            ) from error
        fields = re.search(r"Expected (\d+) columns, got (\d+)", reason)
        if fields:
            raise DataError(
                f"{path}{where}: expected {fields[1]} columns as in line 1, got {fields[2]}; correct the row, and "
                "quote values that contain the separator"
            ) from error
        if is_parquet(path):
            raise DataError(
                f"{path}: expected an intact Parquet file, got a damaged one ({reason[:120]}); write or copy it again"
            ) from error
        raise DataError(f"{path}: expected a table as text, got: {reason[:200]}; write or copy it again") from error


def _not_encoded(path: Path, form: TableFormat, where: str) -> DataError:
    return DataError(
        f"{path}{where}: expected text in {form.encoding}, got other bytes; save the whole file as "
        "UTF-8, or give its encoding, such as --encoding latin-1 or utf-16"
    )
