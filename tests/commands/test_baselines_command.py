"""`face baselines`: settings selected on validation, results like those of runs, and errors."""

from pathlib import Path

import numpy as np
import pytest

from face_lightning.cli import main
from face_lightning.runs import results
from face_lightning.runs.results import read_result
from tests.chain.tiny import World, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


def test_baselines_write_the_files_of_a_run(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["baselines", "--config", world.config("stage1"), "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "ItemKNN weighting bm25, num_neighbors 50: val/recall@20" in out
    assert "EASE" in out
    recalls = {}
    for name in ("popularity", "itemknn", "ease"):
        found = read_result(tmp_path / name)
        recalls[name] = found["metrics"]["test/recall@5"]
        users = results.test_users(tmp_path / name, "test/recall@5")
        assert np.mean(users) == pytest.approx(recalls[name])
        best = max(found["searched"], key=lambda one: one["score"])
        assert found["setting"] == best["setting"]
        assert found["best"]["score"] == best["score"]
        assert found["dataset"]
    assert recalls["popularity"] < min(recalls["itemknn"], recalls["ease"])  # the world has clusters


def test_options_of_the_data_suffice_and_the_result_is_the_same(world: World, tmp_path: Path) -> None:
    data = world.read("parts/data")["reader"]["init_args"]["root"]
    reader = ["--data.reader", "RLMRecFolder", "--data.reader.init_args.root", data]
    command = ["baselines", "--only", "Popularity", "--out"]
    assert main([*command, str(tmp_path / "one"), *reader]) == 0
    assert main([*command, str(tmp_path / "two"), "--config", world.config("stage2")]) == 0
    one, two = (read_result(tmp_path / name / "popularity") for name in ("one", "two"))
    assert one["fingerprint"] == two["fingerprint"]
    assert one["metrics"] == two["metrics"]


def test_a_baseline_beyond_memory_is_rejected(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["baselines", "--config", world.config("stage1"), "--memory_gib", "1e-9", "--out", str(tmp_path)]
    assert main([*command, "--only", "Popularity", "EASE"]) == 0
    assert "EASE left out: memory_gib: expected at least" in capsys.readouterr().out
    assert not (tmp_path / "ease").exists()
    assert main([*command, "--only", "EASE"]) == 2
    assert main(["baselines", "--config", str(tmp_path / "none.yaml")]) == 2
    assert main(["baselines", "--only", "Nothing"]) == 2
