"""Runs that are cut off by a signal, by steps or by time, two runs in one folder, and secrets."""

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chain.test_resume import LAST, assert_same_run
from tests.chain.tiny import QUIET, World, checkpoint, fit, result, rows
from tests.processes import Command

SECRET = "sk-this-must-never-be-written"


class Slow:
    """Options of a run that lasts long enough to be hit, and the wait for its first steps."""

    options = ("--trainer.max_epochs", "4000", "--early_stopping.patience", "9999")

    @staticmethod
    def started(run: Path) -> None:
        until = time.monotonic() + 240
        while not (run / "checkpoints" / "last.ckpt").exists():
            assert time.monotonic() < until
            time.sleep(0.05)


def test_sigterm_saves_and_leaves_with_143_and_keeps_others_out(chain: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = [chain.config("stage1"), "--run_dir", run]
    child = Command("fit", "--config", *config, *QUIET, *Slow.options)
    Slow.started(run)
    other = Command("fit", "--config", *config, *QUIET, *LAST)
    errors = other.communicate(timeout=240)[1]
    assert other.returncode == 2
    assert errors == (
        f"face: error: run_dir: expected an unused folder, but another process is training in {run}; wait for it, "
        "or give another --run_dir\n"
    )
    child.send_signal(signal.SIGTERM)
    output, errors = child.communicate(timeout=240)
    assert child.returncode == 143, errors
    assert output == ""
    step = checkpoint(run)["global_step"]
    assert errors == f"{run}: SIGTERM after step {step}; resume with --ckpt_path last\n"
    assert not list(run.rglob("*.tmp"))

    epochs = str(step // 4 + 2)
    whole = tmp_path / "whole"
    assert fit(*config, "--trainer.max_epochs", epochs, "--early_stopping.patience", "9999", *LAST) == 0
    assert fit(config[0], "--run_dir", whole, "--trainer.max_epochs", epochs, "--early_stopping.patience", "9999") == 0
    assert_same_run(run, whole)


@pytest.mark.parametrize("stage", ["stage1", "stage2", "stage3"])
@pytest.mark.parametrize("cut", [3, 6])
def test_run_cut_by_steps_goes_on_as_if_it_had_not_been(chain: World, tmp_path: Path, stage: str, cut: int) -> None:
    config = chain.config(stage)
    code = fit(config, "--run_dir", tmp_path, "--trainer.max_steps", str(cut))
    assert code == (2 if cut < 4 and stage != "stage2" else 0), "nothing was validated before step 4"
    assert checkpoint(tmp_path)["global_step"] == cut
    assert fit(config, "--run_dir", tmp_path, *LAST) == 0
    assert_same_run(tmp_path, chain.run(stage), fingerprint=False)


def test_saving_by_time_changes_nothing_but_what_a_crash_costs(chain: World, tmp_path: Path) -> None:
    saved: list[int] = []
    assert fit(chain.config("stage1"), "--run_dir", tmp_path, "--every_n_minutes", "0") == 0
    assert_same_run(tmp_path, chain.run("stage1"))
    saved = [checkpoint(tmp_path, name)["global_step"] for name in ("previous", "last")]
    assert saved == [15, 16], "the step before the last, and the end of the last epoch"
    shutil.copy(tmp_path / "checkpoints" / "previous.ckpt", tmp_path / "checkpoints" / "last.ckpt")
    (tmp_path / "result.json").unlink()
    assert fit(chain.config("stage1"), "--run_dir", tmp_path, *LAST) == 0
    assert_same_run(tmp_path, chain.run("stage1"))


def test_overwriting_run_that_cannot_start_leaves_the_old_one(chain: World, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(chain.run("stage2"), run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    wrong = ["--model.init_args.anchoring_weight", "-1"]  # found in setup, when the folder is ours already
    assert fit(chain.config("stage2"), "--run_dir", run, "--if_exists", "overwrite", *wrong) == 2
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_nothing_that_is_secret_or_of_this_machine_is_kept(
    chain: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "FACE_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    assert fit(chain.config("stage3"), "--run_dir", tmp_path / "run", "--trainer.max_epochs", "1") == 0
    said = capfd.readouterr()
    assert SECRET not in said.out + said.err
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert SECRET.encode() not in content, path
            if path.suffix in (".ckpt", ".parquet") or path.name in ("result.json", "environment.json"):
                assert str(tmp_path).encode() not in content, path
                assert str(chain.root).encode() not in content, path
    assert paths_in(checkpoint(tmp_path / "run")["hyper_parameters"]) == []
    assert str(chain.root) in yaml.safe_dump(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()))


def paths_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [path for item in value.values() for path in paths_in(item)]
    if isinstance(value, list):
        return [path for item in value for path in paths_in(item)]
    return [value] if isinstance(value, str) and value.startswith("/") else []


def test_rows_of_a_cut_epoch_are_replaced(chain: World, tmp_path: Path) -> None:
    config = chain.config("stage1")
    assert fit(config, "--run_dir", tmp_path, "--trainer.max_steps", "6") == 0
    assert [row["epoch"] for row in rows(tmp_path)] == [0, 1]
    assert result(tmp_path)["metrics"]["test/recall@20"] > 0
    assert fit(config, "--run_dir", tmp_path, *LAST) == 0
    assert [(row["epoch"], row["step"]) for row in rows(tmp_path)] == [(0, 4), (1, 8), (2, 12), (3, 16)]
