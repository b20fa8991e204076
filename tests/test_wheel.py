"""The wheel contains the configurations, and commands find them from an empty folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, built from a copy of the source, which a build would otherwise modify."""
    source, built, folder = (tmp_path_factory.mktemp(name) for name in ("source", "built", "unpacked"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "configs", "face_lightning"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(built), str(source)], check=True, timeout=300)
    (wheel,) = built.glob("face_lightning-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def face(unpacked: Path, folder: Path, *arguments: str) -> str:
    """Output of the unpacked package's command, run in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "face_lightning.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_wheel_contains_every_configuration(unpacked: Path) -> None:
    source = {path.relative_to(ROOT): path.read_text() for path in ROOT.glob("configs/**/*.yaml")}
    inside = unpacked / "face_lightning"
    assert {path.relative_to(inside) for path in inside.glob("configs/**/*.yaml")} == source.keys()
    assert all((inside / path).read_text() == text for path, text in source.items())
    assert (inside / "configs" / "README.md").is_file()


def test_configurations_are_found_from_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    code = """
from pathlib import Path
from face_lightning.commands.config_files import read_options, shipped
path = shipped(Path("configs/own/ials/stage2.yaml"))
print(path, read_options(path)["init_from"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [f"{unpacked}/face_lightning/configs/own/ials/stage2.yaml", "runs/own/stage1"]


@pytest.mark.slow
def test_commands_run_in_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    assert "--configs" in face(unpacked, tmp_path, "demo", "--help")
    printed = face(unpacked, tmp_path, "fit", "--config", "configs/ml-100k/gmf/stage1.yaml", "--print_config")
    resolved = yaml.safe_load(printed)
    assert resolved["run_dir"] == "runs/ml-100k/gmf/stage1"
    assert resolved["model"]["init_args"]["backbone"]["init_args"]["embedding_dim"] == 256
    assert not list(tmp_path.iterdir())
