"""Record the runs of `face ablate`: python -m benchmarks.ablations RUNS [RUNS ...].

RUNS is the folder of a set, such as runs/ablations/comparison. Runs that are on record are not recorded again. Writes
results/ablations.jsonl.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.records import append_new, of_run


def record(folder: Path, path: Path) -> dict[str, Any]:
    """Record of the run whose result is at `path`; the path below `folder` is SEED/RUN/VARIANT."""
    result = json.loads(path.read_text())
    _, run, variant = path.parent.relative_to(folder).parts
    return {"set": folder.name, "run": run, **of_run(result), "variant": variant}


def main() -> None:
    """Append runs that are not on record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folder of a set, with one folder per seed")
    for folder in parser.parse_args().runs:
        found = [record(folder, path) for path in sorted(folder.glob("*/*/*/result.json"))]
        if not found:
            raise SystemExit(
                f"{folder}: expected runs of face ablate (SEED/RUN/VARIANT), found none; give their folder"
            )
        new = sum(append_new("ablations", line) for line in found)
        print(f"{folder}: {len(found)} runs, {new} of them new")


if __name__ == "__main__":
    main()
