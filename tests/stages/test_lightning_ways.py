"""Stages in a user's own Trainer: fit, test, checkpoints, pickling and multi-process strategies."""

import os
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from face_lightning.backbones import GMF
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.readers import RLMRecFolder
from face_lightning.errors import CheckpointError, ConfigurationError, DataError
from face_lightning.stages import AlignmentStage, MappingStage, PretrainingStage
from tests.chain.tiny import write_data

BACKBONE = partial(GMF, embedding_dim=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("world") / "data"
    write_data(path)
    return path


@pytest.fixture
def data(folder: Path) -> InteractionDataModule:
    return InteractionDataModule(RLMRecFolder(folder), batch_size=64)


def new_stage(data: InteractionDataModule) -> PretrainingStage:
    return PretrainingStage(BACKBONE, data.num_users, data.num_items)


def new_trainer(**options: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return L.Trainer(max_epochs=1, enable_checkpointing=False, **quiet, **options)


@pytest.fixture
def trained(data: InteractionDataModule, tmp_path: Path) -> tuple[PretrainingStage, Path]:
    stage, trainer, path = new_stage(data), new_trainer(), tmp_path / "own.ckpt"
    trainer.fit(stage, data)
    trainer.save_checkpoint(path)
    return stage, path


def test_validate_then_fit_then_test(data: InteractionDataModule) -> None:
    stage, trainer = new_stage(data), new_trainer()
    (before,) = trainer.validate(stage, data, verbose=False)
    trainer.fit(stage, data)
    (after,) = trainer.validate(stage, data, verbose=False)
    (tested,) = trainer.test(stage, data, verbose=False)
    assert before != after
    assert before.keys() == after.keys()
    assert tested["test/recall@20"] > 0


def test_checkpoint_of_a_custom_trainer_loads_with_weights_only(trained: tuple[PretrainingStage, Path]) -> None:
    stage, path = trained
    content = torch.load(path, weights_only=True)
    assert content["hyper_parameters"]["num_users"] == 40
    assert "backbone" not in content["hyper_parameters"], "objects are omitted, not stored as None"
    assert torch.equal(content["state_dict"]["backbone.tables.weight"], stage.backbone.tables.weight)


def test_load_from_checkpoint_with_the_backbone(trained: tuple[PretrainingStage, Path]) -> None:
    stage, path = trained
    loaded = PretrainingStage.load_from_checkpoint(path, backbone=BACKBONE)
    assert torch.equal(loaded.backbone.tables.weight, stage.backbone.tables.weight)
    assert loaded.top_k == stage.top_k


@pytest.mark.parametrize("stage", [PretrainingStage, MappingStage, AlignmentStage])
def test_load_from_checkpoint_without_backbone_raises(trained: tuple[PretrainingStage, Path], stage: type[Any]) -> None:
    with pytest.raises(CheckpointError, match=r"load_from_checkpoint: expected backbone=.* or rank with Recommender"):
        stage.load_from_checkpoint(trained[1])


def test_custom_trainer_rejects_a_checkpoint_of_other_data(
    trained: tuple[PretrainingStage, Path], tmp_path: Path, folder: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in folder.iterdir():
        name = {"val_mat.pkl": "tst_mat.pkl", "tst_mat.pkl": "val_mat.pkl"}.get(path.name, path.name)
        (other / name).write_bytes(path.read_bytes())
    data = InteractionDataModule(RLMRecFolder(other), batch_size=64)
    with pytest.raises(DataError, match="ckpt_path: trained on data "):
        new_trainer().test(new_stage(data), data, ckpt_path=trained[1], weights_only=True, verbose=False)
    data.allow_other_data = True
    new_trainer().test(new_stage(data), data, ckpt_path=trained[1], weights_only=True, verbose=False)


def test_stages_can_be_pickled(data: InteractionDataModule) -> None:
    stage = new_stage(data)
    copy = pickle.loads(pickle.dumps(stage))  # noqa: S301 our own
    assert torch.equal(copy.backbone.tables.weight, stage.backbone.tables.weight)
    new_trainer().fit(copy, data)
    assert not torch.equal(copy.backbone.tables.weight, stage.backbone.tables.weight)


def train_on_two_processes(folder: Path, strategy: str) -> tuple[bool, float]:
    """Train a stage for one epoch; returns whether its table has changed, and the last training loss."""
    data = InteractionDataModule(RLMRecFolder(folder), batch_size=64)
    stage = new_stage(data)
    before = stage.backbone.tables.weight.detach().clone()
    trainer = new_trainer(strategy=strategy, devices=2)
    trainer.fit(stage, data)
    return not torch.equal(stage.backbone.tables.weight, before), float(trainer.callback_metrics["train/loss"])


def test_ddp_spawn(folder: Path) -> None:
    """The strategy ddp_spawn pickles the stage and the data module."""
    has_changed, loss = train_on_two_processes(folder, "ddp_spawn")
    assert has_changed
    assert 0 < loss < 1


def test_ddp_notebook(folder: Path) -> None:
    """The strategy ddp_notebook forks, which needs a fresh process, since OpenMP threads do not survive a fork."""
    call = "print(*train_on_two_processes(Path(sys.argv[1]), 'ddp_notebook'))"
    code = f"from tests.stages.test_lightning_ways import *\nif __name__ == '__main__': {call}"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, folder]
    done = subprocess.run(command, cwd=root, env=environment, check=True, timeout=300, capture_output=True, text=True)
    has_changed, loss = done.stdout.split()[-2:]
    assert has_changed == "True"
    assert 0 < float(loss) < 1


def test_dataloaders_instead_of_the_data_module_raise(data: InteractionDataModule) -> None:
    loader = data.train_dataloader()
    with pytest.raises(ConfigurationError, match="datamodule: expected an InteractionDataModule, whose graph"):
        new_trainer().fit(new_stage(data), train_dataloaders=loader)
