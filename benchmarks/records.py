"""Results as JSON lines: one measurement a line, appended, never rewritten."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from face_lightning.stages.recorder import environment

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


def append(name: str, record: dict[str, Any]) -> None:
    """Add a measurement to results/NAME.jsonl with the command, versions and commit it was made with."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    arguments = " ".join(sys.argv[1:])
    surroundings = environment()
    line = {
        "benchmark": name,
        **record,
        "command": f"python -m benchmarks.{Path(sys.argv[0]).stem} {arguments}".strip(),
        "machine": f"{os.cpu_count()} cores, {processor()}, {surroundings['gpus'] or 'no GPU'}",
        "versions": surroundings["versions"],
        "commit": commit.stdout.strip(),
    }
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def read(name: str) -> list[dict[str, Any]]:
    """All measurements of results/NAME.jsonl."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
