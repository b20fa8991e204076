"""CONTRIBUTING's examples: files of a user's own package, which the real command trains from outside this one."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chain.tiny import QUIET, World, write_world

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
# `mylab/file.py` (`--option mylab.file.Class` ...): and the block that follows.
EXAMPLES = {
    file: (option, name, code)
    for file, option, name, code in re.findall(
        r"^`(mylab/\w+\.py)` \(`--([\w.]+) ([\w.]+)`[^\n]*\):\n\n```python\n(.*?)^```",
        TEXT,
        flags=re.MULTILINE | re.DOTALL,
    )
}
STAGES = {
    "backbone": "stage1",
    "ranking_loss": "stage1",
    "text": "stage1",
    "alignment_loss": "stage3",
    "quantizer": "stage2",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The tiny world with runs of stages 1 and 2, and the examples in a package of the user's."""
    world = write_world(tmp_path_factory.mktemp("world"))
    (world.root / "mylab").mkdir()
    for file, (_, _, code) in EXAMPLES.items():
        (world.root / file).write_text(code)
    for stage in ("stage1", "stage2"):
        fit(world, stage, world.run(stage))
    return world


def fit(world: World, stage: str, run: Path, *options: str) -> None:
    command = [
        sys.executable,
        "-m",
        "face_lightning.cli",
        "fit",
        "--config",
        world.config(stage),
        "--run_dir",
        str(run),
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{world.root}"}
    done = subprocess.run(
        [*command, "--run_dir", str(run), *QUIET, "--trainer.max_epochs", "1", *options],
        cwd=world.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_every_python_block_is_an_example() -> None:
    assert len(EXAMPLES) == len(re.findall(r"^```python$", TEXT, flags=re.MULTILINE)) == len(STAGES)


@pytest.mark.parametrize("file", EXAMPLES)
def test_the_command_trains_a_class_of_the_users_own(world: World, tmp_path: Path, file: str) -> None:
    option, name, _ = EXAMPLES[file]
    stage = STAGES[option.rpartition(".")[2]]
    more = ["--model.init_args.encoder.init_args.model", str(world.root / "encoder" / "model")] * option.endswith(
        "text"
    )
    fit(world, stage, tmp_path, "--allow-code", f"--{option}", name, *more)
    config = (tmp_path / "config.yaml").read_text()
    assert name in config
    assert (tmp_path / "result.json").is_file()


def test_the_contract_tests_walk_over_a_backbone_in_the_package(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "face_lightning", tmp_path / "face_lightning", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "backbones", tmp_path / "tests" / "backbones")
    (tmp_path / "face_lightning" / "backbones" / "directau.py").write_text(EXAMPLES["mylab/directau.py"][2])
    contract = ["tests/backbones/test_contract.py", "-k", "DirectAU or every_backbone_file"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *contract],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "8 passed" in done.stdout
