"""Every configuration that is shipped: parsed as a command would, its stages chained, its sets whole."""

from pathlib import Path

import pytest
import yaml

from face_lightning.cli import main
from face_lightning.commands.ablate import read_set

ROOT = Path(__file__).resolve().parents[1]
FILES = {path: yaml.safe_load(path.read_text()) for path in sorted(ROOT.glob("configs/**/*.yaml"))}
SETS = [path for path, told in FILES.items() if "chain" in told]
STAGES = [path for path, told in FILES.items() if "run_dir" in told]


def name(path: Path) -> str:
    """A file of configs/ in a test's name."""
    return str(path.relative_to(ROOT / "configs"))


@pytest.mark.parametrize("path", STAGES, ids=name)
def test_a_stage_is_what_its_classes_take(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(path), "--print_config"])
    assert not stopped.value.code, capsys.readouterr().err
    assert yaml.safe_load(capsys.readouterr().out)["run_dir"]


@pytest.mark.parametrize("path", STAGES, ids=name)
def test_a_stage_starts_from_one_of_the_same_backbone(path: Path) -> None:
    told = FILES[path]
    if "init_from" not in told:
        assert path.stem.startswith("stage1")
        return
    (before,) = (other for other in STAGES if FILES[other]["run_dir"] == told["init_from"])
    starts, goes_on = (
        (file.parent / FILES[file]["model"]["init_args"]["backbone"]).resolve() for file in (before, path)
    )
    assert starts == goes_on


@pytest.mark.parametrize("path", SETS, ids=name)
def test_a_set_compares_variants_of_files_that_are_there(path: Path) -> None:
    variants = read_set(path).variants
    assert len(variants) > 2
    for variant in variants:
        for step in variant.steps:
            assert step.config.is_file()
