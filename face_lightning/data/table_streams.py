"""Streams of text files: compression detected by content, and separators of several characters."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

_PARQUET = (".parquet", ".pq")
_ENDINGS = (".gz", ".bz2", ".zst")  # suffixes of compressed files
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}  # codec by the first bytes of a file


def suffix_of(path: Path) -> str:
    """Return the suffix of a file name, ignoring that of the compression."""
    endings = path.suffixes
    return endings[-2] if len(endings) > 1 and endings[-1] in _ENDINGS else path.suffix


def starts_with(path: Path, *marks: bytes) -> bool:
    """Whether the first bytes of a file are one of these."""
    with path.open("rb") as file:
        return file.read(6).startswith(marks)


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its name or content."""
    return path.suffix in _PARQUET or starts_with(path, b"PAR1")


def decompressed(raw: pa.NativeFile, path: Path) -> pa.NativeFile:
    """Return the decompressed stream of a file; compression is detected by content, since names may be wrong."""
    kind = next((kind for mark, kind in _COMPRESSED.items() if starts_with(path, mark)), None)
    return raw if kind is None else pa.CompressedInputStream(raw, kind)


def first_line(path: Path, encoding: str) -> str:
    """Return the first line without line end and byte order mark."""
    with pa.OSFile(str(path)) as raw:
        start = decompressed(raw, path).read(1 << 20)
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") and not encoding.lower().replace("_", "-").startswith("utf-16"):
        raise UnicodeDecodeError("utf-8", start, 0, 1, "the file is UTF-16")
    text = codecs.getincrementaldecoder(encoding)("replace").decode(start).removeprefix("\ufeff")
    line, *rest = re.split("\r\n|\n|\r", text, maxsplit=1)
    if not rest and len(start) == 1 << 20:
        raise pa.ArrowInvalid("straddling object")
    return line


@contextmanager
def open_lines(path: Path) -> Iterator[IO[bytes]]:
    """Open a text file, decompressed if its content is compressed, regardless of its name."""
    with pa.OSFile(str(path)) as raw, io.BufferedReader(decompressed(raw, path)) as stream:
        yield stream


class ReplacingStream(io.RawIOBase):
    """Stream that replaces a byte sequence by another, also where it spans two blocks.

    Args:
        stream: Source of the bytes.
        mark: Byte sequence to replace, not empty.
        other: Replacement.
    """

    def __init__(self, stream: pa.NativeFile, mark: bytes, other: bytes) -> None:
        self._stream, self._mark, self._other = stream, mark, other
        self._rest = b""

    def readable(self) -> bool:
        """See `io.RawIOBase`."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read about `size` bytes; an empty result means the end of the stream."""
        while True:
            block = self._stream.read(size if size > 0 else None)
            content = self._rest + block
            pieces = content.split(self._mark)
            kept = 0 if not block else min(len(self._mark) - 1, len(pieces[-1]))  # may be the start of a mark
            self._rest = pieces[-1][len(pieces[-1]) - kept :]
            pieces[-1] = pieces[-1][: len(pieces[-1]) - kept]
            result = self._other.join(pieces)
            if result or not block:
                return result
