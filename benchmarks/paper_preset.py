"""Record runs of the paper's plain form: `python -m benchmarks.paper_preset [--runs FOLDER]`.

The runs are `face fit --config configs/ml-100k/gmf/stage1.yaml`, and stages 2 and 3 of configs/ml-100k/gmf-paper.
Finished runs are appended to results/paper_preset.jsonl.
"""

import argparse
from pathlib import Path

from benchmarks.records import append_new, of_run
from face_lightning.runs.results import read_result

CASES = {"stage1": "gmf", "stage2": "gmf-paper", "stage3": "gmf-paper"}


def main() -> None:
    """Append runs that are not on record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/ml-100k"), help="folder of gmf and gmf-paper")
    runs: Path = parser.parse_args().runs
    for stage, folder in CASES.items():
        run = runs / folder / stage
        if not (run / "result.json").is_file():
            print(f"{run}: not finished")
            continue
        new = append_new("paper_preset", {"case": stage, **of_run(read_result(run))})
        print(f"{run}: {'recorded' if new else 'recorded before'}")


if __name__ == "__main__":
    main()
