"""CONTRIBUTING's worked example: a backbone is one file, which the contract tests and the command line take up."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chain.tiny import QUIET, write_world

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and of the contract tests, with the example's file and nothing else added."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "face_lightning", folder / "face_lightning", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests" / "backbones", folder / "tests" / "backbones")
    (path,) = re.findall(r"`(face_lightning/backbones/\w+\.py)`:$", TEXT, flags=re.MULTILINE)
    (code,) = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert not (folder / path).exists()
    (folder / path).write_text(code)
    return folder


def run(project: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_contract_tests_walk_over_the_new_backbone(project: Path) -> None:
    out = run(
        project, "-m", "pytest", "-q", "tests/backbones/test_contract.py", "-k", "DirectAU or every_backbone_file"
    )
    assert "8 passed" in out


def test_the_command_line_trains_it(project: Path, tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    run_dir = tmp_path / "run"
    command = ["fit", "--config", world.config("stage1"), "--run_dir", str(run_dir), *QUIET]
    run(project, "-m", "face_lightning.cli", *command, "--model.init_args.backbone", "DirectAU")
    assert '"backbone": "DirectAU"' in (run_dir / "result.json").read_text()
    assert "train/uniformity" in (run_dir / "metrics.jsonl").read_text()


def test_the_commands_are_those_that_users_have() -> None:
    (block,) = re.findall(r"^```sh\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    make, fit = block.splitlines()
    assert make == "make test"
    assert (ROOT / fit.split("--config ")[1].split()[0]).is_file()
