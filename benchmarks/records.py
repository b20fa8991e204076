"""Results as JSON lines: one measurement per line, appended and never rewritten."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from face_lightning.runs.recorder import environment

RESULTS = Path(__file__).parent / "results"


def shared_data() -> Path:
    """Folder of data sets that are not shipped: FACE_SHARED_DATA, or shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("FACE_SHARED_DATA", default))


def processor() -> str:
    """Name of the processor and its fast number formats, on which timings depend most."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.is_file() else ""
    named = re.search(r"model name\s*:\s*(.+)", text)
    formats = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{name}\b", text)]
    return " ".join([named[1] if named else platform.machine(), *formats])


def of_run(result: dict[str, Any]) -> dict[str, Any]:
    """Fields of a record from the result.json of a finished run."""
    kept = ("dataset", "backbone", "stage", "seed", "fingerprint", "epochs", "seconds", "peak_mib")
    metrics = {key: value for key, value in result["metrics"].items() if key != "last_epoch"}
    return {**{key: result[key] for key in kept}, "metrics": metrics}


def append_new(name: str, record: dict[str, Any]) -> bool:
    """Append the record of a run unless results/NAME.jsonl holds it; whether it was new."""
    new = record["fingerprint"] not in {line["fingerprint"] for line in read(name)}
    if new:
        append(name, record)
    return new


def append(name: str, record: dict[str, Any]) -> None:
    """Append a measurement to results/NAME.jsonl, with its command, package versions and commit."""
    arguments = shlex.join(map(_shown, sys.argv[1:]))
    surroundings = environment()
    line = {
        "benchmark": name,
        **record,
        "command": f"python -m benchmarks.{Path(sys.argv[0]).stem} {arguments}".strip(),
        "machine": f"{os.cpu_count()} cores, {processor()}, {surroundings['gpus'] or 'no GPU'}",
        "versions": surroundings["versions"],
        "commit": commit(),
    }
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def commit() -> str:
    """Short hash of the checked-out commit."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _shown(argument: str) -> str:
    """An argument without folders of the machine."""
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def read(name: str) -> list[dict[str, Any]]:
    """All measurements of results/NAME.jsonl."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
