"""Quality and speed of the stages on MovieLens-100K: python -m benchmarks.stages [--seeds 0 1 2].

Runs stage 1, the fine-tuning control, stage 2 and stage 3 through the command line with the shipped configurations, on
the split for which a reference figure is known if it is available (`ml-100k-split`), otherwise on the package's own
split, which is fetched (`ml-100k`). Finished runs with the same configuration are neither repeated nor recorded again.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from scipy.stats import ttest_rel

from benchmarks.records import append_new, of_run, shared_data
from face_lightning.commands import stage as stage_command
from face_lightning.data.fetch import fetch_movielens_100k

ROOT = Path(__file__).resolve().parents[1]
AUTHORS_SECONDS = {"stage2": 320.0, "stage3": 1560.0}  # seconds per epoch of the authors' code, same data, 2 cores
CHAIN = {"stage1": None, "control": "stage1", "stage2": "stage1", "stage3": "stage2"}
SHOWN = [
    "test/recall@20",
    "test/ndcg@20",
    "codebook/items_active",
    "codebook/items_perplexity",
    "words/retrieval_items@10",
    "words/retrieval_users@10",
]


def run_stage(stage: str, seed: int, split: Path | None, runs: Path) -> dict[str, Any]:
    """Fit a stage unless it has finished, and return its result."""
    command = ["fit", "--config", str(ROOT / f"configs/ml-100k/gmf/{stage}.yaml"), "--if_exists", "skip"]
    command += ["--run_dir", str(runs / str(seed) / stage), "--seed_everything", str(seed)]
    command += [
        "--data.reader.init_args.root",
        str(ROOT / "data" / "ml-100k"),
        "--trainer.enable_progress_bar",
        "false",
    ]
    if split:
        command += ["--data.reader.init_args.given_split", str(split)]
    before = CHAIN[stage]
    if before:
        command += ["--init_from", str(runs / str(seed) / before)]
    stage_command.main(command)
    result: dict[str, Any] = json.loads((runs / str(seed) / stage / "result.json").read_text())
    return result


def record_chain(seed: int, split: Path | None, runs: Path, stages: list[str]) -> dict[str, dict[str, Any]]:
    """Run the stages of a seed and append their results."""
    results = {}
    for stage in stages:
        result = run_stage(stage, seed, split, runs)
        about = {"dataset": name_of(split), "embedding_dim": 256, "variant": stage, "seed": seed}
        record = {**of_run(result), **about}
        append_new("stages", record)
        times = {"seconds": result["seconds"], "seconds_per_epoch": result["seconds"] / result["epochs"]}
        results[stage] = record["metrics"] | times
    if "stage3" in stages and "control" in stages:
        face, control = (
            pq.read_table(runs / str(seed) / stage / "test_users.parquet").sort_by("user_id")["test/recall@20"]
            for stage in ("stage3", "control")
        )
        paired = ttest_rel(face.to_numpy(), control.to_numpy())
        print(f"seed {seed}: stage 3 against control, Recall@20, t = {paired.statistic:.2f}, p = {paired.pvalue:.3f}")
    return results


def name_of(split: Path | None) -> str:
    """Name of the data set in the records."""
    return "ml-100k-split" if split else "ml-100k"


def main() -> None:
    """Run all seeds and print means with standard deviations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--stages", nargs="+", default=list(CHAIN), choices=list(CHAIN))
    parser.add_argument("--data", type=Path, default=shared_data() / "ml-100k-split", help="folder of the split")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/stages"))
    arguments = parser.parse_args()
    split = arguments.data if arguments.data.is_dir() else None
    fetch_movielens_100k(ROOT / "data" / "ml-100k", quiet=True)
    place = arguments.runs if split else arguments.runs / "own-split"
    runs = [record_chain(seed, split, place, arguments.stages) for seed in arguments.seeds]
    table = Table("", *arguments.stages, title=f"{name_of(split)}, GMF 256-d, mean ± sd of seeds {arguments.seeds}")
    for key in (*SHOWN, "seconds", "seconds_per_epoch"):
        cells = []
        for stage in arguments.stages:
            values = [run[stage][key] for run in runs if key in run[stage]]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}" if values else "")
        table.add_row(key, *cells)
    Console().print(table)
    for stage, seconds in AUTHORS_SECONDS.items():
        if stage in arguments.stages:
            ours = statistics.mean(run[stage]["seconds_per_epoch"] for run in runs)
            print(f"{stage}: {ours:.1f} s an epoch, authors' code {seconds:.0f} s: {seconds / ours:.0f} times faster")


if __name__ == "__main__":
    main()
