"""Every configuration of a run that the project ships is understood; no data are read."""

from pathlib import Path

import pytest
import yaml

from face_lightning.cli import main
from face_lightning.commands.ablate import read_set

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if "parts" not in path.relative_to(CONFIGS).parts)
SETS = [path for path in FILES if "chain" in yaml.safe_load(path.read_text())]
RUNS = [path for path in FILES if path not in SETS]


def test_there_are_runs() -> None:
    assert {"stage1.yaml", "control.yaml", "stage2.yaml", "stage3.yaml"} <= {path.name for path in RUNS}


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_configuration_parses(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # without any data
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(path), "--print_config"])
    assert stopped.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    given = yaml.safe_load(path.read_text())
    assert resolved["run_dir"] == given["run_dir"]
    assert resolved["model"]["class_path"].endswith("." + given["model"]["class_path"])
    assert resolved["model"]["init_args"]["backbone"]["init_args"]["embedding_dim"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_run_starts_from_a_run_that_is_configured(path: Path) -> None:
    given = yaml.safe_load(path.read_text())
    others = {yaml.safe_load(other.read_text())["run_dir"] for other in RUNS if other != path}
    assert given["run_dir"] not in others
    assert given.get("init_from") is None or given["init_from"] in others


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_a_set_of_variants_follows_the_chain_of_its_runs(path: Path) -> None:
    for variant in read_set(path).variants:
        for step in variant.steps:
            start = yaml.safe_load(step.config.read_text()).get("init_from")
            before = next((run.config for run in variant.steps if run.name == step.before), None)
            assert start == (before and yaml.safe_load(before.read_text())["run_dir"])
