"""`face ablate`: shared runs, one-line errors, and a table of paired comparisons."""

import json
import re
import statistics
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from scipy.stats import t

from face_lightning.cli import main
from face_lightning.commands.ablate import METRICS, WORDS, _slug, comparison, read_set
from face_lightning.commands.config_files import read_options
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


@pytest.mark.slow
def test_a_set_is_run_once_and_compared(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plots = tmp_path / "plots"
    command = ["ablate", "--set", write_set(world), "--seeds", "0", "1", "--runs", str(tmp_path)]
    command += ["--plot", str(plots), "--", *QUIET]
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
    assert {path.name for path in plots.iterdir()} == {f"{_slug(metric)}.png" for metric in (*METRICS, *WORDS)}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in plots.iterdir())
    assert out.count("p (Holm)") == len(METRICS)
    assert re.search(r"full\s+│ 0\.\d{4} ± 0\.\d{4}\s+│\s+│", out)
    assert re.search(r"no alignment\s+│ 0\.\d{4} ± 0\.\d{4}\s+│ [+-]0\.\d{4}", out)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == before, "nothing ran again"
    again = capsys.readouterr().out
    assert out[out.index("┏") :] == again[again.index("┏") :]


def test_differences_are_paired_over_users_and_corrected_by_holm(tmp_path: Path) -> None:
    """Three hand-made variants with two seeds: means over seeds are compared by user, and p is corrected by Holm."""
    values = {"full": [[1, 0, 1, 0], [1, 0, 1, 1]], "same": [[1, 0, 1, 0], [1, 0, 1, 1]], "less": [[0, 0, 1, 0]] * 2}
    folders = {}
    for name, seeds in values.items():
        folders[name] = [tmp_path / name / str(seed) for seed in range(len(seeds))]
        for folder, users in zip(folders[name], seeds, strict=True):
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps({"metrics": {"test/recall@20": sum(users) / 4}}))
            pq.write_table(pa.table({"user_id": list("abcd"), "test/recall@20": users}), folder / "test_users.parquet")
    table = comparison(folders, "full", "test/recall@20")
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["full", "same", "less"]
    assert cells[1] == ["0.6250 ± 0.1768", "0.6250 ± 0.1768", "0.2500 ± 0.0000"]
    differences = [-1.0, 0.0, 0.0, -0.5]  # of users' means over seeds
    statistic = statistics.mean(differences) / (statistics.stdev(differences) / 2)
    assert cells[2][1:] == ["+0.0000 (+0.0%)", "-0.3750 (-60.0%)"]
    assert cells[3][2] == f"{statistic:.2f}"
    probability = 2 * t.cdf(statistic, df=3)
    assert cells[4][2] == f"{probability:.3g}"
    assert cells[5][1:] == ["1", f"{2 * probability:.3g}"]


def test_plots_without_matplotlib_are_rejected_before_training(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    runs = ["--runs", str(tmp_path / "runs"), "--plot", str(tmp_path / "plots")]
    assert main(["ablate", "--set", write_set(world), *runs]) == 2
    assert "face-lightning[plot]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


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
def test_mistakes_in_a_set_are_reported_in_one_line(
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


WANTED = {
    "full": "full",
    "with alignment": "with alignment",
    "w/o anchoring": "without anchoring",
    "w/o reconstruction": "without reconstruction",
    "w/o transformer": "without transformer",
    "w/o disentangling": "one shared projection",
    "H = 2": "two levels",
    "H = 3": "three levels",
    "random frozen codebook": "random codebook",
    "learned codebook": "learned codebook",
    "L2 search": "search by distance",
    "projected instead of true tokens": "projected tokens",
    "fine-tune-only control": "control (fine-tuning only)",
}


@pytest.mark.slow
def test_every_shipped_variant_starts(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = read_options(ROOT / "configs/ml-100k/gmf/ablations.yaml", paths_are_files=False)
    assert set(WANTED.values()) <= shipped["variants"].keys()
    stage3 = world.read("stage3")
    stage3["model"]["init_args"]["alignment_weight"] = 0.0  # as in the recipe that the variants change
    world.write("stage3-recipe", stage3)
    chain = {
        "stage1": {"config": "stage1.yaml"},
        "control": {"config": "control.yaml", "from": "stage1"},
        "stage2": {"config": "stage2.yaml", "from": "stage1"},
        "stage3": {"config": "stage3-recipe.yaml", "from": "stage2"},
    }
    path = write_set(world, chain=chain, variants=shipped["variants"], reference=shipped["reference"])
    step = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
    assert main(["ablate", "--set", path, "--seeds", "0", "--runs", str(tmp_path), "--", *QUIET, *step]) == 0
    out = capsys.readouterr().out
    for name in shipped["variants"]:
        assert len(re.findall(rf"^│ {re.escape(name)} ", out, re.MULTILINE)) >= len(METRICS), name
    weights = {}
    for name, variant in zip(shipped["variants"], read_set(Path(path)).variants, strict=True):
        run = tmp_path / "ablations" / "0" / variant.steps[-1].name
        weights[name] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    of_full = weights.pop("full")
    for name, other in weights.items():  # each variant trains with other weights
        equal = other.keys() == of_full.keys() and all(
            value.shape == of_full[key].shape and torch.equal(value, of_full[key]) for key, value in other.items()
        )
        assert not equal, name


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["gmf-paper", "gmf-paper-rq3"])
def test_the_papers_forms_start(world: World, tmp_path: Path, preset: str) -> None:
    step = [*QUIET, "--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"]
    before = tmp_path / "stage1"
    assert main(["fit", "--config", world.config("stage1"), "--run_dir", str(before), *step]) == 0
    for stage in ("stage2", "stage3"):
        shipped = read_options(ROOT / f"configs/ml-100k/{preset}/{stage}.yaml")
        shipped["model"]["init_args"]["words"] = "parts/words.yaml"
        shipped |= {"data": "parts/data.yaml", "run_dir": str(tmp_path / stage), "init_from": str(before)}
        path = world.write(f"{preset}-{stage}", shipped)
        assert main(["fit", "--config", path, *step]) == 0
        before = tmp_path / stage
        config = yaml.safe_load((before / "config.yaml").read_text())
        assert config["model"]["init_args"]["mapper"]["init_args"]["num_levels"] == (
            3 if preset == "gmf-paper-rq3" else 1
        )
