"""Comparison of ranking losses on one backbone: python -m benchmarks.ranking_losses [--losses BPR DirectAU].

Every loss gets the same number of trials of `face tune`, which searches the learning rate, the L2 weight and the
arguments of the loss on validation. Its best configuration is then fitted and tested once per seed. Records hold all
trials (part search) and the final runs (part test). Searches and runs that exist are not repeated.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.baselines import CONFIGS, FOLDERS
from benchmarks.records import append_new, of_run, shared_data
from face_lightning.commands import stage as stage_command
from face_lightning.commands import tune as tune_command

LOSSES = ("BPR", "SampledSoftmax", "WeightedSquares", "CosineContrastive", "BilateralSoftmax", "DirectAU")


def options_of(loss: str, dataset: str, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Options of `face fit` for the backbone with a loss."""
    options = ["--config", str(CONFIGS / "recipes" / "stage1.yaml"), "--run_dir", str(folder / "trial")]
    options += ["--data.reader", "RLMRecFolder", "--data.reader.init_args.root", str(arguments.data / dataset)]
    options += ["--data.reader.init_args.domain", FOLDERS[dataset], "--data.batch_size", str(arguments.batch_size)]
    options += ["--trainer.max_epochs", str(arguments.epochs), "--model.init_args.backbone", arguments.backbone]
    options += ["--model.init_args.ranking_loss", loss, "--seed_everything", "0"]
    options += ["--model.init_args.optimizer.init_args.lr", str(arguments.lr)]
    if loss == "SampledSoftmax":  # the form recommended in the literature
        loss_options = "--model.init_args.ranking_loss.init_args"
        options += [f"{loss_options}.cosine", "true", f"{loss_options}.temperature", "0.15"]
    return options


def search(options: list[str], folder: Path, about: dict[str, Any], num_trials: int) -> None:
    """Search the settings of the loss and record all trials."""
    tune_command.main(["--trials", str(num_trials), "--minutes", "600", "--out", str(folder), *options])
    with tune_command.Search(options, folder, Console()) as study:
        trials = [
            {
                "options": {name.rpartition(".")[2]: found for name, found in trial.params.items()},
                "val/recall@20": trial.value,
                "state": trial.state.name.lower(),
                **{key: trial.user_attrs.get(key) for key in ("epochs", "seconds")},
            }
            for trial in study.trials
        ]
    append_new("ranking_losses", {**about, "part": "search", "fingerprint": f"{about} {len(trials)}", "trials": trials})


def test(folder: Path, about: dict[str, Any], seed: int) -> None:
    """Fit the best configuration, test it once and record the run."""
    run_dir = folder / f"best-{seed}"
    command = ["fit", "--config", str(folder / "search" / "best.yaml"), "--run_dir", str(run_dir)]
    command += ["--seed_everything", str(seed), "--if_exists", "resume", "--trainer.enable_progress_bar", "false"]
    stage_command.main(command)
    result = json.loads((run_dir / "result.json").read_text())
    append_new("ranking_losses", {**of_run(result), **about, "part": "test", "seed": seed, "best": result["best"]})


def main() -> None:
    """Run all selected losses."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", nargs="+", default=[*LOSSES])
    parser.add_argument("--datasets", nargs="+", default=["ml-100k-split"], choices=[*FOLDERS])
    parser.add_argument("--backbone", default="GMF", help="names of losses, with their default arguments")
    parser.add_argument("--trials", type=int, default=16, help="trials per loss")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch_size", type=int, default=2048)
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of the first trial")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=Path, default=shared_data(), help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/ranking_losses"))
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        for loss in arguments.losses:
            folder = arguments.runs / dataset / arguments.backbone / loss
            about = {"dataset": dataset, "backbone": arguments.backbone, "loss": loss, "embedding_dim": 256}
            about |= {"batch_size": arguments.batch_size}
            options = options_of(loss, dataset, folder, arguments)
            search(options, folder / "search", about, arguments.trials)
            for seed in arguments.seeds:
                test(folder, about, seed)


if __name__ == "__main__":
    main()
