"""Real-world and broken files, imported by the real command: read as intended, or rejected in one line."""

import bz2
import gzip
import io
import json
import lzma
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chain.tiny import face
from tests.commands.hostile import listing

CLICKS = [(f"u{u}", f"i{(u + k) % 8}", 2 + k % 4) for u in range(6) for k in range(4)]
NAMES = ("user_id", "item_id", "rating")


def clicks(separator: str = ",", names: Sequence[str] = NAMES, end: str = "\n", more: Sequence[Any] = ()) -> bytes:
    rows = ([names] if names else []) + [*CLICKS, *more]
    return "".join(separator.join(map(str, row)) + end for row in rows).encode()


def items(*columns: str, value: Callable[[int], str]) -> bytes:
    return "".join([",".join(columns) + "\n", *(f"i{item},{value(item)}\n" for item in range(8))]).encode()


# Files that are rejected, the options, and the expected error.
REFUSED: list[tuple[str, dict[str, bytes], list[str], str]] = [
    (
        "two colons",
        {"a.dat": clicks("::")},
        [],
        r"user: .*columns seem to be separated by two colons, add --separator ",
    ),
    (
        "no header",
        {"a.csv": clicks(names=())},
        [],
        r"user: .*line 1 seems to have data instead of names, add --no_head",
    ),
    (
        "userId",
        {"a.csv": clicks(names=("userId", "x", "y"))},
        [],
        r"user: .*choose one with --user, such as --user use",
    ),
    ("json lines", {"a.csv": b'{"user_id": 1, "item_id": 2}\n'}, [], r"source: .*looks like JSON; convert it, such as"),
    ("zip", {"a.csv": b"PK\x03\x04" + bytes(99)}, [], r"source: expected a table, got .*a.csv, which is a zip archive"),
    (
        "xz",
        {"a.csv.xz": lzma.compress(clicks())},
        [],
        r"source: expected a table, got .*, which is compressed by xz; u",
    ),
    (
        "JSON array",
        {"a.json": b'[{"user_id": 1, "item_id": 2}]'},
        [],
        r"source: .*looks like JSON; convert it, such as",
    ),
    ("empty parts", {"a/part-0.csv": b"", "a/_SUCCESS": b""}, [], r"source: expected a folder with part files, got"),
    ("cut gzip", {"a.csv": gzip.compress(clicks())[:-9]}, [], r".*a.csv: .*; write or copy it again"),
    ("cut pq", {"a.pq": b"PAR1" + bytes(99)}, [], r".*expected an intact Parquet file, got a damaged one"),
    ("separator", {"a.csv": clicks()}, ["--separator", '"'], r"separator: expected ASCII characters"),
    (
        "metadata without names",
        {"a.csv": clicks(), "m.csv": items("i0", "x", value=str)},
        ["--item_metadata", "m.csv"],
        r"item_metadata: expected a field 'item_id' in m.csv, got 'i0', 'x'; choose one with --item_key",
    ),
    (
        "deep list",
        {"a.csv": clicks(), "m.jsonl": b'{"item_id": "i0", "x": ' + b"[" * 9999 + b"]" * 9999 + b"}\n"},
        ["--item_metadata", "m.jsonl"],
        r"item_metadata: expected one JSON object per line in m.jsonl, in UTF-8, got: line 1",
    ),
]


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files, and return the first one, or its folder if it is in a subfolder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder / next(iter(files)).partition("/")[0]


