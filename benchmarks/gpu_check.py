"""Check and time everything that runs on a GPU: make gpu-check, or python benchmarks/gpu_check.py.

It needs this folder and a Python with torch, but no network: missing packages are installed from the wheels in
`--wheels FOLDER`, separate from the Python's own packages, which are not changed. Each part runs in a process of its
own with a time limit, so that a failure does not hide others:

- checks: tests/device on the GPU, and the tests of tests/chain that it does not repeat
- timings: `benchmarks.gpu_timings` on the GPU, then on this machine's CPU
- demo: `face demo` on the GPU, if the data set is in data/ml-100k and the text encoder is installed

All parts together take at most ten minutes. Results are appended to benchmarks/results/gpu_check.jsonl, from which
`make results` makes the table of benchmarks/README.md. The exit code is 1 if a check or a timing failed.

Without a GPU, or with `--reduced`, tiny sizes run on the CPU and nothing is recorded: this tests the command itself.
"""

import argparse
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / ".gpu-check"  # target folder of the wheels
TIMINGS = ("epochs", "token-search", "ranking", "serving", "profiles", "capacity")
TOTAL = 570  # seconds
LIMITS = {  # seconds per part on the GPU and on the CPU
    "epochs": (100, 75),
    "token-search": (20, 20),
    "ranking": (45, 20),
    "serving": (25, 20),
    "profiles": (40, 25),
    "capacity": (75, 0),
}


@dataclass
class Part:
    """Outcome of a part."""

    name: str
    state: str  # "passed", "failed" or "skipped"
    seconds: float = 0.0
    detail: str = ""
    records: list[dict[str, Any]] = field(default_factory=list)


def project_of(wheel: Path) -> str:
    """Normalised package name of a wheel."""
    return re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()


def install(wheels: Path) -> Part:
    """Install the wheels of missing packages, without changing installed ones."""
    missing = []
    for wheel in sorted(wheels.glob("*.whl")):
        try:
            importlib.metadata.version(project_of(wheel))
        except importlib.metadata.PackageNotFoundError:
            missing.append(project_of(wheel))
    if not missing:
        return Part("install", "passed", detail="nothing is missing")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(wheels)]
    command += ["--no-deps", "--upgrade", "--target", str(SITE), *missing]
    return run("install", command, limit=120, detail=", ".join(missing))


def run(name: str, command: list[str], limit: float, detail: str = "", **variables: str) -> Part:
    """Run a command; its JSON lines are records."""
    paths = [str(ROOT), *([str(SITE)] if SITE.is_dir() else []), os.environ.get("PYTHONPATH", "")]
    surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "HF_HUB_OFFLINE": "1"}
    surroundings |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", **variables}
    started = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, env=surroundings, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            output, late = process.communicate(timeout=limit)[0], False
        except subprocess.TimeoutExpired:
            process.kill()
            output, late = process.communicate()[0], True
    records = [json.loads(line) for line in output.splitlines() if line.startswith('{"')]
    state = "passed" if process.returncode == 0 else "failed"
    if late:
        detail = f"stopped after {limit:.0f} s"
    elif state == "failed":
        sys.stdout.write("\n".join(output.splitlines()[-60:]) + "\n")
        detail = next((line for line in reversed(output.splitlines()) if line.strip()), "")[:160]
    elif not detail:
        summary = [line for line in output.splitlines() if re.search(r"\d+ passed", line)]
        detail = summary[-1].strip("= ") if summary else f"{len(records)} cases"
    return Part(name, state, time.monotonic() - started, detail, records)


def check(device: str, limit: float) -> Part:
    """Run the tests of computations on a device."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/device"]
    return run(f"checks on {device}", command, limit, FACE_TEST_DEVICE=device)


def measure(names: list[str], device: str, limit: float, reduced: bool = False) -> Part:
    """Run parts of the timings on one device."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu_timings", *names, "--device", device]
    command += ["--budget", "0.05", "--reduced"] if reduced else ["--budget", "2"]
    return run(f"{', '.join(names)} on {device}", command, limit)


