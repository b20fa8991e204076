"""The command that checks a GPU: its parts run in tiny sizes on the CPU, and its report on fake results."""

import json
import sys
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check, records
from benchmarks.gpu_check import Part, install, main, project_of, run
from benchmarks.gpu_timings import PARTS


@pytest.mark.parametrize("part", PARTS)
def test_every_timing_runs(part: str) -> None:
    found = list(PARTS[part](torch.device("cpu"), 0.01, True))
    assert found
    assert max(Counter(record["case"] for record in found).values()) == 1
    assert all(record["metrics"]["seconds"] > 0 for record in found)


def test_parts_of_the_command_are_those_that_can_be_timed() -> None:
    assert set(gpu_check.TIMINGS) == set(PARTS) == set(gpu_check.LIMITS)
    on_gpu, on_cpu = (sum(limits) for limits in zip(*gpu_check.LIMITS.values(), strict=True))
    assert on_gpu < gpu_check.TOTAL
    assert on_gpu + on_cpu <= gpu_check.TOTAL, "the CPU's timings come last and may be cut"


def test_a_part_passes_fails_or_is_late() -> None:
    passed = run("a", [sys.executable, "-c", "print('{\"case\": 1}')"], 60)
    assert (passed.state, passed.records, passed.detail) == ("passed", [{"case": 1}], "1 cases")
    failed = run("b", [sys.executable, "-c", "print('{\"case\": 2}'); raise SystemExit('broken')"], 60)
    assert (failed.state, failed.records, failed.detail) == ("failed", [{"case": 2}], "broken")
    code = "import time; print('{\"case\": 3}', flush=True); time.sleep(60)"
    late = run("c", [sys.executable, "-c", code], 3)
    assert (late.state, late.records, late.detail) == ("failed", [{"case": 3}], "stopped after 3 s")


def test_only_missing_wheels_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "SITE", tmp_path / "site")
    monkeypatch.setattr(gpu_check, "run", lambda name, command, **rest: Part(name, "passed", detail=rest["detail"]))
    for name in ("torch-9.9-py3-none-any.whl", "No_Such.Package-1.0-py3-none-any.whl"):
        zipfile.ZipFile(tmp_path / name, "w").close()
    assert project_of(tmp_path / "No_Such.Package-1.0-py3-none-any.whl") == "no-such-package"
    assert install(tmp_path).detail == "no-such-package"


@pytest.mark.parametrize(("state", "code"), [("passed", 0), ("failed", 1)])
def test_a_failure_hides_no_other_part_and_is_the_exit_code(
    state: str, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(names: list[str], device: str, limit: float, reduced: bool = False) -> Part:
        name = f"{names[0]} on {device}"
        figures = {"part": names[0], "device": device, "case": names[0], "metrics": {"seconds": 1.0}}
        return Part(name, state if names[0] == "ranking" else "passed", 1.0, "said", [figures])

    card = {"card": "NVIDIA H100", "driver": "1", "cuda": "13", "torch": "2"}
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu_check, "measure", measure)
    monkeypatch.setattr(gpu_check, "describe_device", lambda: card)
    monkeypatch.setattr(gpu_check, "check", lambda device, limit: Part(f"checks on {device}", "passed"))
    assert main(["--only", "checks", *gpu_check.TIMINGS]) == code
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed].count("passed") == (12 if state == "passed" else 10)
    assert ("FAILED: ranking on cuda, ranking on cpu" in printed[-1]) == (state == "failed")
    lines = [json.loads(line) for line in (tmp_path / "gpu_check.jsonl").read_text().splitlines()]
    assert {line["card"] for line in lines} == {"NVIDIA H100"}
    outcomes = {line["case"]: line["state"] for line in lines if line["part"] == "outcome"}
    assert outcomes["ranking on cuda"] == state
    assert outcomes["capacity on cuda"] == "passed"


def test_without_a_gpu_nothing_is_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu_check, "describe_device", lambda: {"card": ""})
    calls = []
    monkeypatch.setattr(gpu_check, "measure", lambda *given: calls.append(given) or Part("timings", "passed"))
    assert main(["--only", *gpu_check.TIMINGS]) == 0
    assert [(names, device, reduced) for names, device, _, reduced in calls] == [(list(gpu_check.TIMINGS), "cpu", True)]
    assert not list(tmp_path.iterdir())


def test_the_demo_has_the_recorded_cpu_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "ROOT", tmp_path)
    monkeypatch.setattr(gpu_check, "run", lambda name, command, limit: Part(name, "passed"))
    assert gpu_check.demo(60).state == "skipped"
    metrics = {"test/recall@20": 0.3, "test/ndcg@20": 0.2, "last_epoch": {}}
    for folder in ("data/ml-100k", "runs/gpu-check/stage1", "benchmarks/results"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "runs/gpu-check/stage1/result.json").write_text(json.dumps({"seconds": 2.0, "metrics": metrics}))
    recorded = [
        {"case": "stage1", "seconds": seconds, "metrics": metrics, "machine": f"2 cores, Xeon, {gpus}"}
        for seconds, gpus in ((30.0, "no GPU"), (20.0, "no GPU"), (1.0, "H100"))
    ]
    lines = "".join(json.dumps(line) + "\n" for line in recorded)
    (tmp_path / "benchmarks/results/demo.jsonl").write_text(lines)
    found = [(record["device"], record["metrics"]["seconds"]) for record in gpu_check.demo(60).records]
    assert found == [("cuda", 2.0), ("cpu", 20.0)]
    assert "Recall@20 0.3000" in capsys.readouterr().out
