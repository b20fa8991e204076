"""Tests of imports with Parquet columns of every type in every role, by the real command."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from face_lightning.data.readers import InteractionFile
from tests.data.importing import imported

N = 6
TYPES = {
    "timestamp[ns]": pa.array([1] * N, pa.timestamp("ns", "UTC")),
    "timestamp[ms]": pa.array([2**62] * N, pa.timestamp("ms")),
    "date32": pa.array([2**31 - 1] * N, pa.int32()).cast(pa.date32()),
    "duration": pa.array([1] * N, pa.duration("ns")),
    "time64": pa.array([1] * N, pa.time64("ns")),
    "list of times": pa.array([[1]] * N, pa.list_(pa.timestamp("ns"))),
    "list of dates": pa.array([[datetime.date(2020, 1, 1)]] * N),
    "list of decimals": pa.array([[decimal.Decimal("1.5")]] * N),
    "struct of bytes": pa.array([{"a": b"\xff"}] * N),
    "map": pa.array([[("a", 1)]] * N, pa.map_(pa.string(), pa.int32())),
    "decimal": pa.array([decimal.Decimal("9" * 38)] * N, pa.decimal128(38, 0)),
    "half": pa.array(np.ones(N, np.float16)),
    "string_view": pa.array(["1"] * N, pa.string_view()),
    "binary": pa.array([b"\xff"] * N),
    "dictionary of binary": pa.array([b"a"] * N).dictionary_encode(),
    "nan": pa.array([float("nan")] * N),
    "huge": pa.array([2.0**70] * N),
    "null": pa.nulls(N),
    "bool": pa.array([True] * N),
}
# Types that are valid in a role must be accepted, so that the test does not pass by rejecting everything.
ACCEPTED = {
    "rating": {"decimal", "half", "string_view", "huge", "bool"},
    "time": {"timestamp[ns]", "timestamp[ms]", "date32", "decimal", "half", "string_view", "huge", "bool"},
    "metadata": set(TYPES) - {"list of times"},
}


@pytest.mark.parametrize("role", ["user_id", "item_id", "rating", "time", "metadata", "key"])
@pytest.mark.parametrize("name", TYPES)
def test_columns_of_every_type(name, role, tmp_path):
    column = TYPES[name]
    table = {"user_id": [f"u{k // 3}" for k in range(N)], "item_id": [f"i{k % 4}" for k in range(N)]}
    arguments = [tmp_path / "c.parquet"]
    if role in ("metadata", "key"):
        key = column if role == "key" else [f"i{k}" for k in range(N)]
        pq.write_table(pa.table({"item_id": key, "title": column, "tags": column}), tmp_path / "m.parquet")
        arguments += ["--item_metadata", tmp_path / "m.parquet"]
    else:
        table[role] = column
        arguments += {"rating": ["--rating", "rating", "--min_rating", 0], "time": ["--time", "time"]}.get(role, [])
    pq.write_table(pa.table(table), tmp_path / "c.parquet")
    taken = imported(tmp_path, *arguments)
    if role in ACCEPTED:
        assert taken == (name in ACCEPTED[role])


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.date32(),
        pa.date64(),
        pa.timestamp("s"),
        pa.timestamp("ns", "UTC"),
    ],
    ids=str,
)
def test_dates_of_every_type_are_the_same_times(kind, tmp_path):
    days = [datetime.date(2024, 1, 9 - k) for k in range(5)]
    texts = pa.array([day.isoformat() for day in days])
    if pa.types.is_dictionary(kind):
        column = texts.dictionary_encode()
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column = texts.cast(kind)
    else:
        column = pa.array(days).cast(pa.timestamp("s")).cast(kind)
    items = [f"i{k}" for k in range(5)]
    pq.write_table(pa.table({"user_id": ["u"] * 5, "item_id": items, "when": column}), tmp_path / "c.parquet")
    data = InteractionFile(tmp_path / "c.parquet", time="when", split="last").read().interactions
    assert [str(data.item_ids[i]) for i in data.test.indices] == ["i0"]
    assert [str(data.item_ids[i]) for i in data.valid.indices] == ["i1"]
