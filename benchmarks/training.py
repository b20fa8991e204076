"""Speed of training and evaluation: `python -m benchmarks.training steps`, or other parts.

- steps: a training step compared with a plain implementation (`benchmarks.reference`) at equal batch size, in one run
- compile: a training step with and without torch.compile
- evaluation: a full-ranking validation compared with a plain implementation, and its bits for several tiles of users
- target: time from the start of training to a given validation Recall@20
- batches: validation Recall@20 over time for several batch sizes, with learning rates proportional to their square root
- scaling: an epoch of LightGCN on generated graphs of 10^5 to 10^7 interactions
- sweeps: a sweep of least squares over both sides on the same graphs

All parts but the last two take a folder in RLMRec's format (--data, by default Amazon-book).
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.optim import Adam, Optimizer

from benchmarks.bare_stage import L2_WEIGHT, build, total_loss
from benchmarks.graph_size import scaling
from benchmarks.records import append, shared_data
from benchmarks.reference import BACKBONES, Reference, evaluate
from face_lightning.allocator import keep_freed_memory
from face_lightning.backbones import GMF, Backbone, LightGCN
from face_lightning.data.interactions import Interactions
from face_lightning.data.readers import RLMRecFolder
from face_lightning.data.sampling import EvaluationLoader, TrainingLoader
from face_lightning.graph import InteractionGraph, build_graph
from face_lightning.metrics import ranking_metrics
from face_lightning.ranking import Ranker, find_hits
from face_lightning.stages import PretrainingStage
from face_lightning.structures import Embeddings, TrainingBatch

RATE = 4e-3  # learning rate at a batch of 4,096


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median time of calls after a warm-up call."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def step(loss: Callable[[], Tensor], optimizer: Optimizer) -> None:
    """One training step."""
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def step_on_next(
    loss: Callable[[PretrainingStage, TrainingBatch], Tensor],
    stage: PretrainingStage,
    batches: Iterator[TrainingBatch],
    optimizer: Optimizer,
) -> None:
    """A training step on the next of several batches."""
    step(lambda: loss(stage, next(batches)), optimizer)


def check_losses(kind: type[Backbone], graph: InteractionGraph, batch: TrainingBatch) -> float:
    """Relative difference of the losses of both implementations on the same tables, without random draws.

    It is due to rounding: of float32, or of bfloat16 if the device computes contrastive losses in it.
    """
    options = {"noise_scale": 0.0} if "noise_scale" in kind.__init__.__code__.co_varnames else {}
    stage, backbone = build(kind, graph, 64, **options)
    for module in backbone.modules():
        if isinstance(module, LightGCN):
            module.keep_edges = 1.0
    ours, theirs = total_loss(stage, batch).item(), Reference(backbone, graph).loss(batch, L2_WEIGHT).item()
    return abs(ours - theirs) / abs(theirs)


def steps(interactions: Interactions, dim: int, batch_sizes: list[int]) -> None:
    """Time a step of each backbone in both implementations, alternating, in one process."""
    graph = build_graph(interactions.train)
    table = Table(
        "backbone", "batch", "ours, ms", "usual form, ms", "ratio", "loss differs by", title=f"a step, {dim}-d"
    )
    for kind in BACKBONES:
        for batch_size in batch_sizes:
            batch = next(iter(TrainingLoader(interactions.train, batch_size=batch_size)))
            difference = check_losses(kind, graph, batch)
            assert difference < 1e-3, f"{kind.__name__}: the two forms differ by {difference}"
            stage, backbone = build(kind, graph, dim)
            reference = Reference(backbone, graph)
            fast = Adam(backbone.parameters(), lr=1e-3, fused=True)
            usual = Adam(backbone.parameters(), lr=1e-3)
            ours: list[float] = []
            theirs: list[float] = []
            for _ in range(3):  # alternating, because the speed of the machine varies
                ours.append(seconds(lambda: step(lambda: total_loss(stage, batch), fast), 5))  # noqa: B023
                theirs.append(seconds(lambda: step(lambda: reference.loss(batch, L2_WEIGHT), usual), 3))  # noqa: B023
            figures = {"ours_ms": min(ours) * 1e3, "usual_ms": min(theirs) * 1e3, "ratio": min(theirs) / min(ours)}
            append(
                "training",
                {
                    "part": "steps",
                    "dataset": interactions.name,
                    "backbone": kind.__name__,
                    "embedding_dim": dim,
                    "batch_size": batch_size,
                    "metrics": figures,
                },
            )
            row = (
                f"{figures['ours_ms']:.1f}",
                f"{figures['usual_ms']:.1f}",
                f"{figures['ratio']:.1f}",
                f"{difference:.0e}",
            )
            table.add_row(kind.__name__, str(batch_size), *row)
    Console().print(table)


def compiled(interactions: Interactions, dim: int, batch_sizes: list[int]) -> None:
    """Time a step of each backbone with and without torch.compile, alternating, in one process.

    As in training, the steps use several batches with different numbers of unique users and items: code compiled for
    the shapes of a single batch would look faster than it is.
    """
    graph = build_graph(interactions.train)
    table = Table("backbone", "batch", "eager, ms", "compiled, ms", "ratio", "first calls, s", title=f"a step, {dim}-d")
    for kind in BACKBONES:
        for batch_size in batch_sizes:
            batches = cycle(list(islice(TrainingLoader(interactions.train, batch_size=batch_size), 8)))
            stage, backbone = build(kind, graph, dim)
            optimizer = Adam(backbone.parameters(), lr=1e-3, fused=True)
            torch.compiler.reset()
            forms = [
                partial(step_on_next, loss, stage, batches, optimizer)
                for loss in (total_loss, torch.compile(total_loss))
            ]
            about = {"dataset": interactions.name, "backbone": kind.__name__, "embedding_dim": dim}
            about |= {"part": "compile", "batch_size": batch_size}
            start = time.perf_counter()
            try:
                for _ in range(3):  # several shapes: after the second, the compiler generates code for dynamic shapes
                    forms[1]()
            except RuntimeError as error:  # the compiler's own
                message = f"{type(error).__name__}: {error}".splitlines()[0]
                append("training", {**about, "error": message})
                table.add_row(kind.__name__, str(batch_size), "", message)
                continue
            first = time.perf_counter() - start
            eager, fast = (
                min(times) for times in zip(*([seconds(form, 8) for form in forms] for _ in range(3)), strict=True)
            )
            figures = {
                "eager_ms": 1e3 * eager,
                "compiled_ms": 1e3 * fast,
                "ratio": eager / fast,
                "first_seconds": first,
            }
            append("training", {**about, "metrics": figures})
            row = f"{1e3 * eager:.1f}", f"{1e3 * fast:.1f}", f"{eager / fast:.2f}", f"{first:.0f}"
            table.add_row(kind.__name__, str(batch_size), *row)
    Console().print(table)


def validate(embeddings: Embeddings, interactions: Interactions, tile: int) -> tuple[dict[str, float], str]:
    """Metrics of a full-ranking validation, and their bits."""
    metrics = ranking_metrics([20], "")
    ranker = Ranker(embeddings)
    for batch in EvaluationLoader(interactions.train, interactions.valid, batch_size=tile):
        metrics.update(*find_hits(ranker.rank(batch, 20), batch, interactions.num_items))
    values = metrics.compute()
    return {key: value.item() for key, value in values.items()}, str([value.item().hex() for value in values.values()])


def evaluation(interactions: Interactions, dim: int) -> None:
    """Time a validation of a GMF trained for a few epochs, in both implementations."""
    graph = build_graph(interactions.train)
    stage, backbone = build(GMF, graph, dim)
    optimizer = Adam(backbone.parameters(), lr=3e-3, fused=True)
    epoch = 0
    loader = TrainingLoader(interactions.train, batch_size=2048, epoch=lambda: epoch)
    for epoch in range(15):  # noqa: B007 the loader reads it
        for batch in loader:
            step(lambda: total_loss(stage, batch), optimizer)  # noqa: B023
    with torch.no_grad():
        embeddings = backbone(graph)
        bits = {tile: validate(embeddings, interactions, tile)[1] for tile in (64, 500, 1024, 4096)}
        usual = evaluate(embeddings, interactions, 20)
        ours = validate(embeddings, interactions, 1024)[0]
        times = [
            (
                seconds(lambda: validate(embeddings, interactions, 1024), 5),
                seconds(lambda: evaluate(embeddings, interactions, 20), 1),
            )
            for _ in range(3)
        ]
    assert len(set(bits.values())) == 1, bits
    assert all(math.isclose(ours[key], usual[key], abs_tol=1e-4) for key in ours), (ours, usual)
    fast, slow = (min(column) for column in zip(*times, strict=True))
    num_users = int((np.diff(interactions.valid.indptr) > 0).sum())
    figures = {"seconds": fast, "usual_seconds": slow, "ratio": slow / fast, "users_per_second": num_users / fast}
    append("training", {"part": "evaluation", "dataset": interactions.name, "embedding_dim": dim, "metrics": figures})
    print(f"validation of {num_users} users: {fast:.3f} s, usual form {slow:.2f} s ({slow / fast:.0f} times), ", end="")
    print(f"{num_users / fast:,.0f} users/s; the same bits for tiles of {sorted(bits)} users")


def fit(config: Path, data: Path, seed: int, run: Path, *options: object) -> float:
    """Fit a configuration in a process of its own, and return its seconds from start to end."""
    command = [sys.executable, "-m", "face_lightning.cli", "fit", "--config", config, "--run_dir", run, *options]
    command += ["--data.reader.init_args.root", data, "--if_exists", "overwrite", "--seed_everything", seed]
    command += ["--trainer.enable_progress_bar", "false"]
    start = time.perf_counter()
    subprocess.run([str(part) for part in command], check=True)
    return time.perf_counter() - start


def target(config: Path, data: Path, recall: float, seed: int) -> None:
    """Time from the start of the command to a validation Recall@20, and test metrics of that epoch."""
    run = Path("runs/benchmarks/training") / f"{config.parent.name}-{config.stem}-{seed}"
    elapsed = fit(config, data, seed, run, "--early_stopping.stopping_threshold", recall)
    result = json.loads((run / "result.json").read_text())
    figures = {"seconds": elapsed, "test/recall@20": result["metrics"]["test/recall@20"], "epochs": result["epochs"]}
    record = {"part": "target", "config": str(config), "seed": seed, "val/recall@20": recall, "metrics": figures}
    append("training", record)
    print(f"{config}: validation Recall@20 {recall} after {elapsed:.0f} s, {figures}")


def duration(minutes: float) -> str:
    """Minutes in the format of Lightning's timer: days, hours, minutes and seconds."""
    whole = round(60 * minutes)
    return f"{whole // 86400:02}:{whole // 3600 % 24:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def batches(config: Path, data: Path, batch_sizes: list[int], minutes: float, seed: int) -> None:
    """Train with each batch size for the same time, at a constant learning rate proportional to its square root."""
    moments = [60 * minutes * part for part in (0.25, 0.5, 1)]
    table = Table("batch", "rate", "epochs", *(f"{moment:.0f} s" for moment in moments), title=f"{config}, validation")
    for batch_size in batch_sizes:
        run = Path("runs/benchmarks/training") / f"{config.parent.name}-{config.stem}-batch-{batch_size}-{seed}"
        rate = RATE * math.sqrt(batch_size / 4096)
        options = ["--data.batch_size", batch_size, "--model.init_args.optimizer.init_args.lr", rate]
        options += ["--model.init_args.scheduler", "null", "--early_stopping.patience", 1000]
        options += ["--trainer.max_epochs", 1000, "--trainer.check_val_every_n_epoch", max(1, batch_size // 2048)]
        options += ["--trainer.max_time", duration(minutes)]
        fit(config, data, seed, run, *options)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        curve = [(round(row["seconds"], 1), row["val/recall@20"]) for row in rows if "val/recall@20" in row]
        best = [max((recall for second, recall in curve if second <= moment), default=0.0) for moment in moments]
        settings = {"config": str(config), "batch_size": batch_size, "lr": rate, "seed": seed, "minutes": minutes}
        append("training", {"part": "batches", **settings, "threads": torch.get_num_threads(), "curve": curve})
        table.add_row(str(batch_size), f"{rate:.2g}", str(rows[-1]["epoch"] + 1), *(f"{value:.4f}" for value in best))
    Console().print(table)


def main() -> None:
    """Run the selected parts."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["steps", "evaluation", "scaling"])
    parser.add_argument("--data", type=Path, default=shared_data() / "amazon-book")
    parser.add_argument("--embedding_dim", type=int, default=256)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--config", type=Path, help="target, batches: a stage-1 configuration")
    parser.add_argument("--recall", type=float, help="target: validation Recall@20 to reach")
    parser.add_argument("--minutes", type=float, default=2, help="batches: minutes per batch size")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    interactions = None
    if {"steps", "compile", "evaluation"} & set(arguments.parts):
        if not arguments.data.is_dir():
            raise SystemExit(f"{arguments.data} is not there: give a folder with --data, or set FACE_SHARED_DATA")
        interactions = RLMRecFolder(arguments.data).read().interactions
    for part in arguments.parts:
        if part == "steps" and interactions is not None:
            steps(interactions, arguments.embedding_dim, arguments.batch_sizes)
        elif part == "compile" and interactions is not None:
            compiled(interactions, arguments.embedding_dim, arguments.batch_sizes)
        elif part == "evaluation" and interactions is not None:
            evaluation(interactions, arguments.embedding_dim)
        elif part == "target":
            target(arguments.config, arguments.data, arguments.recall, arguments.seed)
        elif part == "batches":
            batches(arguments.config, arguments.data, arguments.batch_sizes, arguments.minutes, arguments.seed)
        elif part in ("scaling", "sweeps"):
            scaling(part, arguments.sizes, 64, 50 if part == "scaling" else 3)
        else:
            known = "steps, compile, evaluation, target, batches, scaling or sweeps"
            raise SystemExit(f"parts: expected {known}, got {part!r}")


if __name__ == "__main__":
    main()
