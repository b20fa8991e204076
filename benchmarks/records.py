"""Results as JSON lines: one measurement a line, appended, never rewritten."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from face_lightning.runs.recorder import environment

RESULTS = Path(__file__).parent / "results"


def shared_data() -> Path:
    """Folder of the data sets that the project does not ship: FACE_SHARED_DATA, or shared/data beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("FACE_SHARED_DATA", default))


def processor() -> str:
    """The processor's name, and the fast number formats it computes in: what timings depend on most."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.is_file() else ""
    named = re.search(r"model name\s*:\s*(.+)", text)
    formats = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{name}\b", text)]
    return " ".join([named[1] if named else platform.machine(), *formats])


def of_run(result: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a finished run, from its result.json."""
    kept = ("dataset", "backbone", "stage", "seed", "fingerprint", "epochs", "seconds", "peak_mib")
    metrics = {key: value for key, value in result["metrics"].items() if key != "last_epoch"}
    return {**{key: result[key] for key in kept}, "metrics": metrics}


def append_new(name: str, record: dict[str, Any]) -> bool:
    """Append the record of a run unless results/NAME.jsonl holds that run; whether it was new."""
    new = record["fingerprint"] not in {line["fingerprint"] for line in read(name)}
    if new:
        append(name, record)
    return new


def append(name: str, record: dict[str, Any]) -> None:
    """Add a measurement to results/NAME.jsonl with the command, versions and commit it was made with."""
    arguments = " ".join(map(_shown, sys.argv[1:]))
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
    """Short hash of the commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _shown(argument: str) -> str:
    """An argument without the folders of this machine."""
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def read(name: str) -> list[dict[str, Any]]:
    """All measurements of results/NAME.jsonl."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
