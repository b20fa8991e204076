"""How good and how fast the chain of stages is on ml-100k-split: python -m benchmarks.stages [--seeds 0 1 2 3 4].

Runs stage 1, the fine-tune-only control, stage 2 and stage 3 through the command line with the shipped
configurations, on the split behind the published reference figures. Runs that are finished with the same
configuration are neither repeated nor recorded twice.
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

ROOT = Path(__file__).resolve().parents[1]
AUTHORS_SECONDS = {"stage2": 320.0, "stage3": 1560.0}  # seconds an epoch, authors' code, same data, 2 cores
CHAIN = {"stage1": None, "control": "stage1", "stage2": "stage1", "stage3": "stage2"}
SHOWN = [
    "test/recall@20",
    "test/ndcg@20",
    "codebook/items_active",
    "codebook/items_perplexity",
    "words/retrieval_items@10",
    "words/retrieval_users@10",
]


def run_stage(stage: str, seed: int, data: Path, runs: Path) -> dict[str, Any]:
    """Fit a stage unless it is there, and return its result."""
    command = ["fit", "--config", str(ROOT / f"configs/ml-100k/{stage}.yaml"), "--if_exists", "skip"]
    command += ["--run_dir", str(runs / str(seed) / stage), "--seed_everything", str(seed)]
    command += ["--data.reader.init_args.given_split", str(data), "--trainer.enable_progress_bar", "false"]
    before = CHAIN[stage]
    if before:
        command += ["--init_from", str(runs / str(seed) / before)]
    stage_command.main(command)
    result: dict[str, Any] = json.loads((runs / str(seed) / stage / "result.json").read_text())
    return result


def record_chain(seed: int, data: Path, runs: Path, stages: list[str]) -> dict[str, dict[str, Any]]:
    """Run the stages of a seed, and append what they gave."""
    results = {}
    for stage in stages:
        result = run_stage(stage, seed, data, runs)
        record = {**of_run(result), "dataset": "ml-100k-split", "embedding_dim": 256, "variant": stage, "seed": seed}
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


def main() -> None:
    """Run all seeds, and print means with their spread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--stages", nargs="+", default=list(CHAIN), choices=list(CHAIN))
    parser.add_argument("--data", type=Path, default=shared_data() / "ml-100k-split")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/stages"))
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        raise SystemExit(f"{arguments.data} is not there: give the split with --data, or set FACE_SHARED_DATA")
    runs = [record_chain(seed, arguments.data, arguments.runs, arguments.stages) for seed in arguments.seeds]
    table = Table("", *arguments.stages, title=f"ml-100k-split, GMF 256-d, mean ± sd of seeds {arguments.seeds}")
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
