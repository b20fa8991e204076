"""Quality of untuned settings: python -m benchmarks.transfer default tuned [--datasets ...] [--seeds 0].

- default: configs/recipes/least-squares.yaml unchanged, by `face fit`
- tuned: the best configuration of `face tune` in --minutes from there, fitted again

Prints test Recall@20 relative to configs/DATASET/ials/stage1.yaml, whose settings were searched on each data set in
hundreds of runs (results/baselines.jsonl). Epochs and settings are chosen on validation, and test is read once per run.
Existing runs are not repeated, and are recorded once.
"""

import argparse
import json
from pathlib import Path

from benchmarks.baseline_tables import searched
from benchmarks.baselines import CONFIGS, FOLDERS
from benchmarks.records import append_new, of_run, shared_data
from face_lightning.commands import stage as stage_command
from face_lightning.commands import tune as tune_command

_METRIC = "test/recall@20"


def run(part: str, dataset: str, seed: int, minutes: float, arguments: argparse.Namespace) -> float:
    """Fit, test and record a run; its test Recall@20."""
    folder = arguments.runs / dataset / str(seed)
    options = ["--data.reader", "RLMRecFolder", "--data.reader.init_args.root", str(arguments.data / dataset)]
    options += ["--data.reader.init_args.domain", FOLDERS[dataset], "--data.batch_size", "4096"]
    options += ["--seed_everything", str(seed), "--run_dir", str(folder / part), "--if_exists", "resume"]
    options = ["--config", str(CONFIGS / "recipes" / "least-squares.yaml"), *options]
    if part == "tuned":
        search = ["--minutes", str(minutes), "--trials", "1000", "--out", str(folder / "search")]
        if not (folder / "search" / "best.yaml").is_file():
            tune_command.main([*search, *options])
        options = ["--config", str(folder / "search" / "best.yaml")]
    stage_command.main(["fit", *options, "--trainer.enable_progress_bar", "false"])
    result = json.loads((folder / part / "result.json").read_text())
    more = {"dataset": dataset, "embedding_dim": 256, "variant": part, "seed": seed, "best": result["best"]}
    append_new("transfer", {**of_run(result), **more, **({"minutes": minutes} if part == "tuned" else {})})
    metrics: dict[str, float] = result["metrics"]
    return metrics[_METRIC]


def main() -> None:
    """Run the selected variants and print relative Recall@20."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["default", "tuned"])
    parser.add_argument("--datasets", nargs="+", default=[*FOLDERS], choices=[*FOLDERS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--data", type=Path, default=shared_data(), help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/transfer"))
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for part in arguments.parts:
            for dataset in arguments.datasets:
                recall, best = run(part, dataset, seed, arguments.minutes, arguments), searched(dataset)
                print(f"{dataset} {part} seed {seed}: {recall:.4f}, {recall / best:.1%} of {best:.4f}", flush=True)


if __name__ == "__main__":
    main()
