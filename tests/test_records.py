"""Records of measurements: the recorded fields of a run, without duplicates and without local paths."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import records


@pytest.fixture(autouse=True)
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_the_command_names_no_folder_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", "/elsewhere/sets/steam-vt", "--runs", str(tmp_path / "runs" / "a"), "--way", "same shape"]
    monkeypatch.setattr(sys, "argv", ["/elsewhere/benchmarks/training.py", *arguments])
    records.append("training", {})
    (line,) = records.read("training")
    assert line["command"] == "python -m benchmarks.training --data steam-vt --runs runs/a --way 'same shape'"


def test_a_run_is_kept_once_and_without_its_last_epoch() -> None:
    about = {"dataset": "tiny", "backbone": "GMF", "stage": "pretraining", "seed": 0, "fingerprint": "ab"}
    times = {"epochs": 2, "seconds": 1.5, "peak_mib": 100}
    metrics = {"test/recall@20": 0.5, "last_epoch": {"val/recall@20": 0.4}}
    kept = records.of_run({**about, **times, "metrics": metrics, "best": {"score": 0.6}})
    assert kept == {**about, **times, "metrics": {"test/recall@20": 0.5}}
    assert records.append_new("runs", kept)
    assert not records.append_new("runs", json.loads(json.dumps(kept)))
    assert records.append_new("runs", {**kept, "fingerprint": "cd"})
    assert [line["fingerprint"] for line in records.read("runs")] == ["ab", "cd"]
