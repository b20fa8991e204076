"""Record the runs of `face demo`, for the table in README.md: python -m benchmarks.demo [--runs FOLDER]."""

import argparse
from pathlib import Path

from benchmarks.records import append_new, of_run
from face_lightning.runs.results import read_result

CASES = ("popularity", "itemknn", "ease", "stage1", "control", "stage2", "stage3")


def main() -> None:
    """Append the runs that are not recorded yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/ml-100k/ials"))
    runs: Path = parser.parse_args().runs
    for case in CASES:
        folder = runs / case if case.startswith(("stage", "control")) else runs / "baselines" / case
        new = append_new("demo", {"case": case, **of_run(read_result(folder))})
        print(f"{case}: {'recorded' if new else 'recorded before'}")


if __name__ == "__main__":
    main()
