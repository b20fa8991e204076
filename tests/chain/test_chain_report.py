"""The report of a chain: every figure is that of result.json, and all stages have their curves."""

import csv
from pathlib import Path

import pytest

from tests.chain.tiny import World, face, result
from tests.reports.test_document import check_page


def test_figures_equal_those_of_the_runs(chain: World, tmp_path: Path) -> None:
    out, run = tmp_path / "report.html", chain.run("stage3")
    assert face("report", "--run", run, "--compare", chain.run("control"), "--out", out) == 0
    page = out.read_text("utf-8")
    check_page(page)
    with (tmp_path / "report_csv" / "metrics.csv").open() as file:
        values = {(row["run"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}
    for name in ("stage3", "control"):
        metrics = result(chain.run(name))["metrics"]
        tested = {key for key in metrics if key.startswith("test/")}
        assert {metric for one, metric in values if one == name} == tested
        for metric in tested:
            assert values[name, metric] == metrics[metric]
            assert f"{metrics[metric]:.4f}" in page
    with (tmp_path / "report_csv" / "words.csv").open() as file:
        words = {row["metric"]: row["stage3"] for row in csv.DictReader(file)}
    metrics = result(run)["metrics"]
    wanted = {key: value for key, value in metrics.items() if key.startswith(("codebook/", "words/"))}
    assert {key: float(value) for key, value in words.items()} == wanted
    for stage in ("stage1", "stage2", "stage3"):
        assert f"<bdi>{stage}</bdi>: " in page
    assert page.count("<svg") >= 3 + 2 + 4 + 4


def test_hits_of_all_groups_are_the_recall_of_the_test(chain: World, tmp_path: Path) -> None:
    assert face("report", "--run", chain.run("stage3"), "--out", tmp_path / "r.html") == 0
    with (tmp_path / "r_csv" / "groups.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["compared with"] == "stage1"]
    users = [row for row in rows if row["by"].endswith("user")]
    count = sum(int(row["size"]) for row in users)
    mean = sum(int(row["size"]) * float(row["value"]) for row in users) / count
    assert mean == pytest.approx(result(chain.run("stage3"))["metrics"]["test/recall@20"], abs=1e-6)
