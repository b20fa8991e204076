"""Processes that share the columns of the tables train the model of one process."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.chain.test_processes import assert_same_curves, fit_together, free_port, run_all
from tests.chain.tiny import QUIET, World, checkpoint, face, result
from tests.processes import together

SHARED = ["--trainer.devices=2", "--trainer.strategy=column_parallel"]
LIGHTGCN = ["--model.init_args.backbone", "LightGCN", "--model.init_args.backbone.init_args.embedding_dim", "16"]


@pytest.fixture(scope="module")
def runs(chain: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with runs of stages 1 and 2 by two processes, and of LightGCN by one as well."""
    folder = tmp_path_factory.mktemp("columns")
    fit = ["fit", "--config", chain.config("stage1"), *QUIET]
    shared = [*fit, *SHARED, "--run_dir"]
    mapping = ["fit", "--config", chain.config("stage2"), *QUIET, *SHARED, "--run_dir"]
    fit_together(
        2,
        [*shared, str(folder / "gmf")],
        [*shared, str(folder / "lightgcn"), *LIGHTGCN],
        [*shared, str(folder / "cut"), "--trainer.max_epochs", "1"],
        [*shared, str(folder / "cut"), "--ckpt_path", "last"],
        [*mapping, str(folder / "mapped")],
        [*mapping, str(folder / "mapped-cut"), "--trainer.max_epochs", "1"],
        [*mapping, str(folder / "mapped-cut"), "--ckpt_path", "last"],
    )
    assert face(*fit, "--run_dir", folder / "lightgcn-alone", *LIGHTGCN) == 0
    return folder


def assert_near(one: Any, other: Any) -> None:
    for name in ("last", "best"):
        first, second = checkpoint(one, name), checkpoint(other, name)
        assert first["state_dict"].keys() == second["state_dict"].keys()
        for key, value in first["state_dict"].items():
            torch.testing.assert_close(value, second["state_dict"][key], rtol=1e-3, atol=1e-4)
        moments, expected = (c["optimizer_states"][0]["state"][0]["exp_avg"] for c in (first, second))
        assert moments.shape == expected.shape, "of whole tables"


def test_curves_tables_and_metrics_are_those_of_one_process(chain: World, runs: Path) -> None:
    for shared, alone in ((runs / "gmf", chain.run("stage1")), (runs / "lightgcn", runs / "lightgcn-alone")):
        assert_same_curves(shared, alone)
        assert_near(shared, alone)
        expected = {key: value for key, value in result(alone)["metrics"].items() if key.startswith("test/")}
        assert {key: result(shared)["metrics"][key] for key in expected} == pytest.approx(expected, rel=1e-6)
        assert len(expected) >= 6


def test_a_cut_run_goes_on(runs: Path) -> None:
    assert_near(runs / "cut", runs / "gmf")


def test_stage_2_maps_whole_rows_of_shared_columns(chain: World, runs: Path) -> None:
    alone = chain.run("stage2")
    assert_same_curves(runs / "mapped", alone)
    first, second = (checkpoint(run) for run in (runs / "mapped", alone))
    assert first["state_dict"].keys() == second["state_dict"].keys()
    for key, value in second["state_dict"].items():
        if not key.endswith("in_proj_bias"):  # the keys' bias has no gradient but rounding, which Adam magnifies
            torch.testing.assert_close(first["state_dict"][key], value, rtol=1e-2, atol=1e-3)
    moments, expected = (c["optimizer_states"][0]["state"] for c in (first, second))
    assert {key: value["exp_avg"].shape for key, value in moments.items()} == {
        key: value["exp_avg"].shape for key, value in expected.items()
    }, "the mapper's are no tables"
    assert result(runs / "mapped")["metrics"]["test/recall@20"] == pytest.approx(
        result(alone)["metrics"]["test/recall@20"], rel=1e-6
    )
    assert_same_curves(runs / "mapped-cut", runs / "mapped")


def test_stage_2_starts_from_shared_columns(chain: World, runs: Path, tmp_path: Path) -> None:
    options = ["--run_dir", tmp_path, "--init_from", runs / "gmf", "--trainer.max_epochs", "1"]
    assert face("fit", "--config", chain.config("stage2"), *QUIET, *options) == 0
    table = checkpoint(runs / "gmf", "best")["state_dict"]["backbone.tables.weight"]
    assert torch.equal(checkpoint(tmp_path)["state_dict"]["backbone.tables.weight"], table)


@pytest.mark.slow
def test_what_needs_whole_embeddings_is_refused(chain: World, tmp_path: Path) -> None:
    refused = [
        ("stage1", ["backbone", "SimGCL"], "with column_parallel, got SimGCL"),
        ("stage1", ["backbone.init_args.embedding_dim", "15"], "expected a multiple of 2"),
        ("stage1", ["text", "ContrastiveText"], "expected ddp with a text regulariser"),
        (
            "stage2",
            ["freeze_backbone", "false"],
            "tables are frozen or only rank; mapping needs",
        ),
        ("stage3", ["l2_weight", "0.1"], "tables are frozen or only rank; alignment needs"),
    ]
    commands = [
        [
            *("fit", "--config", chain.config(stage), *QUIET, *SHARED),
            *("--run_dir", str(tmp_path / stage), f"--model.init_args.{name}", value),
        ]
        for stage, (name, value), _ in refused
    ]
    for (code, _, errors), (_, _, line) in zip(together(2, run_all, free_port(), commands)[0], refused, strict=True):
        assert code == 2
        assert line in errors
        assert "Traceback" not in errors