@pytest.mark.parametrize(("name", "files", "options", "message"), REFUSED, ids=[case[0] for case in REFUSED])
def test_imports_that_are_rejected(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    files: dict[str, bytes],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    source = write_files(tmp_path, files)
    before = listing(tmp_path)
    assert face("data", "import", source, "--out", tmp_path / "out", *options) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.match(f"face: error: {message}", line)
    assert listing(tmp_path) == before


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


USERS, ITEMS, _ = zip(*CLICKS, strict=True)
WANTED = {"title": "Film 1"}
# Real-world files, the options, and the resulting record of item i1; None without metadata.
READ: list[tuple[str, dict[str, bytes], list[str], dict[str, Any] | None]] = [
    ("two colons", {"a.dat": clicks("::")}, ["--separator", "::"], None),
    ("three letters", {"a.txt": clicks(" | ")}, ["--separator", " | "], None),
    ("no header", {"a.csv": clicks(names=())}, ["--no_header", "--user", "1", "--item", "2"], None),
    ("lone CR", {"a.csv": clicks(end="\r")}, [], None),
    ("CRLF", {"a.csv": clicks(end="\r\n")}, [], None),
    ("gzip by another name", {"a.csv": gzip.compress(clicks())}, [], None),
    ("no gzip", {"a.csv.gz": clicks()}, [], None),
    ("pq", {"a.pq": parquet(user_id=USERS, item_id=ITEMS)}, [], None),
    ("Parquet by another name", {"a.csv": parquet(user_id=USERS, item_id=ITEMS)}, [], None),
    ("spaces in .inter", {"a.inter": clicks(" ", ("user_id:token", "item_id:token", "rating:float"))}, [], None),
    (
        "folder of Spark",
        {"a/part-0.csv": clicks(), "a/part-1.csv": clicks(), "a/_SUCCESS": b"", "a/.part-0.csv.crc": b"x"},
        [],
        None,
    ),
    ("markup", {"m.csv": items("item_id", "title", value=lambda i: f"<b>Film</b> {i}<br/>")}, [], WANTED),
    ("scripts", {"m.csv": items("item_id", "title", value=lambda i: f"<script>click()</script>Film {i}")}, [], WANTED),
    ("CDATA", {"m.csv": items("item_id", "title", value=lambda i: f"<![CDATA[Film]]> {i}")}, [], WANTED),
    ("cut tag", {"m.csv": items("item_id", "title", value=lambda i: f"Film {i}<a href=x")}, [], WANTED),
    ("entities", {"m.csv": items("item_id", "title", value=lambda i: f"Film &amp; {i}")}, [], {"title": "Film & 1"}),
    ("less than", {"m.csv": items("item_id", "title", value=lambda i: f"{i} <3 Film")}, [], {"title": "1 <3 Film"}),
    ("Title", {"m.csv": items("item_id", "Title", value=lambda i: f"Film {i}")}, [], WANTED),
    ("Genres", {"m.csv": items("item_id", "Genres", value=lambda i: "War|Love")}, [], {"genres": ["War", "Love"]}),
    (
        "Python list",
        {"m.csv": items("item_id", "genres", value=lambda i: "\"['War', 'Love']\"")},
        [],
        {"genres": ["War", "Love"]},
    ),
    (
        "NumPy array",
        {"m.csv": items("item_id", "genres", value=lambda i: "\"['War' 'Love']\"")},
        [],
        {"genres": ["War", "Love"]},
    ),
    (
        "PostgreSQL array",
        {"m.csv": items("item_id", "genres", value=lambda i: '"{War,""Science Fiction""}"')},
        [],
        {"genres": ["War", "Science Fiction"]},
    ),
    ("JSON", {"m.csv": items("item_id", "genres", value=lambda i: '"[""War""]"')}, [], {"genres": ["War"]}),
    (
        "objects",
        {"m.csv": items("item_id", "genres", value=lambda i: "\"[{'id': 1, 'name': 'War'}]\"")},
        [],
        {"genres": ["War"]},
    ),
    ("keys", {"m.csv": items("item_id", "tags", value=lambda i: "\"{'War': 9, 'Love': 0}\"")}, [], {"tags": ["War"]}),
    ("author", {"m.csv": items("item_id", "author", value=lambda i: "\"[{'name': 'Ann'}]\"")}, [], {"author": "Ann"}),
    (
        "nested Parquet",
        {"m.parquet": parquet(item_id=[f"i{i}" for i in range(8)], genres=[[{"id": 1, "name": "War"}]] * 8)},
        [],
        {"genres": ["War"]},
    ),
    (
        "nested JSON",
        {"m.jsonl": b"".join(b'{"item_id": "i%d", "genres": [{"name": "War"}]}\n' % i for i in range(8))},
        [],
        {"genres": ["War"]},
    ),
    (
        "lone surrogates",
        {"m.jsonl": b"".join(b'{"item_id": "i%d", "title": "Film \\ud800"}\n' % i for i in range(8))},
        [],
        {"title": "Film ?"},
    ),
    *(
        (
            name,
            {file: pack(b"".join(b'{"item_id": "i%d", "title": "Film %d"}\n' % (i, i) for i in range(8)))},
            [],
            WANTED,
        )
        for name, file, pack in (
            ("gzip named JSON lines", "m.jsonl", gzip.compress),
            ("JSON lines named gzip", "m.jsonl.gz", bytes),
            ("bz2 named JSON lines", "m.jsonl", bz2.compress),
            ("JSON lines named CSV", "m.csv", bytes),
        )
    ),
    ("whole numbers", {"m.csv": items("item_id", "year", value=lambda i: "1990.0")}, [], {"year": "1990"}),
    *(
        (
            f"missing {text}",
            {"m.csv": items("item_id", "title,year", value=lambda i, t=text: f"Film {i},{t}")},
            [],
            WANTED,
        )
        for text in ("nan", "NaN", "None", "n/a", "\\N")
    ),
    (
        "no genres",
        {"m.csv": items("item_id", "title,genres", value=lambda i: f"Film {i},(no genres listed)")},
        [],
        WANTED,
    ),
    (
        "separators apart",
        {"m.csv": items("item_id", "title", value=lambda i: f"Film {i}"), "a.csv": clicks(";")},
        ["--separator", ";"],
        WANTED,
    ),
    (
        "metadata without header",
        {"m.dat": b"".join(b"i%d::Film %d\n" % (i, i) for i in range(8))},
        ["--metadata_no_header", "--metadata_separator", "::", "--item_key", "1", "--item_fields", "title=2"],
        WANTED,
    ),
]


@pytest.mark.parametrize(("name", "files", "options", "record"), READ, ids=[case[0] for case in READ])
def test_real_world_imports(
    tmp_path: Path, name: str, files: dict[str, bytes], options: list[str], record: dict[str, Any] | None
) -> None:
    if record is not None:
        metadata = next(iter(files))
        files = {"a.csv": clicks(), **files} if "a.csv" not in files else {"a.csv": files["a.csv"], **files}
        options = [*options, "--item_metadata", str(tmp_path / metadata)]
    source = write_files(tmp_path, files)
    assert face("data", "import", source, "--out", tmp_path / "out", "--quiet", *options) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["counts"]["num_users"], manifest["counts"]["num_items"]) == (6, 8)
    if record is not None:
        rows = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
        assert {row["item_id"]: json.loads(row["record"]) for row in rows}["i1"] == record


