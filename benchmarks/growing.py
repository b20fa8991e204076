"""Benefit of a warm start when data have grown: python -m benchmarks.growing --data data/ml-100k [--seeds 0 1 2 3 4].

Variants are least squares with constant settings (ials), least squares by its default path (path), and GMF by BPR
(gmf).

MovieLens-100K is split 3:1:1 per user. The old data are the first 80 % of all interactions in time order, each in the
same split as in the whole, so that the old run has seen nothing of validation and test. On the whole data, stage 1 is
trained from scratch, and from the old run by `--init_from`, which matches rows by original id. Measured are the time
until validation Recall@20 comes within .001 of the best of training from scratch, and the value after half of the
epochs that training from scratch takes to its best. Test metrics are those of each run's best epoch.

A best epoch is a maximum of noisy values over 940 users, so that a single seed says little: differences are paired over
seeds. To estimate the noise, training from scratch is repeated from other initial tables (--repetitions), and compared
with the first time like the warm start.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records import append
from face_lightning.data.movielens import read_tables

MONITOR = "val/recall@20"
TOLERANCE = 0.001  # smaller differences are noise over 940 users
VARIANTS = {
    "ials": ("least squares", "configs/ml-100k/ials/stage1.yaml"),
    "path": ("least squares, path", "configs/recipes/least-squares.yaml"),
    "gmf": ("GMF", "configs/ml-100k/gmf/stage1.yaml"),
}


def write_splits(root: Path, folder: Path, seed: int, share: float) -> None:
    """Write the splits of all interactions as whole*.csv, and of the oldest ones as old*.csv."""
    ratings = read_tables(root).ratings
    ratings = ratings[ratings[:, 2] >= 4]
    ratings = ratings[np.lexsort((ratings[:, 1], ratings[:, 0], ratings[:, 3]))]
    generator = np.random.default_rng(seed)
    parts = np.empty(len(ratings), int)
    for user in np.unique(ratings[:, 0]):
        rows = np.flatnonzero(ratings[:, 0] == user)
        first, second = round(0.6 * len(rows)), round(0.8 * len(rows))
        parts[generator.permutation(rows)] = np.repeat([0, 1, 2], [first, second - first, len(rows) - second])
    for name, end in (("old", int(share * len(ratings))), ("whole", len(ratings))):
        for part, suffix in enumerate(("", "-valid", "-test")):
            rows = ratings[:end][parts[:end] == part][:, :2]
            lines = "".join(f"{user},{item}\n" for user, item in rows.tolist())
            (folder / f"{name}{suffix}.csv").write_text(f"user_id,item_id\n{lines}")


def face(*arguments: object) -> None:
    """Run a `face` command."""
    subprocess.run([sys.executable, "-m", "face_lightning.cli", *map(str, arguments)], check=True)


def train(variant: str, data: Path, run: Path, seed: int, *more: object) -> list[dict[str, Any]]:
    """Train and test stage 1, and return its epochs."""
    arguments = ["--config", VARIANTS[variant][1], "--run_dir", run, "--seed_everything", seed]
    arguments += ["--data.reader.class_path", "PreparedFolder", "--data.reader.init_args.root", data]
    face("fit", *arguments, "--trainer.enable_progress_bar", "false", *more)
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if MONITOR in line]


def first_at(epochs: list[dict[str, Any]], quality: float) -> dict[str, Any] | None:
    """First epoch that reaches the given validation value."""
    return next((epoch for epoch in epochs if epoch[MONITOR] >= quality), None)


def compare(variant: str, folder: Path, seed: int, repetitions: int) -> dict[str, Any]:
    """Train on the old data, then on all data: from scratch, from the old run, and again from other initial tables."""
    runs = {name: folder / f"{variant}-{seed}-{name}" for name in ("old", "anew", "warm")}
    train(variant, folder / "old", runs["old"], seed)
    epochs = {
        "anew": train(variant, folder / "whole", runs["anew"], seed),
        "warm": train(variant, folder / "whole", runs["warm"], seed, "--init_from", runs["old"]),
    }
    best = max(epoch[MONITOR] for epoch in epochs["anew"]) - TOLERANCE
    half = max(1, (max(epochs["anew"], key=itemgetter(MONITOR))["epoch"] + 1) // 2)
    in_half = [epoch[MONITOR] for epoch in epochs["warm"] if epoch["epoch"] < half]
    found: dict[str, Any] = {"quality": best, "half_epochs": half, "warm_half": max(in_half, default=None)}
    for name, rows in epochs.items():
        reached, top = first_at(rows, best), max(rows, key=itemgetter(MONITOR))
        result = json.loads((runs[name] / "result.json").read_text())
        found |= {
            f"{name}_seconds": reached and reached["seconds"],
            f"{name}_epochs": reached and reached["epoch"] + 1,
            f"{name}_best": top[MONITOR],
            f"{name}_best_seconds": top["seconds"],
            f"{name}_test": result["metrics"]["test/recall@20"],
        }
    for repetition in range(repetitions):
        run = folder / f"{variant}-{seed}-again-{repetition}"
        again = max(epoch[MONITOR] for epoch in train(variant, folder / "whole", run, 100 * (repetition + 1) + seed))
        test = json.loads((run / "result.json").read_text())["metrics"]["test/recall@20"]
        found.setdefault("again_best", []).append(again)
        found.setdefault("again_test", []).append(test)
    if found["warm_seconds"] is not None and found["anew_seconds"] is not None:
        found["share_of_time"] = found["warm_seconds"] / found["anew_seconds"]
    return found


def main() -> None:
    """Compare and record all variants and seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of `face data ml-100k`")
    parser.add_argument("--variants", "--backbones", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--repetitions", type=int, default=2, help="repetitions of training from scratch")
    parser.add_argument("--share", type=float, default=0.8, help="share of the interactions that are old")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_splits(arguments.data, folder, seed, arguments.share)
            for part in ("old", "whole"):
                files = [folder / f"{part}{suffix}.csv" for suffix in ("", "-valid", "-test")]
                split = ["--split", "given", "--valid", files[1], "--test", files[2]]
                face("data", "import", files[0], *split, "--out", folder / part, "--quiet")
            for variant in arguments.variants:
                metrics = compare(variant, folder, seed, arguments.repetitions)
                print(f"seed {seed}, {VARIANTS[variant][0]}: {metrics}", flush=True)
                case = {"dataset": "ml-100k", "variant": VARIANTS[variant][0], "seed": seed}
                append("growing", case | {"share": arguments.share, "metrics": metrics})


if __name__ == "__main__":
    main()
