"""A run keeps its vocabulary: later stages, resumes and tests build none."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from face_lightning.runs.kept_codebook import CODEBOOK, find_codebook
from face_lightning.text import vocabulary
from tests.chain.tiny import QUIET, World, face, fit, result


def test_a_run_keeps_words_embeddings_and_where_they_came_from(chain: World) -> None:
    for stage in ("stage2", "stage3"):
        with safe_open(chain.run(stage) / CODEBOOK, "pt") as file:
            metadata = file.metadata()
            assert len(metadata["words"].split()) == file.get_tensor("token_embeddings").shape[0]
        assert len(metadata["fingerprint"]) == 64
        assert json.loads(metadata["report"])["sources"] == ["words.txt"]
    assert find_codebook(chain.run("stage1")) is None
    assert find_codebook(chain.run("stage2") / "checkpoints" / "best.ckpt") == chain.run("stage2") / CODEBOOK


def test_later_stages_and_commands_need_no_word_list(
    chain: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*args: object, **kwargs: object) -> None:
        raise AssertionError("a newer lexicon would give other words")

    options = ["--run_dir", tmp_path, "--trainer.max_epochs", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(vocabulary, "build_codebook", build)
        assert fit(chain.config("stage3"), *options, "--trainer.max_epochs", "1") == 0
        assert fit(chain.config("stage3"), *options, "--ckpt_path", "last") == 0
        assert face("test", "--config", chain.config("stage3"), "--run_dir", tmp_path, *QUIET) == 0
        with pytest.raises(ValueError, match="a newer lexicon"):
            fit(chain.config("stage2"), "--run_dir", tmp_path / "stage2")


def test_the_same_run_is_skipped(chain: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--run_dir", tmp_path, "--trainer.max_epochs", "1", "--if_exists", "skip"]
    assert fit(chain.config("stage3"), *options) == 0
    before = result(tmp_path)
    capsys.readouterr()
    assert fit(chain.config("stage3"), *options) == 0
    assert "skipped" in capsys.readouterr().out
    assert result(tmp_path) == before
