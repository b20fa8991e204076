from pathlib import Path
from typing import Any

import pytest
import torch

from face_lightning.errors import CheckpointError
from face_lightning.runs.checkpoint_checks import check_checkpoint_state
from face_lightning.runs.checkpoints import AtomicCheckpointIO, RunCheckpoint


def test_checkpoint_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"value": torch.arange(3)}, path)
    assert torch.equal(torch.load(path, weights_only=True)["value"], torch.arange(3))
    assert [found.name for found in path.parent.iterdir()] == ["a.ckpt"]


def test_write_that_fails_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"value": 1}, path)

    def full(content: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"a.ckpt cannot be written \(no space left\); .* make room"):
        AtomicCheckpointIO().save_checkpoint({"value": 2}, path)
    assert torch.load(path, weights_only=True) == {"value": 1}


def scored(folder: Path) -> RunCheckpoint:
    """State of a callback that has written best.ckpt."""
    callback = RunCheckpoint(folder, "best", monitor="score")
    path = str(folder / "best.ckpt")
    folder.mkdir(exist_ok=True)
    Path(path).touch()
    callback.best_model_path = callback.kth_best_model_path = path
    callback.best_model_score = callback.kth_value = torch.tensor(0.5)
    callback.best_k_models = {path: torch.tensor(0.5)}
    return callback


def test_the_state_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    state = scored(tmp_path / "old").state_dict()
    assert str(tmp_path) not in str(state)
    assert (state["best_model_path"], state["last_model_path"]) == ("best.ckpt", "")
    (tmp_path / "old").rename(tmp_path / "new")
    moved = RunCheckpoint(tmp_path / "new", "best", monitor="score")
    moved.load_state_dict(state)
    path = str(tmp_path / "new" / "best.ckpt")
    assert moved.best_model_path == moved.kth_best_model_path == path
    assert moved.best_k_models == {path: torch.tensor(0.5)}
    assert moved.best_model_score == torch.tensor(0.5)


def test_scores_of_missing_files_are_not_restored(tmp_path: Path) -> None:
    state = scored(tmp_path / "old").state_dict()
    other = RunCheckpoint(tmp_path / "other", "best", monitor="score")
    other.load_state_dict(state)
    assert (other.best_model_path, other.best_model_score, other.best_k_models) == ("", None, {})


@pytest.mark.parametrize("key", ["best_model_path", "kth_best_model_path", "last_model_path", "best_k_models"])
@pytest.mark.parametrize("path", ["../../thesis.txt", "/home/me/thesis.txt", "last.ckpt", "sub/best.ckpt", "..", 3])
def test_a_state_that_names_other_files_is_rejected(tmp_path: Path, key: str, path: Any) -> None:
    state = scored(tmp_path / "run").state_dict()
    state[key] = {path: torch.tensor(0.5)} if key == "best_k_models" else path
    with pytest.raises(CheckpointError, match=r"names checkpoints of its own folder, got .*; use"):
        RunCheckpoint(tmp_path / "run", "best", monitor="score").load_state_dict(state)


def test_state_of_another_model_checkpoint_stays_in_its_folder(tmp_path: Path) -> None:
    folder = str(tmp_path)
    state = {"dirpath": folder, "best_model_path": f"{folder}/epoch=1.ckpt", "best_k_models": {}}
    check_checkpoint_state(state)
    check_checkpoint_state({"seconds": 3.0})
    for path in (f"{folder}/../thesis.ckpt", f"{folder}/thesis.txt", f"{folder}/sub/a.ckpt", "a.ckpt", None):
        with pytest.raises(CheckpointError, match="names checkpoints of its own folder"):
            check_checkpoint_state(state | {"best_model_path": path})


def test_flipped_bits_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint({"value": torch.arange(5000)}, path)
    content = bytearray(path.read_bytes())
    content[20_000] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a.ckpt is damaged \(wrong checksum of .*\); check the disk"):
        AtomicCheckpointIO().load_checkpoint(path)
