"""Tables of results: generated from records, and the committed tables equal those of the committed records."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import alignment, records
from benchmarks.report import PAGES
from benchmarks.table_format import BLOCK, Column, Table, against, count, fill, machine, mean, render
from benchmarks.tables import TABLES

MACHINE = "2 cores, Intel(R) Xeon(R) Processor avx2 avx512f avx512_bf16 amx_bf16, no GPU"


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    return tmp_path


def write(results: Path, *lines: dict[str, Any]) -> None:
    common = {"benchmark": "mine", "machine": MACHINE, "command": "python -m benchmarks.mine"}
    (results / "mine.jsonl").write_text("".join(json.dumps(common | line) + "\n" for line in lines))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_committed_tables_are_those_of_the_records(page: Path) -> None:
    assert page.read_text() == fill(page, TABLES), f"{page} is stale: run make results"


def test_every_table_is_on_exactly_one_page() -> None:
    shown = [block[2] for page in PAGES for block in BLOCK.finditer(page.read_text())]
    assert sorted(shown) == sorted(TABLES)


def test_cells_are_means_over_seeds_of_the_newest_records(results: Path) -> None:
    table = Table(
        sources=[{"benchmark": "mine", "dataset": ("a", "b")}],
        labels=["model", "dim"],
        rows={"**FACE**": {"model": "face"}},
        by=["model|backbone", "embedding_dim"],
        columns=[
            Column("a", mean("recall"), {"dataset": "a"}),
            Column("b", mean("recall", ".2f", 100), {"dataset": "b"}),
            Column("FACE against it", against("recall", {"model": "face"}), {"dataset": "a"}),
            Column("seeds", count),
        ],
    )
    assert render(table) == ""
    write(
        results,
        {"dataset": "a", "model": "face", "seed": 0, "metrics": {"recall": 9.0}},
        {"dataset": "a", "model": "face", "seed": 0, "metrics": {"recall": 0.2}},
        {"dataset": "a", "model": "face", "seed": 1, "metrics": {"recall": 0.4}},
        {"dataset": "a", "backbone": "GMF", "embedding_dim": 1024, "seed": 0, "metrics": {"recall": 0.25}},
        {"dataset": "b", "backbone": "EASE", "seed": 3, "metrics": {"recall": 0.5}},
        {"dataset": "c", "backbone": "EASE", "seed": 4, "metrics": {"recall": 0.6}},
    )
    assert render(table, "there").splitlines() == [
        "| model | dim | a | b | FACE against it | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
        "| **FACE** |  | 0.3000 ± 0.1414 |  |  | 2 |",  # sd of .2 and .4: .1 * sqrt 2
        "| EASE |  |  | 50.00 |  | 1 |",
        "| GMF | 1,024 | 0.2500 |  | +20.0 % | 1 |",
        "",
        "Command: `python -m benchmarks.mine`. Seeds 0, 1, 3. 2 cores of an Intel Xeon with AMX, no GPU. Records: "
        "[mine.jsonl](there/mine.jsonl).",
    ]


def test_a_case_of_two_sets_is_taken_from_the_preferred_one(results: Path) -> None:
    line = {"run": "stage1", "seed": 0}
    write(results, line | {"set": "x", "metrics": {"recall": 0.1}}, line | {"set": "y", "metrics": {"recall": 0.2}})
    for chosen, expected in (("x", "0.1000"), ("y", "0.2000"), ("z", "0.2000")):
        table = Table(
            sources=[{"benchmark": "mine"}],
            prefer={"set": chosen},
            rows={"stage 1": {"run": "stage1"}},
            columns=[Column("recall", mean("recall"))],
        )
        assert f"| stage 1 | {expected} |" in render(table)


def test_a_table_waits_for_the_benchmark_that_it_needs(results: Path) -> None:
    write(results, {"seed": 0, "metrics": {"recall": 0.1}})
    columns = [Column("recall", mean("recall"))]
    table = Table(sources=[{"benchmark": "mine"}], needs="yours", rows={"all": {}}, columns=columns, intro="## Top\n\n")
    assert render(table) == ""
    (results / "yours.jsonl").write_text("{}\n")
    assert render(table).startswith("## Top\n\n|")


def test_text_around_tables_is_kept(results: Path, tmp_path: Path) -> None:
    write(results, {"seed": 0, "metrics": {"recall": 0.1}})
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: mine -->\n| old |\n<!-- end -->\nafter\n")
    table = Table(sources=[{"benchmark": "mine"}], rows={"all": {}}, columns=[Column("recall", mean("recall"))])
    text = fill(page, {"mine": table})
    assert text.startswith("before\n<!-- table: mine -->\n|  | recall |\n")
    assert text.endswith(".\n<!-- end -->\nafter\n")
    assert "| all | 0.1000 |" in text
    assert "old" not in text


def test_the_newest_profile_of_a_step_is_shown(results: Path) -> None:
    forms = {name: {"search": 10.0 + row, "step": 40.0 + row} for row, name in enumerate(alignment.FORMS)}
    lines = ({"benchmark": "alignment", "machine": MACHINE, "command": "c", "metrics": m} for m in ({}, forms))
    (results / "alignment.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "| search | 10.0 | 25 |\n| step | 40.0 | 100 |" in render(TABLES["step-parts"])
    assert "| search by FAISS | 11.0 | 10.0 | 41.0 | 40.0 |" in render(TABLES["step-choices"])


@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        (MACHINE, "2 cores of an Intel Xeon with AMX, no GPU"),
        (
            "8 cores, AMD EPYC avx2 avx512f, NVIDIA H100, NVIDIA H100",
            "8 cores of an AMD EPYC, NVIDIA H100, NVIDIA H100",
        ),
        ("4 cores, arm64, no GPU", "4 cores of an arm64, no GPU"),
    ],
)
def test_names_of_machines_are_short(recorded: str, shown: str) -> None:
    assert machine(recorded) == shown
