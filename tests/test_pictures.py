"""Figures: drawn from the records, complete, and small enough for a page."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import pictures, records
from face_lightning.errors import DataError

COMMITTED = sorted(pictures.PICTURES.glob("*.svg"))


def test_all_pictures_are_there() -> None:
    assert {path.stem for path in COMMITTED} == {"describe", "gain", "pipeline"}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_pictures_are_small_and_well_formed(path: Path) -> None:
    assert path.stat().st_size < 150_000
    assert ElementTree.parse(path).getroot().tag.endswith("svg")


@pytest.mark.parametrize("name", ["app", "map", "report"])
def test_pictures_of_pages_are_there_and_small(name: str) -> None:
    path = pictures.PICTURES / f"{name}.png"
    assert path.stat().st_size < 200_000
    assert path.read_bytes()[16:24] == (1280).to_bytes(4, "big") + (900).to_bytes(4, "big")  # width and height


def test_the_committed_gain_is_that_of_the_records() -> None:
    expected = pictures.summary({panel: pictures.gains(*panel) for panel in pictures.PANELS})
    assert expected in (pictures.PICTURES / "gain.svg").read_text(), "benchmarks/pictures is stale: run make pictures"


def test_gains_are_paired_by_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    recalls = {"stage1": (0.1, 0.2), "stage3": (0.11, 0.24), "con": (0.1, 0.2), "control": (0.09,)}
    about = {"benchmark": "ablations", "set": "comparison", "variant": "common", "dataset": "d", "backbone": "GMF"}
    lines = [
        {**about, "run": run, "seed": seed, "metrics": {"test/recall@20": recall}}
        for run, values in recalls.items()
        for seed, recall in enumerate(values)
    ]
    (tmp_path / "ablations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = pictures.gains("d", "GMF")
    assert found["stage3"].seeds == pytest.approx((10, 20))
    assert found["stage3"].mean == pytest.approx(15)
    assert found["stage3"].half_width == pytest.approx(12.7062 * 5, rel=1e-4)  # 5: standard error
    assert found["con"].half_width == pytest.approx(0)
    assert found["control"] == pictures.Gain(pytest.approx((-10,)), pytest.approx(-10), None)


def test_a_run_without_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"descriptors\.parquet"):
        pictures.draw_describe(tmp_path / "describe.svg", tmp_path)
