"""Record the runs of `face demo`: python -m benchmarks.demo [--runs FOLDER] [--implicit data/ml-100k].

With `--implicit`, measures alternating least squares of the library on the demo's split, read from the same folder of
data: (alpha, regularization) are chosen on validation among 25 settings with seed 0, and test is read once per seed.
"""

import argparse
import hashlib
import json
import time
from itertools import product
from pathlib import Path

from benchmarks.baselines import ITERATIONS, SEARCHED_DIM, fit_implicit, validation_recall
from benchmarks.records import append_new, of_run
from face_lightning.baselines.evaluation import evaluate
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.readers import MovieLens100K
from face_lightning.runs.recorder import peak_mib
from face_lightning.runs.results import read_result

CASES = ("popularity", "itemknn", "ease", "stage1", "control", "stage2", "stage3")
GRID = tuple(product((5.0, 10.0, 20.0, 40.0, 80.0), (17.5, 35.0, 70.0, 140.0, 280.0)))  # alpha, regularization


def implicit(data: Path, seeds: list[int]) -> None:
    """Search the library's settings on validation, then test and record each seed once."""
    module = InteractionDataModule(MovieLens100K(data))
    searched = {setting: validation_recall(module, fit_implicit(module, SEARCHED_DIM, setting, 0)) for setting in GRID}
    alpha, regularization = setting = max(searched, key=searched.__getitem__)
    variant = {"alpha": alpha, "regularization": regularization, "iterations": ITERATIONS}
    for seed in seeds:
        started = time.perf_counter()
        ranker = fit_implicit(module, SEARCHED_DIM, setting, seed)
        seconds = round(time.perf_counter() - started, 1)
        score = validation_recall(module, ranker)
        metrics = evaluate(ranker, module.test_dataloader(), module.num_items, "test/", (5, 10, 20)).metrics
        line = {"case": "implicit", "dataset": "ml-100k", "model": "iALS of implicit", "variant": variant, "seed": seed}
        line |= {"stage": "baseline", "embedding_dim": SEARCHED_DIM, "metrics": metrics, "seconds": seconds}
        line |= {"peak_mib": peak_mib(), "best": {"monitor": "val/recall@20", "score": score}}
        line["searched"] = [{"setting": given, "score": found} for given, found in searched.items()]
        identity = json.dumps(["implicit", "ml-100k", seed, SEARCHED_DIM, variant])
        append_new("demo", {**line, "fingerprint": hashlib.sha256(identity.encode()).hexdigest()})
        print(f"implicit {setting}, seed {seed}: {metrics['test/recall@20']:.4f} in {seconds} s")


def main() -> None:
    """Append runs that are not on record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/ml-100k/ials"))
    parser.add_argument("--implicit", type=Path, help="measure the library on the data set in this folder instead")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the library")
    arguments = parser.parse_args()
    if arguments.implicit:
        implicit(arguments.implicit, arguments.seeds)
        return
    for case in CASES:
        folder = arguments.runs / case if case.startswith(("stage", "control")) else arguments.runs / "baselines" / case
        new = append_new("demo", {"case": case, **of_run(read_result(folder))})
        print(f"{case}: {'recorded' if new else 'recorded before'}")


if __name__ == "__main__":
    main()
