"""Baselines: python -m benchmarks.baselines closed als implicit [--datasets ...] [--seeds 0 1 2].

- closed: popularity, ItemKNN and EASE by `face baselines`
- als: least squares of this package by `face fit`, at each width of --dims: configs/DATASET/ials/stage1.yaml at 256-d,
  and configs/recipes/least-squares.yaml, which chooses its regularisation on validation, at other widths
- implicit: alternating least squares of the library, with (alpha, regularization) chosen on validation: by a search at
  256-d; at other widths from a grid of nine around those values, with seed 0

Settings are chosen on validation, and test is read once per run. Finished runs are neither repeated nor recorded again.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import torch
from scipy.sparse import csr_matrix

from benchmarks.records import append_new, of_run, shared_data
from face_lightning.baselines.evaluation import evaluate
from face_lightning.commands import baselines as baselines_command
from face_lightning.commands import stage as stage_command
from face_lightning.data.datamodule import InteractionDataModule
from face_lightning.data.readers import RLMRecFolder
from face_lightning.ranking import Ranker
from face_lightning.runs.recorder import peak_mib
from face_lightning.structures import Embeddings

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FOLDERS = {"amazon-book": "book", "yelp": "restaurant", "steam-vt": "game", "ml-100k-split": "movie"}  # domain
IMPLICIT = {"amazon-book": (80, 150), "yelp": (40, 150), "steam-vt": (200, 1000), "ml-100k-split": (20, 70)}
SEARCHED_DIM = 256
ITERATIONS = 15


def closed(dataset: str, data: Path, runs: Path) -> None:
    """Popularity, ItemKNN and EASE."""
    out = runs / dataset / "closed"
    reader = ["--data.reader", "RLMRecFolder", "--data.reader.init_args.root", str(data)]
    baselines_command.main([*reader, "--data.reader.init_args.domain", FOLDERS[dataset], "--out", str(out)])
    for path in sorted(out.glob("*/result.json")):
        result = json.loads(path.read_text())
        more = {"dataset": dataset, "variant": result["setting"], "searched": result["searched"]}
        append_new("baselines", {**of_run(result), **more})


def als(dataset: str, data: Path, runs: Path, seed: int, dim: int, more: list[str]) -> None:
    """Least squares of this package."""
    run_dir = runs / dataset / f"als-{dim}" / str(seed)
    config = CONFIGS / dataset.removesuffix("-split") / "ials" / "stage1.yaml"
    if dim != SEARCHED_DIM:
        config = CONFIGS / "recipes" / "least-squares.yaml"
        more = ["--data.batch_size", "4096", *more]
    command = ["fit", "--config", str(config), "--if_exists", "resume", "--run_dir", str(run_dir)]
    command += ["--data.reader", "RLMRecFolder", "--data.reader.init_args.root", str(data)]
    command += ["--data.reader.init_args.domain", FOLDERS[dataset], "--seed_everything", str(seed)]
    command += ["--model.init_args.backbone.init_args.embedding_dim", str(dim)]
    stage_command.main([*command, "--trainer.enable_progress_bar", "false", *more])
    result = json.loads((run_dir / "result.json").read_text())
    more_fields = {"dataset": dataset, "model": "least squares", "embedding_dim": dim, "variant": "als", "seed": seed}
    append_new("baselines", {**of_run(result), **more_fields, "best": result["best"]})


def fit_implicit(module: InteractionDataModule, dim: int, setting: tuple[float, float], seed: int) -> Ranker:
    """Embeddings fitted by the library."""
    from implicit.cpu.als import AlternatingLeastSquares  # not in the extras: pip install implicit

    alpha, regularization = setting
    model = AlternatingLeastSquares(
        factors=dim, alpha=alpha, regularization=regularization, iterations=ITERATIONS, random_state=seed
    )
    model.fit(csr_matrix(module.interactions.train), show_progress=False)
    return Ranker(Embeddings(torch.from_numpy(model.user_factors), torch.from_numpy(model.item_factors)))


def validation_recall(module: InteractionDataModule, ranker: Ranker) -> float:
    """Validation Recall@20."""
    return evaluate(ranker, module.val_dataloader(), module.num_items, "val/", (20,)).metrics["val/recall@20"]


def implicit(dataset: str, data: Path, seeds: list[int], dim: int) -> None:
    """Least squares of the library, measured with the ranker and metrics of this package."""
    module = InteractionDataModule(RLMRecFolder(data, FOLDERS[dataset]))
    setting: tuple[float, float] = IMPLICIT[dataset]
    if dim != SEARCHED_DIM:
        grid = [(alpha * setting[0], weight * setting[1]) for alpha in (0.5, 1, 2) for weight in (0.25, 0.5, 1)]
        setting = max(grid, key=lambda choice: validation_recall(module, fit_implicit(module, dim, choice, 0)))
    for seed in seeds:
        started = time.perf_counter()
        ranker = fit_implicit(module, dim, setting, seed)
        seconds = time.perf_counter() - started
        score = validation_recall(module, ranker)
        metrics = evaluate(ranker, module.test_dataloader(), module.num_items, "test/", (5, 10, 20)).metrics
        variant = {"alpha": setting[0], "regularization": setting[1], "iterations": ITERATIONS}
        identity = ["implicit", dataset, seed, dim, variant]
        line: dict[str, Any] = {"dataset": dataset, "backbone": "GMF", "model": "iALS of implicit"}
        line |= {"stage": "baseline", "variant": variant, "seed": seed, "embedding_dim": dim, "metrics": metrics}
        line |= {"seconds": round(seconds, 1), "peak_mib": peak_mib()}
        line |= {"best": {"monitor": "val/recall@20", "score": score}}
        append_new("baselines", {**line, "fingerprint": hashlib.sha256(json.dumps(identity).encode()).hexdigest()})
        print(f"{dataset} implicit {dim}-d: {metrics['test/recall@20']:.4f} in {seconds:.1f} s")


def main() -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["closed", "als", "implicit"])
    parser.add_argument("--datasets", nargs="+", default=[*FOLDERS], choices=[*FOLDERS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--dims", type=int, nargs="+", default=[256])
    parser.add_argument("--set", nargs="*", default=[], help="further options of face fit, such as model.init_args.x=1")
    parser.add_argument("--data", type=Path, default=shared_data(), help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/baselines"))
    arguments = parser.parse_args()
    for dataset in arguments.datasets:
        data = arguments.data / dataset
        if "closed" in arguments.parts:
            closed(dataset, data, arguments.runs)
        for dim in arguments.dims:
            for seed in arguments.seeds if "als" in arguments.parts else ():
                als(dataset, data, arguments.runs, seed, dim, [f"--{option}" for option in arguments.set])
            if "implicit" in arguments.parts:
                implicit(dataset, data, arguments.seeds, dim)


if __name__ == "__main__":
    main()