def demo(limit: float) -> Part:
    """Run the demo on the GPU; adds the CPU figures recorded by `benchmarks.demo`."""
    if not (ROOT / "data" / "ml-100k").is_dir():
        return Part("demo", "skipped", detail="data/ml-100k is not there")
    runs = ROOT / "runs" / "gpu-check"
    part = run("demo", [sys.executable, "-m", "face_lightning.cli", "demo", "--runs", str(runs)], limit)
    recorded = ROOT / "benchmarks" / "results" / "demo.jsonl"
    lines = [json.loads(line) for line in recorded.read_text().splitlines()] if recorded.is_file() else []
    on_cpu = {line["case"]: line for line in lines if line["machine"].endswith("no GPU")}  # newest record of each
    for name in ("stage1", "control", "stage2", "stage3"):
        path = runs / name / "result.json"
        on_gpu = json.loads(path.read_text()) if path.is_file() else None
        for device, result in (("cuda", on_gpu), ("cpu", on_cpu.get(name))):
            if result:
                figures = {"seconds": result["seconds"]}
                figures |= {key: value for key, value in result["metrics"].items() if isinstance(value, float)}
                part.records.append({"part": "demo", "device": device, "case": f"demo, {name}", "metrics": figures})
                recall, ndcg = (figures[f"test/{metric}@20"] for metric in ("recall", "ndcg"))
                print(f"{name:8}{device:5}{result['seconds']:7.1f} s  Recall@20 {recall:.4f}  NDCG@20 {ndcg:.4f}")
    return part


def describe_device() -> dict[str, str]:
    """GPU, driver, and versions of the libraries; no GPU if torch finds none."""
    code = (
        "import json, torch; cuda = torch.cuda.is_available(); print(json.dumps({'card': "
        "torch.cuda.get_device_name() if cuda else '', 'cuda': torch.version.cuda or '', 'torch': torch.__version__}))"
    )
    found: dict[str, str] = json.loads(
        subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1]
    )
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        found["driver"] = subprocess.check_output(query, text=True).splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        found["driver"] = ""
    return found


def record(parts: list[Part], surroundings: dict[str, str]) -> None:
    """Append all records and the outcome of each part."""
    sys.path[:0] = [str(ROOT), *([str(SITE)] if SITE.is_dir() else [])]
    from benchmarks.records import append

    for part in parts:
        outcome = {"part": "outcome", "case": part.name, "state": part.state, "detail": part.detail}
        for line in [*part.records, {**outcome, "metrics": {"seconds": round(part.seconds, 1)}}]:
            append("gpu_check", {**line, **surroundings})


def run_parts(device: str, reduced: bool, only: list[str]) -> list[Part]:
    """Run all parts within the time limit, the checks first and the CPU timings last."""
    end, parts = time.monotonic() + TOTAL, []

    def limited(seconds: float) -> float:
        return max(5.0, min(seconds, end - time.monotonic()))

    if "checks" in only:
        parts.append(check(device, limited(200)))
    names = [name for name in TIMINGS if name in only]
    if reduced and names:
        return [*parts, measure(names, device, limited(TOTAL), reduced)]
    for number, where in enumerate((device, "cpu")):
        for name in names:
            limit = LIMITS[name][number]
            if limit and end - time.monotonic() < 5:
                parts.append(Part(f"{name} on {where}", "skipped", detail="no time is left"))
            elif limit:
                part = measure([name], where, limited(limit))
                if part.detail.startswith("stopped") and part.records and where == "cpu":
                    part.state = "passed"  # the CPU may not finish the larger cases; those it finished are kept
                parts.append(part)
    if "demo" in only and not reduced:
        parts.append(demo(limited(150)))
    return parts


def main(argv: list[str] | None = None) -> int:
    """Run everything, print a line for each part, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, help="folder with wheels of the missing packages")
    parser.add_argument("--reduced", action="store_true", help="tiny sizes on the CPU, nothing recorded")
    choices = ["checks", *TIMINGS, "demo"]
    parser.add_argument("--only", nargs="+", choices=choices, default=choices, help="parts to run")
    arguments = parser.parse_args(argv)
    parts = [install(arguments.wheels)] if arguments.wheels else []
    surroundings = describe_device()
    reduced = arguments.reduced or not surroundings["card"]
    if not surroundings["card"]:
        print("no GPU: tiny sizes on the CPU, a test of the command itself")
    started = time.monotonic()
    parts += run_parts("cpu" if reduced else "cuda", reduced, arguments.only)
    if not reduced:
        record(parts, surroundings)
    width = max(len(part.name) for part in parts)
    for part in parts:
        print(f"{part.state:8}{part.name:{width}} {part.seconds:6.0f} s  {part.detail}")
    failed = [part.name for part in parts if part.state == "failed"]
    outcome = f"FAILED: {', '.join(failed)}" if failed else "all passed"
    print(f"{surroundings['card'] or 'the CPU'}: {outcome}, {time.monotonic() - started:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
