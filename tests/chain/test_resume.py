"""A run that was cut off and resumed is the run that was not, bit for bit."""

import shutil
import signal
from pathlib import Path

import pytest
import torch

from face_lightning.stages import Stage
from tests.chain.tiny import QUIET, World, assert_same_weights, checkpoint, fit, result, rows
from tests.processes import Command

LAST = ["--ckpt_path", "last"]


def without_seconds(run: Path) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows(run)]


def assert_same_run(one: Path, other: Path, fingerprint: bool = True) -> None:
    for name in ("last", "best"):
        assert_same_weights(one, other, name)
    assert without_seconds(one) == without_seconds(other)
    first, second = result(one), result(other)
    for key in ("epochs", "best", "metrics", *(["fingerprint"] if fingerprint else [])):
        assert first[key] == second[key]


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_shorter_run_goes_on_as_the_longer_one(chain: World, tmp_path: Path, stage: str) -> None:
    config, epochs = chain.config(stage), result(chain.run(stage))["epochs"]
    assert fit(config, "--run_dir", tmp_path, "--trainer.max_epochs", "2") == 0
    assert checkpoint(tmp_path)["epoch"] == 1
    assert fit(config, "--run_dir", tmp_path, "--trainer.max_epochs", epochs, *LAST) == 0
    assert_same_run(tmp_path, chain.run(stage))


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def killed(chain: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a run of every stage that was killed after the second batch of the last epoch but one."""
    folder = tmp_path_factory.mktemp("killed")
    children = {}
    for stage in ("stage1", "stage2", "stage3"):
        epoch = result(chain.run(stage))["epochs"] - 2
        killer = ["--trainer.callbacks+=tests.chain.tiny.Killer", "--allow-code"]
        killer += [f"--trainer.callbacks.epoch={epoch}", "--trainer.callbacks.batch=1"]
        children[stage] = Command("fit", "--config", chain.config(stage), *QUIET, "--run_dir", folder / stage, *killer)
    for child in children.values():
        errors = child.communicate(timeout=240)[1]
        assert child.returncode == -signal.SIGKILL, errors
    return folder


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_killed_run_goes_on_as_if_it_had_not_been(chain: World, killed: Path, stage: str) -> None:
    run, epochs = killed / stage, result(chain.run(stage))["epochs"]
    assert not (run / "result.json").exists()
    assert checkpoint(run)["epoch"] == len(rows(run)) - 1 == epochs - 3
    assert not list(run.rglob("*.tmp"))
    assert fit(chain.config(stage), "--run_dir", run, *LAST) == 0
    assert_same_run(run, chain.run(stage))


def cut(config: str, run: Path) -> None:
    """A fit that breaks off in the validation of its second epoch."""
    start = Stage.on_validation_epoch_start

    def failing(self: Stage) -> None:
        start(self)
        if self.current_epoch == 1:
            raise RuntimeError("the power went out")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stage, "on_validation_epoch_start", failing)
        with pytest.raises(RuntimeError, match="the power went out"):
            fit(config, "--run_dir", run, "--if_exists", "resume")
    assert checkpoint(run)["epoch"] == 0
    assert not (run / "result.json").exists()


@pytest.mark.parametrize("stage", ["stage2", "stage3"])
def test_the_same_command_resumes_a_run_that_was_cut_and_skips_it_then(
    chain: World, tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cut(chain.config(stage), tmp_path)
    assert fit(chain.config(stage), "--run_dir", tmp_path, "--if_exists", "resume") == 0
    assert "unfinished with the same configuration, resumed" in capsys.readouterr().out
    assert_same_run(tmp_path, chain.run(stage))
    assert fit(chain.config(stage), "--run_dir", tmp_path, "--if_exists", "resume") == 0
    assert "finished with the same configuration, skipped" in capsys.readouterr().out


def test_another_configuration_does_not_go_on_with_a_run_that_was_cut(
    chain: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut(chain.config("stage1"), tmp_path)
    assert fit(chain.config("stage1"), "--run_dir", tmp_path, "--if_exists", "resume", "--data.batch_size", "32") == 0
    assert "resumed" not in capsys.readouterr().out
    assert [row["epoch"] for row in rows(tmp_path)] == [0, 1, 2, 3]


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
def test_checkpoint_from_the_middle_of_an_epoch(chain: World, tmp_path: Path, stage: str) -> None:
    folder = tmp_path / "whole" / "steps"
    steps = ["--trainer.callbacks+=ModelCheckpoint", f"--trainer.callbacks.dirpath={folder}"]
    steps += ["--trainer.callbacks.filename={step}", "--trainer.callbacks.every_n_train_steps=2"]
    steps += ["--trainer.callbacks.save_top_k=-1"]
    assert fit(chain.config(stage), "--run_dir", tmp_path / "whole", *steps) == 0
    assert_same_run(tmp_path / "whole", chain.run(stage), fingerprint=False)
    middle = folder / f"step={4 if stage == 'stage2' else 6}.ckpt"  # an epoch of stage 2 has 3 steps, of others 5
    progress = torch.load(middle, weights_only=True)["loops"]["fit_loop"]["epoch_progress"]
    assert (progress["current"]["ready"], progress["current"]["completed"]) == (2, 1)
    assert fit(chain.config(stage), "--run_dir", tmp_path / "rest", "--ckpt_path", middle) == 0
    assert_same_weights(tmp_path / "rest", chain.run(stage))
    assert [row["epoch"] for row in rows(tmp_path / "rest")] == list(range(1, result(chain.run(stage))["epochs"]))


def test_moved_run_goes_on_and_remembers_its_best(chain: World, tmp_path: Path) -> None:
    recall = [row["val/recall@20"] for row in rows(chain.run("stage1"))]
    assert recall.index(max(recall)) < 3  # so the best checkpoint is one from before the move
    config = chain.config("stage1")
    assert fit(config, "--run_dir", tmp_path / "old", "--trainer.max_epochs", "3") == 0
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert str(tmp_path) not in str(checkpoint(tmp_path / "new")["callbacks"])
    assert fit(config, "--run_dir", tmp_path / "new", *LAST) == 0
    assert_same_run(tmp_path / "new", chain.run("stage1"))
    assert not (tmp_path / "old").exists()


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
