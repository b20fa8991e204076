"""Runs without validation or test pairs, and with features of Lightning, by the real command."""

import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.sparse import coo_matrix

from tests.chain.tiny import NUM_ITEMS, NUM_USERS, QUIET, World, checkpoint, face, fit, result, rows, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


def data_without(world: World, folder: Path, split: str) -> list[str | Path]:
    """Option for data without the pairs of a split."""
    shutil.copytree(world.root / "data", folder)
    empty = coo_matrix((NUM_USERS, NUM_ITEMS), dtype=np.float32)
    (folder / f"{split}_mat.pkl").write_bytes(pickle.dumps(empty))
    return ["--data.reader.init_args.root", folder]


def test_data_without_validation(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run, options = tmp_path / "run", data_without(world, tmp_path / "data", "val")
    arguments = [world.config("stage1"), "--run_dir", run, *options]
    assert fit(*map(str, arguments), "--trainer.max_epochs", "2", "--early_stopping.patience", "0") == 0
    found = result(run)
    assert found["notes"] == [
        "no validation: the data have no validation pairs, so the last epoch was kept, without early stopping"
    ]
    assert found["best"] == {"monitor": None, "score": None}
    assert found["metrics"]["test/recall@20"] > 0
    assert fit(*map(str, arguments), "--trainer.max_epochs", "3", "--ckpt_path", "last") == 0
    assert [row["epoch"] for row in rows(run)] == [0, 1, 2]
    capfd.readouterr()
    assert face("validate", "--config", world.config("stage1"), "--run_dir", run, *options, *QUIET) == 2
    assert "data: expected valid pairs to evaluate on, got none" in capfd.readouterr().err


@pytest.mark.parametrize("case", ["data", "limit"])
def test_nothing_to_test(world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str) -> None:
    run = tmp_path / "run"
    options = data_without(world, tmp_path / "data", "tst") if case == "data" else ["--trainer.limit_test_batches=0"]
    assert fit(world.config("stage1"), "--run_dir", run, *options, "--trainer.max_epochs", "2") == 0
    said = capfd.readouterr().out
    assert re.search(r"run: 2 epochs in \d+ s, not tested\nno test: the data have no test pairs", said)
    assert not [name for name in result(run)["metrics"] if name.startswith("test/")]
    assert (run / "embeddings.safetensors").is_file()
    assert not (run / "test_users.parquet").exists()
    if case == "data":
        more = ["--out", tmp_path / "baselines", "--only", "Popularity"]
        assert face("baselines", "--config", world.config("stage1"), *options, *more) == 2
        assert "data: expected test pairs to evaluate on, got none" in capfd.readouterr().err
        assert not (tmp_path / "baselines").exists()


def test_averaged_weights_are_validated_saved_and_tested(world: World, tmp_path: Path) -> None:
    """The averaged weights are evaluated, and saved in best.ckpt."""
    run, averaging = tmp_path / "run", "{class_path: EMAWeightAveraging, init_args: {decay: 0.5}}"
    options = ["--trainer.callbacks+", averaging, "--model.init_args.optimizer.init_args.lr", "1"]
    assert fit(world.config("stage1"), "--run_dir", run, *options, "--trainer.max_epochs", "2") == 0
    best = checkpoint(run, "best")
    average, last = (torch.cat(list(best[key].values())) for key in ("state_dict", "current_model_state"))
    assert not torch.equal(average, last)
    saved = load_file(run / "embeddings.safetensors")
    assert torch.equal(torch.cat([saved["users"], saved["items"]]), average)


def test_steps_that_end_before_the_first_validation(
    world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert fit(world.config("stage1"), "--run_dir", run, "--trainer.max_steps", "2") == 2
    line = capfd.readouterr().err.splitlines()[-1]
    assert re.match(
        r"face: error: trainer: expected at least one epoch .*, got 2 steps and none; raise trainer.max_ep", line
    )
    assert fit(world.config("stage1"), "--run_dir", run, "--ckpt_path", "last") == 0
