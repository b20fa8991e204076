"""`face ablate`: shared runs, one line for mistakes, and a table that compares users."""

import re
from pathlib import Path

import pytest
import yaml

from face_lightning.cli import main
from face_lightning.commands.ablate import read_set
from tests.chain.tiny import QUIET, World, write_world

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return write_world(tmp_path_factory.mktemp("world"))


def write_set(world: World, **changes: object) -> str:
    content = {
        "chain": {
            "stage1": {"config": "stage1.yaml"},
            "control": {"config": "control.yaml", "from": "stage1"},
            "stage2": {"config": "stage2.yaml", "from": "stage1"},
            "stage3": {"config": "stage3.yaml", "from": "stage2"},
        },
        "reference": "full",
        "variants": {
            "full": {},
            "control": {"last": "control"},
            "no alignment": {"stage3": {"model.init_args.alignment_weight": 0}},
        },
        **changes,
    }
    path = world.root / "ablations.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def test_a_set_is_run_once_and_compared(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["ablate", "--set", write_set(world), "--seeds", "0", "1", "--runs", str(tmp_path), "--", *QUIET]
    assert main(command) == 0
    out = capsys.readouterr().out
    for seed in ("0", "1"):
        runs = sorted(
            str(path.parent.relative_to(tmp_path / "ablations" / seed))
            for path in tmp_path.glob(f"ablations/{seed}/*/*/result.json")
        )
        assert runs == ["control/common", "stage1/common", "stage2/common", "stage3/common", "stage3/no-alignment"]
        config = yaml.safe_load((tmp_path / "ablations" / seed / "stage3/no-alignment/config.yaml").read_text())
        assert config["model"]["init_args"]["alignment_weight"] == 0
        assert config["seed_everything"] == int(seed)
    assert re.search(r"full\s+│ 0\.\d{4} ± 0\.\d{4}\s+│\s+│", out)
    assert re.search(r"no alignment\s+│ 0\.\d{4} ± 0\.\d{4}\s+│ [+-]0\.\d{4}", out)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == before, "nothing ran again"
    again = capsys.readouterr().out
    assert out[out.index("┏") :] == again[again.index("┏") :]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"reference": "whole"}, "reference: expected one of full, control, no alignment, got 'whole'; name a variant"),
        (
            {"variants": {"full": {}, "odd": {"stage9": {}}}},
            "variants: 'odd' expected runs stage1, control, stage2, stage3, got 'stage9'; name a run of the chain",
        ),
    ],
)
def test_mistakes_in_a_set_are_told_in_one_line(
    world: World, changes: dict[str, object], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ablate", "--set", write_set(world, **changes)]) == 2
    assert capsys.readouterr().err == f"face: error: {line}\n"


def test_mistakes_on_the_command_line(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablate", "--set", str(tmp_path / "none.yaml")]) == 2
    assert "--set: expected a YAML file with chain, reference and variants" in capsys.readouterr().err
    assert main(["ablate", "--set", write_set(world), "--only", "other"]) == 2
    assert "--only: expected some of full, control, no alignment, got 'other'" in capsys.readouterr().err
    assert main(["ablate", "--bogus"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/*/ablations*.yaml")), ids=lambda path: path.parent.name)
def test_shipped_sets_name_what_is_there(path: Path) -> None:
    ablation = read_set(path)
    assert len(ablation.variants) > 5
    for variant in ablation.variants:
        for step in variant.steps:
            assert step.config.is_file()
