"""A resumed run rejects changed settings, or applies and reports them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.chain.tiny import World, checkpoint, fit, result, write_world

LAST = ["--ckpt_path", "last"]
CHANGES = [
    ("--model.init_args.optimizer.init_args.lr=0.5", r"model.init_args.optimizer.init_args.lr: expected 0.01 as in "),
    ("--model.init_args.optimizer=SGD", r"model.init_args.optimizer: expected torch.optim.Adam as in .*SGD"),
    ("--model.init_args.l2_weight=0.5", r"model.init_args.l2_weight: expected 1e-06 as in the run .*, got 0.5; leave"),
    ("--model.init_args.backbone.init_args.embedding_dim=8", r".*embedding_dim: expected 16 as in .*, got 8; leave it"),
    ("--model.init_args.backbone=LightGCN", r"model.init_args.backbone: expected .*GMF as in .*, got .*LightGCN; lea"),
    ("--model.init_args.ranking_loss=SampledSoftmax", r"model.init_args.ranking_loss: expected .*; leave it out"),
    ("--seed_everything=9", r"(data.seed|seed_everything): expected 0 as in the run that is resumed, got 9; leave it"),
    ("--data.batch_size=8", r"data.batch_size: expected 64 as in the run that is resumed, got 8; leave it out"),
    ("--checkpoint.monitor=val/ndcg@20", r"checkpoint.monitor: expected val/recall@20 as in .*, got val/ndcg@20"),
]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, Path]:
    """A run of one epoch."""
    world = write_world(tmp_path_factory.mktemp("world"))
    assert fit(world.config("stage1"), "--trainer.max_epochs", "1") == 0
    return world, world.run("stage1")


@pytest.mark.parametrize(("option", "message"), CHANGES, ids=[change[0] for change in CHANGES])
def test_settings_that_would_not_take_effect_are_rejected(
    cut: tuple[World, Path], capfd: pytest.CaptureFixture[str], option: str, message: str
) -> None:
    world, run = cut
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    capfd.readouterr()
    assert fit(world.config("stage1"), option, *LAST) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.match(f"face: error: {message}", line)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_settings_that_take_effect_are_named_and_recorded(
    cut: tuple[World, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    world, run = cut[0], tmp_path / "run"
    shutil.copytree(cut[1], run)
    changes = ["--trainer.max_epochs=3", "--trainer.gradient_clip_val=1", "--early_stopping.patience=7"]
    assert fit(world.config("stage1"), "--run_dir", run, *changes, *LAST) == 0
    said = capfd.readouterr().out
    assert f"{run}: resumed with trainer.max_epochs: 1 -> 3" in said
    assert "trainer.gradient_clip_val: None -> 1" in said
    assert "early_stopping.patience: 10 -> 7" in said
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["gradient_clip_val"] == 1
    states = [state for state in checkpoint(run)["callbacks"].values() if "patience" in state]
    assert [state["patience"] for state in states] == [7]


def test_checkpoint_without_its_run(cut: tuple[World, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alone = tmp_path / "alone" / "last.ckpt"
    alone.parent.mkdir()
    shutil.copy(cut[1] / "checkpoints" / "last.ckpt", alone)
    assert fit(cut[0].config("stage1"), "--run_dir", tmp_path / "run", "--ckpt_path", alone) == 2
    assert re.match(
        r"face: error: ckpt_path: expected \S+config.yaml .* but it is missing or damaged; resume in",
        capfd.readouterr().err,
    )
    assert not (tmp_path / "run").exists()


def test_a_run_is_skipped_only_on_the_same_data(
    cut: tuple[World, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(cut[0].root / "data", data)
    again = [cut[0].config("stage1"), "--run_dir", tmp_path / "run", "--data.reader.init_args.root", data]
    again += ["--trainer.max_epochs=1", "--if_exists=skip"]
    assert fit(*again) == 0
    assert fit(*again) == 0
    assert "skipped" in capfd.readouterr().out
    shutil.copy(data / "val_mat.pkl", data / "tst_mat.pkl")
    (data / "val_mat.pkl").write_bytes((cut[0].root / "data" / "tst_mat.pkl").read_bytes())
    before = json.loads((tmp_path / "run" / "environment.json").read_text())["data"]["fingerprint"]
    assert fit(*again) == 0
    assert "configuration, skipped" not in capfd.readouterr().out
    assert json.loads((tmp_path / "run" / "environment.json").read_text())["data"]["fingerprint"] != before
    assert result(tmp_path / "run")["epochs"] == 1
