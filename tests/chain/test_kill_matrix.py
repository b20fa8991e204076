"""Real kills at every awkward moment: what goes on afterwards is the undisturbed run."""

import time
from pathlib import Path

import psutil
import pytest

from face_lightning.runs.checkpoint_reading import load_checkpoint
from tests.chain.test_resume import LAST, assert_same_run
from tests.chain.tiny import QUIET, World, fit, process

pytestmark = pytest.mark.slow
STAGES = ("stage1", "stage2", "stage3")
MOMENTS = ("first step", "mid-epoch", "checkpoint", "validation")
CODES = {"SIGKILL": -9, "SIGTERM": 143}
PAIR = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=32", "--data.entities_per_step=12"]


def killer(moment: str, name: str, rank: int = 0) -> list[str]:
    options = {"moment": moment, "name": name, "rank": str(rank)}
    return [
        "--allow-code",
        "--trainer.callbacks+=tests.chain.killer.KillerAt",
        *(f"--trainer.callbacks.{key}={value}" for key, value in options.items()),
    ]


def assert_whole_and_alone(run: Path) -> None:
    """No process of the run is left, and every checkpoint can be read."""
    until = time.monotonic() + 60
    while left := [p.info for p in psutil.process_iter(["pid", "cmdline"]) if str(run) in (p.info["cmdline"] or [])]:
        assert time.monotonic() < until, left
        time.sleep(0.5)
    for path in run.glob("checkpoints/*.ckpt"):
        load_checkpoint(path)


def resume_options(run: Path) -> list[str]:
    return LAST if (run / "checkpoints" / "last.ckpt").exists() else []


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", CODES)
def test_one_process(chain: World, tmp_path: Path, stage: str, moment: str, name: str) -> None:
    config = [chain.config(stage), "--run_dir", tmp_path]
    child = process("fit", "--config", *config, *QUIET, *killer(moment, name))
    errors = child.communicate(timeout=400)[1]
    assert child.returncode == CODES[name], errors
    assert_whole_and_alone(tmp_path)
    assert not (tmp_path / "result.json").exists()
    assert bool(resume_options(tmp_path)) == (moment != "first step" or name == "SIGTERM")
    assert fit(*config, *resume_options(tmp_path)) == 0
    assert_same_run(tmp_path, chain.run(stage), fingerprint=False)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.fixture(scope="module")
def undisturbed(chain: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with every stage by two processes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for stage in STAGES:
        run_pair(chain, stage, folder / stage, [], 0)
    return folder


def run_pair(chain: World, stage: str, run: Path, options: list[str], code: int) -> None:
    child = process("fit", "--config", chain.config(stage), *QUIET, *PAIR, "--run_dir", run, *options, threads=1)
    errors = child.communicate(timeout=400)[1]
    assert child.returncode == code, errors


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", CODES)
def test_two_processes(chain: World, undisturbed: Path, tmp_path: Path, stage: str, moment: str, name: str) -> None:
    run_pair(chain, stage, tmp_path, killer(moment, name), CODES[name])
    assert_whole_and_alone(tmp_path)
    run_pair(chain, stage, tmp_path, resume_options(tmp_path), 0)
    assert_same_run(tmp_path, undisturbed / stage, fingerprint=False)


def test_the_other_process_dies(chain: World, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    child = process(
        *("fit", "--config", chain.config("stage1"), *QUIET, *PAIR, "--run_dir", run),
        *killer("mid-epoch", "SIGKILL", rank=1),
        threads=1,
    )
    child.communicate(timeout=400)
    assert child.returncode != 0
    assert_whole_and_alone(run)
    run_pair(chain, "stage1", run, resume_options(run), 0)
    assert_same_run(run, undisturbed / "stage1", fingerprint=False)
