from pathlib import Path

import pytest
import torch
from torch import nn

from face_lightning.errors import CheckpointError
from face_lightning.runs.checkpoint_reading import check_stage, init_from, load_checkpoint, locate_checkpoint


class Parts(nn.Module):
    """A module with the parts of a stage: a backbone, and a mapper if a width is given."""

    def __init__(self, width: int = 3, mapper: int | None = None, other: bool = False) -> None:
        super().__init__()
        self.backbone = nn.Linear(width, 2, bias=False)
        if mapper is not None:
            self.mapper = nn.Linear(mapper, 1, bias=False)
        if other:
            self.head = nn.Linear(1, 1)


def write(path: Path, module: nn.Module, stage: str = "pretraining") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": module.state_dict(), "face_stage": stage}, path)
    return path


def test_common_parts_are_copied_and_reported(tmp_path: Path) -> None:
    before, stage = Parts(mapper=4, other=True), Parts(mapper=4, other=True)
    head = stage.head.weight.clone()
    path = write(tmp_path / "run" / "checkpoints" / "best.ckpt", before)
    report = init_from(stage, tmp_path / "run")
    assert report == f"started from {path}: backbone (1 tensors), mapper (1 tensors)"
    assert torch.equal(stage.backbone.weight, before.backbone.weight)
    assert torch.equal(stage.mapper.weight, before.mapper.weight)
    assert torch.equal(stage.head.weight, head)  # not a shared part of stages


@pytest.mark.parametrize(("before", "stage"), [(None, 4), (4, None)])
def test_a_part_of_one_side_only_is_not_copied(tmp_path: Path, before: int | None, stage: int | None) -> None:
    source, target = Parts(mapper=before), Parts(mapper=stage)
    kept = None if stage is None else target.mapper.weight.clone()
    report = init_from(target, write(tmp_path / "a.ckpt", source))
    assert report.endswith("a.ckpt: backbone (1 tensors)")
    assert torch.equal(target.backbone.weight, source.backbone.weight)
    assert kept is None or torch.equal(target.mapper.weight, kept)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Parts(width=5), r"init_from: backbone.weight has shape \(2, 5\) in .*, but \(2, 3\) here; set the same"),
        (nn.Linear(1, 1), r"init_from: .* has none of the parts backbone, mapper that this stage holds; give"),
        (
            nn.ModuleDict({"backbone": nn.Linear(3, 2)}),
            r"init_from: the backbone in .* is of another kind \(backbone.bias is on one side only\); configure",
        ),
    ],
)
def test_a_mismatch_changes_nothing(tmp_path: Path, source: nn.Module, message: str) -> None:
    stage = Parts(mapper=4)
    before = {key: value.clone() for key, value in stage.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        init_from(stage, write(tmp_path / "a.ckpt", source))
    assert all(torch.equal(value, before[key]) for key, value in stage.state_dict().items())


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "made",)

    torch.save({"state_dict": {}, "face_stage": Attack()}, tmp_path / "a.ckpt")
    with pytest.raises(
        CheckpointError, match=r"ckpt_path: expected a checkpoint of tensors and plain values"
    ) as raised:
        load_checkpoint(tmp_path / "a.ckpt")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_damaged_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"init_from: .* cannot be read .*; use another checkpoint"):
        load_checkpoint(tmp_path / "a.ckpt", "init_from")


@pytest.mark.parametrize("content", [[1], {"state_dict": {}}, {"face_stage": "mapping"}])
def test_checkpoint_of_another_program(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="that a stage of face_lightning wrote"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_stage_is_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ckpt", Parts(), "mapping")
    check_stage(path, "mapping")
    with pytest.raises(CheckpointError, match=r"expected .* 'alignment', got one of stage 'mapping' .*--init_from"):
        check_stage(path, "alignment")


def test_checkpoint_is_the_file_or_the_best_of_the_run(tmp_path: Path) -> None:
    path = write(tmp_path / "checkpoints" / "best.ckpt", Parts())
    assert locate_checkpoint(tmp_path) == locate_checkpoint(path) == path
    with pytest.raises(CheckpointError, match=r"init_from: .* does not exist; run the earlier stage first"):
        locate_checkpoint(tmp_path / "nosuch")
    with pytest.raises(CheckpointError, match=r"has no checkpoints/best.ckpt; finish that run first"):
        locate_checkpoint(tmp_path / "checkpoints")
