"""A run that was cut off and resumed is the run that was not, bit for bit."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.chain.tiny import QUIET, World, assert_same_weights, checkpoint, fit, process, result, rows

LAST = ["--ckpt_path", "last"]


def without_seconds(run: Path) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows(run)]


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("last", "best"):
        assert_same_weights(one, other, name)
    assert without_seconds(one) == without_seconds(other)
    first, second = result(one), result(other)
    for key in ("epochs", "best", "metrics", "fingerprint"):
        assert first[key] == second[key]


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_shorter_run_goes_on_as_the_longer_one(chain: World, tmp_path: Path, stage: str) -> None:
    config, epochs = chain.config(stage), result(chain.run(stage))["epochs"]
    assert fit(config, "--run_dir", tmp_path, "--trainer.max_epochs", "2") == 0
    assert checkpoint(tmp_path)["epoch"] == 1
    assert fit(config, "--run_dir", tmp_path, "--trainer.max_epochs", epochs, *LAST) == 0
    assert_same_run(tmp_path, chain.run(stage))


def test_dropout_goes_on_as_well(chain: World, tmp_path: Path) -> None:
    arguments = [chain.config("stage3"), "--model.init_args.mapper.init_args.dropout", "0.5"]
    assert fit(*arguments, "--run_dir", tmp_path / "long") == 0
    assert fit(*arguments, "--run_dir", tmp_path / "short", "--trainer.max_epochs", "1") == 0
    assert fit(*arguments, "--run_dir", tmp_path / "short", *LAST) == 0
    assert_same_run(tmp_path / "short", tmp_path / "long")


def test_resume_does_not_need_the_stage_before_any_more(chain: World, tmp_path: Path) -> None:
    arguments = [chain.config("control"), "--run_dir", tmp_path / "run", "--init_from", tmp_path / "before"]
    shutil.copytree(chain.run("stage1"), tmp_path / "before")
    assert fit(*arguments, "--trainer.max_epochs", "1") == 0
    shutil.rmtree(tmp_path / "before")
    config = chain.read("control") | {"init_from": str(tmp_path / "before")}
    assert fit(chain.write("orphan", config), "--run_dir", tmp_path / "run", *LAST) == 0
    assert_same_weights(tmp_path / "run", chain.run("control"))


@pytest.mark.parametrize(("stage", "epochs"), [("stage1", 80), ("stage3", 30)])
def test_killed_run_goes_on_as_if_it_had_not_been(chain: World, tmp_path: Path, stage: str, epochs: int) -> None:
    arguments = ["--trainer.max_epochs", str(epochs), "--early_stopping.patience", "100"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    child = process("fit", "--config", chain.config(stage), *QUIET, "--run_dir", killed, *arguments)
    deadline = time.monotonic() + 120
    while not (killed / "metrics.jsonl").is_file() or len((killed / "metrics.jsonl").read_text().splitlines()) < 3:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert not (killed / "result.json").exists()
    assert 1 <= checkpoint(killed)["epoch"] < epochs - 1
    assert fit(chain.config(stage), "--run_dir", killed, *arguments, *LAST) == 0
    assert fit(chain.config(stage), "--run_dir", whole, *arguments) == 0
    assert_same_run(killed, whole)


def test_row_written_before_the_kill_but_after_the_checkpoint_is_written_again(chain: World, tmp_path: Path) -> None:
    arguments = [chain.config("stage1"), "--run_dir", tmp_path]
    assert fit(*arguments, "--trainer.max_epochs", "2") == 0
    row = (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(row.replace('"epoch": 1, "step": ', '"epoch": 2, "step": 9') + "\n" + row[:10])
    assert fit(*arguments, *LAST) == 0
    assert without_seconds(tmp_path) == without_seconds(chain.run("stage1"))


def test_patience_and_best_score_survive(chain: World, tmp_path: Path) -> None:
    arguments = [chain.config("stage1"), "--early_stopping.patience", "2", "--trainer.max_epochs"]
    assert fit(*arguments, "40", "--run_dir", tmp_path / "whole") == 0
    epochs = result(tmp_path / "whole")["epochs"]
    assert 3 <= epochs < 40
    assert fit(*arguments, str(epochs - 1), "--run_dir", tmp_path / "cut") == 0
    assert fit(*arguments, "40", "--run_dir", tmp_path / "cut", *LAST) == 0
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
    seconds = [row["seconds"] for row in rows(tmp_path / "cut")]
    assert seconds == sorted(seconds)
