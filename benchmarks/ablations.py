"""Keeps what `face ablate` ran: python -m benchmarks.ablations RUNS [RUNS ...].

RUNS is the folder of a set, such as runs/ablations/comparison. A run that is on record is not recorded again.
Writes results/ablations.jsonl.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.records import append, read


def record(folder: Path, path: Path) -> dict[str, Any]:
    """What the run with the result at `path` gave, by its place in the set's `folder`: SEED/RUN/VARIANT."""
    result = json.loads(path.read_text())
    _, run, variant = path.parent.relative_to(folder).parts
    return {
        "set": folder.name,
        "run": run,
        "variant": variant,
        **{key: result[key] for key in ("dataset", "backbone", "stage", "seed", "fingerprint", "epochs")},
        **{key: result[key] for key in ("seconds", "peak_mib")},
        "metrics": {key: value for key, value in result["metrics"].items() if key != "last_epoch"},
    }


def main() -> None:
    """Append what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folder of a set, with a folder for each seed")
    known = {line["fingerprint"] for line in read("ablations")}
    for folder in parser.parse_args().runs:
        found = [record(folder, path) for path in sorted(folder.glob("*/*/*/result.json"))]
        if not found:
            raise SystemExit(
                f"{folder}: expected runs of face ablate (SEED/RUN/VARIANT), found none; give their folder"
            )
        new = [line for line in found if line["fingerprint"] not in known]
        for line in new:
            append("ablations", line)
        known |= {line["fingerprint"] for line in new}
        print(f"{folder}: {len(found)} runs, {len(new)} of them new")


if __name__ == "__main__":
    main()
