"""Fuzz tests of the import: a complete folder or none, at most one line of error message, and no traceback.

10,000 cases in the slow suite, 200 of the same in the default one.
"""

import io
import json
import shutil
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from face_lightning.cli import main
from face_lightning.data.readers import PreparedFolder
from face_lightning.errors import DataError

ROWS = [(f"u{u}", f"i{(u + k) % 7}", 1 + k, 100 * u + k) for u in range(5) for k in range(4)]
CSV = ("user_id,item_id,rating,timestamp\n" + "".join(",".join(map(str, row)) + "\n" for row in ROWS)).encode()
JSONL = b"".join(
    json.dumps({"item_id": f"i{i}", "title": f"T{i}", "tags": ["a", "b"]}).encode() + b"\n" for i in range(7)
)
_BUFFER = io.BytesIO()
pq.write_table(
    pa.table({name: [row[k] for row in ROWS] for k, name in enumerate(("user_id", "item_id", "rating", "timestamp"))}),
    _BUFFER,
)
PARQUET = _BUFFER.getvalue()

TOKENS = [
    "user_id",
    "item_id",
    "rating",
    "u1",
    "i1",
    "nan",
    "NaN",
    "",
    "1",
    "1.0",
    "1e400",
    "-0",
    "é",
    "\ufeff",
    "\x00",
    '"',
]
TOKENS += [
    "'",
    ",",
    ";",
    "\t",
    "\n",
    "\r",
    "\r\n",
    " ",
    "null",
    "9" * 30,
    "2024-01-01",
    "x" * 400,
    "{",
    "}",
    "[",
    ":",
    "\\",
]
OPTIONS = [
    ["--rating", "rating", "--min_rating", "2"],
    ["--core", "2"],
    ["--split", "temporal", "--time", "timestamp"],
    ["--split", "last", "--time", "timestamp"],
    ["--split", "global"],
    ["--drop_missing"],
    ["--no_header", "--user", "1", "--item", "2"],
    ["--separator", ";"],
    ["--encoding", "latin-1"],
    ["--encoding", "utf-16"],
    ["--ratios", "1", "0", "0"],
    ["--domain", "movie"],
]
options = st.lists(st.sampled_from(OPTIONS), max_size=3).map(lambda chosen: [one for part in chosen for one in part])


def spoilt(whole: bytes) -> st.SearchStrategy[bytes]:
    """Corrupt a file: overwrite, remove or insert bytes at a few positions."""
    places = st.integers(0, len(whole) - 1)
    piece = st.one_of(st.binary(max_size=6), st.sampled_from(TOKENS).map(str.encode))
    return st.lists(st.tuples(places, st.integers(0, 40), piece), min_size=1, max_size=4).map(
        lambda edits: _edited(whole, edits)
    )


def _edited(whole: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, length, piece in edits:
        whole = whole[:place] + piece + whole[place + length :]
    return whole


text_files = st.one_of(
    spoilt(CSV),
    st.binary(max_size=200),
    st.lists(st.sampled_from(TOKENS), max_size=60).map(lambda parts: "".join(parts).encode()),
    st.lists(st.sampled_from(TOKENS), max_size=60).map(lambda parts: b"user_id,item_id\n" + ",".join(parts).encode()),
)
records = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["item_id", "title", "tags", "genres", "year", "author", "profile", "text", "city"])
metadata_files = st.one_of(
    spoilt(JSONL),
    st.binary(max_size=200),
    st.lists(st.dictionaries(fields, st.sampled_from(["i1", "i2", "i3"]) | records, max_size=5), max_size=6).map(
        lambda rows: "\n".join(map(json.dumps, rows)).encode()
    ),
)


def check_import(files: dict[str, bytes], arguments: list[str]) -> int:
    """Import by the command; returns its exit code."""
    folder = Path(tempfile.mkdtemp())
    try:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        given_arguments = [str(folder / one) if one in files else one for one in arguments]
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(["data", "import", *given_arguments, "--out", str(folder / "mine")])
        left = {path.name for path in folder.iterdir()}
        if code == 0:
            assert left == {*files, "mine"}
            dataset = PreparedFolder(folder / "mine").read()
            assert dataset.interactions.train.nnz > 0
            return 0
        assert code == 2
        assert out.getvalue() == ""
        assert err.getvalue().startswith("face: error: ")
        assert err.getvalue().count("\n") == 1
        assert left == set(files)
    finally:
        shutil.rmtree(folder)
    return 2


def fuzz(num_cases: int) -> list[int]:
    """Run the four kinds of cases; returns the exit codes."""
    codes: list[int] = []
    often = settings(max_examples=num_cases // 4, suppress_health_check=list(HealthCheck), database=None)

    @often
    @given(text_files, options)
    def clicks(content: bytes, arguments: list[str]) -> None:
        codes.append(check_import({"c.csv": content}, ["c.csv", *arguments]))

    @often
    @given(spoilt(PARQUET), options)
    def parquet(content: bytes, arguments: list[str]) -> None:
        codes.append(check_import({"c.parquet": content}, ["c.parquet", *arguments]))

    @often
    @given(metadata_files, st.sampled_from(["m.jsonl", "m.csv", "m.item"]), options)
    def metadata(content: bytes, name: str, arguments: list[str]) -> None:
        files = {"c.csv": CSV, name: content}
        codes.append(check_import(files, ["c.csv", "--item_metadata", name, *arguments]))

    whole = _prepared_files()

    @often
    @given(st.sampled_from(sorted(whole)).flatmap(lambda name: st.tuples(st.just(name), spoilt(whole[name]))))
    def prepared(spoil: tuple[str, bytes]) -> None:
        codes.append(_read_spoilt(whole, *spoil))

    for family in (clicks, parquet, metadata, prepared):
        family()
    return codes


def _prepared_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "c.csv").write_bytes(CSV)
        (folder / "m.jsonl").write_bytes(JSONL)
        arguments = ["c.csv", "--item_metadata", "m.jsonl", "--out", "mine"]
        assert (
            main(
                [
                    "data",
                    "import",
                    *(str(folder / one) if "." in one or one == "mine" else one for one in arguments),
                    "--quiet",
                ]
            )
            == 0
        )
        return {path.name: path.read_bytes() for path in (folder / "mine").iterdir()}


def _read_spoilt(whole: dict[str, bytes], name: str, content: bytes) -> int:
    """Check that a prepared folder with one corrupted file is rejected, or read with the original content."""
    with tempfile.TemporaryDirectory() as folder:
        for other, bytes_ in {**whole, name: content}.items():
            (Path(folder) / other).write_bytes(bytes_)
        try:
            data = PreparedFolder(folder).read().interactions
        except DataError:
            return 2
        assert np.diff(data.train.indptr).min() >= 1
        assert name == "manifest.json" or content == whole[name]
        return 0


def test_a_few_cases() -> None:
    codes = fuzz(200)
    assert len(codes) >= 190
    assert set(codes) == {0, 2}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_thousand_cases() -> None:
    codes = fuzz(10_400)
    print(f"{len(codes):,} cases, {codes.count(0):,} of them imported")
    assert len(codes) >= 10_000
    assert codes.count(0) > 300
    assert codes.count(2) > 500
