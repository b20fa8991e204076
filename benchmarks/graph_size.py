"""Growth of time and memory of an epoch with the interactions: parts scaling and sweeps of `benchmarks.training`."""

import json
import resource
import statistics
import subprocess
import sys
import time
from itertools import groupby

import numpy as np
import scipy.sparse as sp
import torch
from rich.console import Console
from rich.table import Table
from torch.optim import Adam

from benchmarks.bare_stage import build, total_loss
from benchmarks.records import append
from face_lightning.allocator import keep_freed_memory  # noqa: F401 for the process of each size
from face_lightning.backbones import LightGCN
from face_lightning.data.row_tiles import RowLoader
from face_lightning.data.sampling import TrainingLoader
from face_lightning.graph import build_graph
from face_lightning.losses.weighted_squares import default_unobserved_weight, regularization_of_rows
from face_lightning.row_solver import RowSolver


def generated(num_interactions: int, seed: int = 0) -> sp.csr_array:
    """Random interactions with skewed popularity: 50 per user, half as many items as users."""
    draws = np.random.default_rng(seed)
    num_users, num_items = num_interactions // 50, num_interactions // 100
    users = draws.integers(0, num_users, num_interactions, dtype=np.int64)
    items = (num_items * draws.random(num_interactions) ** 2).astype(np.int64)
    pairs = np.unique(users * num_items + items)
    matrix = sp.csr_array(
        (np.ones(len(pairs), dtype=np.float32), (pairs // num_items, pairs % num_items)), shape=(num_users, num_items)
    )
    matrix.sort_indices()
    return matrix


def scaling_point(num_interactions: int, dim: int, num_steps: int) -> dict[str, float]:
    """Time an epoch of LightGCN with `num_steps` steps on a generated graph, in this process."""
    train = generated(num_interactions)
    graph = build_graph(train)
    stage, backbone = build(LightGCN, graph, dim)
    optimizer = Adam(backbone.parameters(), lr=1e-3, fused=True)
    loader = TrainingLoader(train, batch_size=-(-train.nnz // num_steps))
    start, losses = time.perf_counter(), []
    for batch in loader:
        optimizer.zero_grad()
        loss = total_loss(stage, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    elapsed = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "interactions": train.nnz,
        "epoch_seconds": elapsed,
        "peak_mib": peak,
        "first": losses[0],
        "last": losses[-1],
    }


def sweep_point(num_interactions: int, dim: int, num_sweeps: int) -> dict[str, float]:
    """Median time of a least-squares sweep over users and items of a generated graph, in this process."""
    train = generated(num_interactions)
    graph = build_graph(train)
    weight = default_unobserved_weight(graph.num_interactions, graph.num_users, graph.num_items)
    regularization = regularization_of_rows(graph, weight, 1.0, 0.5)
    tables = [torch.randn(size, dim, generator=torch.Generator().manual_seed(0)) for size in train.shape]
    loader, times = RowLoader(train, batch_size=2**16), []
    for _ in range(num_sweeps):
        start = time.perf_counter()
        for of_users, tiles in groupby(loader, key=lambda batch: batch.of_users):
            side = 0 if of_users else 1
            solver = RowSolver(tables[1 - side], weight)
            for batch in tiles:
                rows = solver.solve(batch.column_ids, batch.lengths, regularization[side][batch.row_ids])
                tables[side].index_copy_(0, batch.row_ids, rows)
        times.append(time.perf_counter() - start)
    assert all(table.isfinite().all() for table in tables)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"interactions": train.nnz, "epoch_seconds": statistics.median(times), "peak_mib": peak}


def scaling(part: str, sizes: list[int], dim: int, count: int) -> None:
    """Run each size in a process of its own, so that peak memory is measured separately.

    Args:
        part: "scaling" or "sweeps".
        sizes: Numbers of interactions.
        dim: D.
        count: Steps per epoch, or number of sweeps.
    """
    point = {"scaling": "scaling_point", "sweeps": "sweep_point"}[part]
    table = Table("interactions", "epoch, s", "s per million", "peak, MiB", title=f"{part}, {dim}-d")
    for size in sizes:
        code = "import json; from benchmarks.graph_size import *; keep_freed_memory(); "
        code += f"print(json.dumps({point}({size}, {dim}, {count})))"
        out = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
        figures = json.loads(out.stdout.splitlines()[-1])
        counted = {"num_steps" if part == "scaling" else "num_sweeps": count}
        append("training", {"part": part, "embedding_dim": dim, **counted, "metrics": figures})
        per_million = figures["epoch_seconds"] / figures["interactions"] * 1e6
        row = f"{figures['epoch_seconds']:.1f}", f"{per_million:.2f}", f"{figures['peak_mib']:.0f}"
        table.add_row(f"{figures['interactions']:,}", *row)
    Console().print(table)
