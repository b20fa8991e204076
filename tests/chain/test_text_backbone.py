"""A backbone that reads texts, through stages 1 and 2 by the real command."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.chain.tiny import World, checkpoint, fit, result

ALPHAREC = ["--model.init_args.backbone", "AlphaRec", "--model.init_args.backbone.init_args.embedding_dim", "16"]
TEXT_DIM = "--model.init_args.backbone.init_args.text_dim"


def encoder(world: World) -> list[str]:
    return ["--model.init_args.encoder.init_args.model", str(world.root / "encoder" / "model")]


def test_later_stages_take_the_texts_over(world: World, tmp_path: Path) -> None:
    first, second = tmp_path / "stage1", tmp_path / "stage2"
    options = [*ALPHAREC, TEXT_DIM, "16", *encoder(world), "--model.init_args.ranking_loss", "SampledSoftmax"]
    assert fit(world.config("stage1"), *options, "--trainer.max_epochs=2", "--run_dir", first) == 0
    texts = checkpoint(first)["state_dict"]["backbone.item_texts"]
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(len(texts)))
    config = world.read("stage2")
    del config["model"]["init_args"]["backbone"]  # that of stage 1
    world.write("stage2-texts", config)
    again = ["--init_from", first, "--run_dir", second, "--trainer.max_epochs=1"]
    assert fit(world.config("stage2-texts"), *again) == 0
    assert torch.equal(checkpoint(second)["state_dict"]["backbone.item_texts"], texts)
    assert result(second)["backbone"] == "AlphaRec"


def test_another_width_is_refused(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(world.config("stage1"), *ALPHAREC, *encoder(world), "--run_dir", tmp_path / "run") == 2
    assert "text_dim: expected 16, the width of the text encoder, got 384" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_data_without_texts_are_refused(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(world.root / "data", tmp_path / "data", ignore=shutil.ignore_patterns("items.jsonl"))
    options = [*ALPHAREC, TEXT_DIM, "16", *encoder(world), "--data.reader.init_args.root", tmp_path / "data"]
    assert fit(world.config("stage1"), *options, "--run_dir", tmp_path / "run") == 2
    assert "expected texts of users and items" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