@pytest.mark.parametrize(
    ("content", "options", "notice"),
    [
        (
            clicks(more=[("u9", "i1", -1)]),
            ["--rating", "rating"],
            r"every row counts .* \(-1 to 5, 1 below 0\); --min_r",
        ),
        (clicks(more=[("U1", "i7", 3)]), [], r"1 user ids differ from another one only by case.* 'U1' and 'u1'"),
        (clicks(more=[("u1", "i7.0", 3)]), [], r"1 item ids differ from .* a final .0, such as 'i7' and 'i7.0'"),
        (clicks(more=[("u 1", "i7", 3)]), [], r"1 user ids differ from .* white space.*'u 1' and 'u1'"),
        (
            clicks(more=[("u9", f"i{item}", 5) for item in range(8)]),
            ["--ratios", "8", "1", "1"],
            r"of 7 users 0 have no pair in valid and 6 none in test: metrics leave",
        ),
    ],
)
def test_what_an_import_reports(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, options: list[str], notice: str
) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    assert face("data", "import", tmp_path / "a.csv", "--out", tmp_path / "out", *options) == 0
    assert any(re.match(f"note: {notice}", line) for line in capfd.readouterr().err.splitlines())


def test_interrupted_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "a.csv").write_bytes(clicks())
    monkeypatch.setattr("face_lightning.data.prepared.pq.write_table", interrupt)
    assert face("data", "import", tmp_path / "a.csv", "--out", tmp_path / "out") == 130
    assert capfd.readouterr().err == "face: interrupted\n"
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv"}
