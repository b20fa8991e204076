"""Exports of a run can be read without this package."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from face_lightning.cli import main
from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.inference import write_embeddings
from face_lightning.structures import Embeddings
from tests.recommending.test_recommender import ITEMS, NAMES, USERS, write_run

BLOCK = """
import sys, runpy
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("face_lightning", "torch", "pyarrow", "safetensors", "lightning"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A hand-made run with the files that the model card reads."""
    run = write_run(tmp_path / "run")
    data = {"name": "films", "num_users": 3, "num_items": 5, "fingerprint": "f" * 64}
    data |= {"num_train": 4, "num_valid": 1, "num_test": 2}
    (run / "environment.json").write_text(json.dumps({"data": data, "versions": {"torch": "2"}}))
    result = {"stage": "mapping", "backbone": "GMF", "seed": 0, "epochs": 3, "seconds": 1.5}
    result |= {"best": {"monitor": "val/recall@20"}, "metrics": {"test/recall@20": 0.25, "last_epoch": {}}}
    (run / "result.json").write_text(json.dumps(result))
    config = {"model": {"class_path": "MappingStage", "init_args": {"words": None}}, "run_dir": "/secret/place"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


def run_example(folder: Path, *arguments: str) -> list[list[str]]:
    """Output of the example in columns, run where only NumPy and FAISS can be imported."""
    command = [sys.executable, "-c", BLOCK, str(folder / "example.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("index", ["flat", "hnsw", "none"])
def test_the_example_recommends_with_numpy_and_faiss_alone(run: Path, tmp_path: Path, index: str) -> None:
    out = tmp_path / "out"
    assert main(["export", "--run", str(run), "--out", str(out), "--index", index]) == 0
    shown = run_example(out, "bob")
    top = Recommender.load(run).recommend(["bob"], 5, filter_seen=None)
    assert [row[1] for row in shown] == top.ids[0].tolist()
    assert [float(row[0]) for row in shown] == pytest.approx(top.scores[0].tolist())
    assert shown[0][2:] == ["Emma", "w50"]
    assert (out / "items.faiss").exists() == (index != "none")


def test_every_format_holds_the_same_numbers(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert main(["export", "--run", str(run), "--out", str(out)]) == 0
    tables = load_file(out / "embeddings.safetensors")
    for name, table in (("users", USERS), ("items", ITEMS)):
        assert torch.equal(tables[name], table)
        assert np.array_equal(np.load(out / f"{name}.npy", mmap_mode="r"), table.numpy())
        with (out / "pgvector" / f"{name}.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert np.array_equal(np.array([json.loads(row["embedding"]) for row in rows], np.float32), table.numpy())
    assert faiss.read_index(str(out / "items.faiss")).reconstruct_n(0, 5).tolist() == ITEMS.tolist()
    lines = [json.loads(line) for line in (out / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == pq.read_table(out / "items.parquet").to_pylist()
    assert lines[4] == {"row": 4, "id": "50", "label": "Emma", "words": ["w50"]}
    assert [line["label"] for line in lines] == list(NAMES)
    assert rows[4]["words"] == '{"w50"}'
    assert len({path.stat().st_mode for path in out.rglob("*") if path.is_file()}) == 1  # equal permissions


def test_numbers_of_any_size_round_trip_as_text(run: Path, tmp_path: Path) -> None:
    items = torch.tensor([[1 / 3, -1e-30], [1e20, 3.4e38], [0.1, -0.0], [2**-140, 7.0], [1.0, 16777217.0]])
    write_embeddings(run, Embeddings(USERS, items), "f" * 64)
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "out"), "--index", "none"]) == 0
    with (tmp_path / "out" / "pgvector" / "items.csv").open(encoding="utf-8") as file:
        texts = [row["embedding"].strip("[]").split(",") for row in csv.DictReader(file)]
    assert np.array_equal(np.array(texts).astype(np.float32), items.numpy())


def test_the_model_card_has_data_and_metrics_but_no_paths(run: Path, tmp_path: Path) -> None:
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    shown = "# films: GMF", "f" * 64, "| test/recall@20 | 0.2500 |", "3 users and 5 items", "Apache-2.0", "1.0000"
    assert [part for part in shown if part not in card] == []
    assert "/secret" not in card
    assert "embedding vector(2)" in (tmp_path / "out" / "pgvector" / "load.sql").read_text()


def test_a_folder_that_is_not_empty_is_rejected(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").touch()
    assert main(["export", "--run", str(run), "--out", str(out)]) == 2
    assert "out: expected a new folder, but" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_an_export_that_fails_leaves_nothing(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "descriptors.parquet").write_bytes(b"damaged")
    assert main(["export", "--run", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "descriptors.parquet is damaged" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
