"""Words of entities whose texts are hidden, through the real command."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import heldout_words, records
from tests.chain.tiny import World, assert_same_weights, checkpoint, fit, result, rows

HOLD_OUT = ("--data.held_out_texts", "0.4")


def test_held_out_texts_are_picked_by_words_that_were_learnt_without_them(chain: World, tmp_path: Path) -> None:
    assert fit(chain.config("stage2"), *HOLD_OUT, "--run_dir", str(tmp_path / "run")) == 0
    for key in ("words/heldout_items@10", "words/heldout_users@10"):
        assert all(0 <= row[key] <= 1 for row in rows(tmp_path / "run"))
        assert 0 <= result(tmp_path / "run")["metrics"][key] <= 1
    predicted = checkpoint(tmp_path / "run")["predicted_targets"]
    assert 0 < len(predicted) < 70
    assert (predicted >= 0).all()
    assert "predicted_targets" not in checkpoint(chain.run("stage2")), "every entity has a text"


def test_targets_of_entities_without_text_are_an_option(chain: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    none = "--model.init_args.words.init_args.missing_ridge=0"
    assert fit(chain.config("stage2"), *HOLD_OUT, none, "--run_dir", str(run)) == 0
    assert "predicted_targets" not in checkpoint(run)


def test_a_resumed_stage3_keeps_the_predicted_targets(chain: World, tmp_path: Path) -> None:
    """They are those of the embeddings that the stage started with."""
    whole, first, second = (tmp_path / name for name in ("whole", "first", "second"))
    assert fit(chain.config("stage3"), *HOLD_OUT, "--run_dir", whole) == 0
    assert fit(chain.config("stage3"), *HOLD_OUT, "--run_dir", first, "--trainer.max_epochs", "1") == 0
    last = str(first / "checkpoints" / "last.ckpt")
    assert fit(chain.config("stage3"), *HOLD_OUT, "--run_dir", second, "--ckpt_path", last, "--init_from=null") == 0
    assert torch.equal(*(checkpoint(run)["predicted_targets"] for run in (whole, second)))
    assert_same_weights(whole, second)


def test_words_are_compared_with_regressions(chain: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    run = tmp_path / "run"
    assert fit(chain.config("stage2"), *HOLD_OUT, "--run_dir", str(run)) == 0
    heldout_words.show(run, [])
    lines = [json.loads(line) for line in (tmp_path / "results" / "heldout_words.jsonl").read_text().splitlines()]
    found = {line["variant"]: line["metrics"] for line in lines}
    assert set(found) == {"learnt", "learnt, text seen", "words of kernel ridge", "targets", *heldout_words.PREDICTORS}
    logged = result(run)["metrics"]
    for key in ("words/heldout_items@10", "words/heldout_users@10"):
        assert found["learnt"][key] == pytest.approx(logged[key], abs=1e-6)
        assert all(0 <= metrics[key] <= 1 for metrics in found.values())
