"""Throughput and memory of 1 and 2 processes, and a prediction for many: python -m benchmarks.scaling.

The first table is measured on random interactions with the same global batch. The second, also measured, is the memory
of processes that share the columns of large tables (`column_parallel`). The third is a prediction: bytes and
floating-point operations of a step, counted from the code, divided by the peak rates of the hardware. It has not been
checked on such hardware.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import yaml
from rich.console import Console
from rich.table import Table
from scipy.sparse import coo_array, csr_array

from benchmarks.records import append
from face_lightning.backbones import LightGCN
from face_lightning.graph import build_graph
from face_lightning.parallel.column_shards import ColumnShards, sum_of_columns
from face_lightning.runs.recorder import peak_mib

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Hardware:
    """Peak rates of a device and of the links between devices."""

    flops: float = 60e12  # float32 matrix products of an H100
    memory: float = 3.35e12  # bytes per second from HBM3
    node_link: float = 450e9  # bytes per second to other devices of a node (NVLink, one direction)
    net_link: float = 50e9  # bytes per second between nodes, per device (400 Gbit/s)


@dataclass(frozen=True)
class Problem:
    """Sizes of a data set, a backbone and a step; batch and entities per device."""

    name: str
    num_users: int
    num_items: int
    num_interactions: int
    embedding_dim: int = 256
    num_layers: int = 3
    batch_size: int = 4096
    entities: int = 256
    aligned: int = 128
    num_descriptors: int = 16
    concept_dim: int = 256
    vocabulary: int = 10_000
    feedforward_dim: int = 512
    encoder_parameters: int = 10_600_000  # all-MiniLM-L6-v2 without its embeddings
    tokens: int = 24  # of a prompt with 16 words

    @property
    def table(self) -> int:
        """Numbers in the embedding tables."""
        return (self.num_users + self.num_items) * self.embedding_dim

    @property
    def mapper(self) -> int:
        """Trainable numbers of the mapper: projections, two transformer layers, codebook's map, output."""
        dim, descriptors = self.concept_dim, self.num_descriptors
        projection = descriptors * dim * (self.embedding_dim + 1)
        layers = 2 * (4 * dim * dim + 2 * dim * self.feedforward_dim)
        return projection + layers + dim * dim + descriptors * dim * self.embedding_dim


@dataclass(frozen=True)
class Step:
    """Operations, memory traffic and communication of a step, per device."""

    flops: float
    memory: float
    gradient: float

    def __add__(self, other: "Step") -> "Step":
        return Step(self.flops + other.flops, self.memory + other.memory, self.gradient + other.gradient)

    def seconds(self, num_devices: int, per_node: int, hardware: Hardware) -> dict[str, float]:
        """Seconds of each part: products, memory, and a ring all-reduce of the gradients over all devices."""
        link = hardware.node_link if num_devices <= per_node else hardware.net_link
        ring = 2 * (num_devices - 1) / num_devices * self.gradient / link
        return {"products": self.flops / hardware.flops, "memory": self.memory / hardware.memory, "gradients": ring}


def recommendation(problem: Problem) -> Step:
    """Forward and backward propagation of the whole graph, rows of the batch, and Adam over the whole table.

    Each layer reads a row for both directions of each interaction, and again in the backward pass. Adam reads weight,
    gradient and two moments, and writes three of them.
    """
    directed = 2 * problem.num_interactions * problem.embedding_dim * problem.num_layers
    rows = 3 * problem.batch_size * problem.embedding_dim
    layers = 2 * (problem.num_layers + 1) * problem.table
    return Step(
        flops=2 * 2 * directed + 6 * rows,
        memory=FLOAT * (2 * directed + layers + 4 * rows + 7 * problem.table),
        gradient=FLOAT * problem.table,
    )


def mapping(problem: Problem) -> Step:
    """Forward and backward pass of the mapper (three products each), search over the codebook, and Adam."""
    slots = problem.entities * problem.num_descriptors
    dense = problem.mapper - problem.num_descriptors * problem.concept_dim * 2 * problem.embedding_dim
    per_entity = 2 * problem.num_descriptors * problem.concept_dim * problem.embedding_dim
    search = slots * problem.concept_dim * problem.vocabulary
    products = slots * dense + problem.entities * per_entity
    codebook = problem.vocabulary * problem.concept_dim**2
    return Step(
        flops=2 * (3 * products + search + 3 * codebook),
        memory=FLOAT * (10 * problem.mapper + 3 * slots * problem.vocabulary),
        gradient=FLOAT * problem.mapper,
    )


def alignment(problem: Problem) -> Step:
    """Forward pass of the frozen encoder, and backward pass to its inputs."""
    return Step(
        flops=2 * 2 * problem.encoder_parameters * problem.aligned * problem.tokens,
        memory=FLOAT * 3 * problem.encoder_parameters,
        gradient=0,
    )


def predict(problem: Problem, hardware: Hardware) -> list[dict[str, Any]]:
    """Rows for each stage on 1 device, 8 devices of a node, and 8 nodes of 8."""
    ranking, words = recommendation(problem), mapping(problem)
    stages = {"stage 1": ranking, "stage 2": words, "stage 3": ranking + words + alignment(problem)}
    rows = []
    for stage, step in stages.items():
        for devices in (1, 8, 64):
            parts = step.seconds(devices, 8, hardware)
            total = max(parts["products"], parts["memory"]) + parts["gradients"]
            rows.append(
                {
                    "problem": problem.name,
                    "stage": stage,
                    "devices": devices,
                    "gflop": step.flops / 1e9,
                    "mb_memory": step.memory / 1e6,
                    "mb_sent": step.gradient / 1e6,
                    "ms": 1e3 * total,
                    "samples_per_second": devices
                    * (problem.entities if stage == "stage 2" else problem.batch_size)
                    / total,
                    "limit": max(parts, key=lambda part: parts[part]),
                }
            )
    return rows


def measure(folder: Path, num_processes: int, global_batch: int, dim: int, epochs: int) -> dict[str, float]:
    """Run the command; interactions per second after the first epoch, and memory of the first process."""
    run = folder / f"run-{num_processes}"
    config = {
        "run_dir": str(run),
        "data": {
            "reader": {"class_path": "RLMRecFolder", "init_args": {"root": str(folder / "data"), "domain": "item"}},
            "batch_size": global_batch // num_processes,
        },
        "trainer": {"max_epochs": epochs, "accelerator": "cpu", "enable_progress_bar": False},
        "model": {
            "class_path": "PretrainingStage",
            "init_args": {"backbone": {"class_path": "LightGCN", "init_args": {"embedding_dim": dim}}},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "face_lightning.cli", "fit", "--config", str(folder / "config.yaml")]
    if num_processes > 1:
        command += ["--trainer.devices", str(num_processes), "--trainer.strategy", "ddp"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = rows[-1]["step"] - rows[0]["step"]
    seconds = rows[-1]["seconds"] - rows[0]["seconds"]
    result = json.loads((run / "result.json").read_text())
    return {"interactions_per_second": steps * global_batch / seconds, "peak_mib": result["peak_mib"]}


def write_random(folder: Path, num_users: int, num_items: int, num_interactions: int) -> None:
    """Write random interactions, most of them for training, in RLMRec's format."""
    draws = np.random.default_rng(0)
    pairs = np.unique(draws.integers(0, num_users * num_items, num_interactions))
    split = draws.choice(3, size=len(pairs), p=(0.8, 0.1, 0.1))
    folder.mkdir(parents=True)
    for number, name in enumerate(("trn", "val", "tst")):
        own = pairs[split == number]
        matrix = coo_array((np.ones(len(own), np.float32), (own // num_items, own % num_items)), (num_users, num_items))
        (folder / f"{name}_mat.pkl").write_bytes(pickle.dumps(matrix.tocsr()))


def measure_columns(num_nodes: int, dim: int) -> list[dict[str, Any]]:
    """Memory growth of processes that train on columns of a large table; size of the table with Adam's state."""
    rows = []
    for count in (1, 2, 4):
        with tempfile.TemporaryDirectory() as name:
            arguments = f"{name}/meeting", count, num_nodes, dim
            torch.multiprocessing.spawn(_train_on_columns, arguments, count)  # type: ignore[attr-defined,no-untyped-call]
            grown = json.loads(Path(name, "grown").read_text())
        state = 4 * FLOAT * num_nodes * dim / count / 2**20  # weight, gradient, two moments
        figures = {"state_mib": state, "grows_by_mib": grown}
        rows.append({"processes": count, **figures})
        append("scaling", {"variant": f"columns over {count}", "embedding_dim": dim, "metrics": figures})
    return rows


def _train_on_columns(rank: int, meeting: str, count: int, num_nodes: int, dim: int) -> None:
    """Train LightGCN for three steps; the first process writes its peak memory growth in MiB."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    num_users = num_nodes * 3 // 4
    draws = np.random.default_rng(0)
    cells = (
        np.ones(num_nodes, np.float32),
        (draws.integers(0, num_users, num_nodes), draws.integers(0, 10**4, num_nodes)),
    )
    graph = build_graph(csr_array(coo_array(cells, (num_users, num_nodes - num_users))))
    graph.propagate(torch.zeros(num_nodes, 1))  # warm-up: allocates buffers
    before = peak_mib()
    backbone = LightGCN(num_users, num_nodes - num_users, dim, keep_edges=1.0)
    ColumnShards().keep_own_part(backbone)
    optimizer = torch.optim.Adam(backbone.parameters(), fused=True)
    for _ in range(3):
        users, items = backbone(graph)
        scores = sum_of_columns((users[:4096] * items[:4096]).sum(1))
        optimizer.zero_grad()
        torch.nn.functional.softplus(-scores).mean().backward()
        optimizer.step()
        del users, items, scores
    if rank == 0:
        Path(meeting).with_name("grown").write_text(json.dumps(peak_mib() - before))
    dist.destroy_process_group()


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows that have the same keys."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{value:,.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=4000)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--interactions", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8192, help="batch size over all processes")
    parser.add_argument("--nodes", type=int, default=400_000, help="of the table whose columns are shared")
    parser.add_argument("--parts", nargs="+", default=["rows", "columns", "prediction"])
    options = parser.parse_args()
    if "rows" in options.parts:
        measured = []
        with tempfile.TemporaryDirectory() as name:
            write_random(Path(name) / "data", options.users, options.items, options.interactions)
            for count in (1, 2):
                figures = measure(Path(name), count, options.batch, options.dim, options.epochs)
                measured.append({"processes": count, **figures})
                append("scaling", {"variant": f"{count} processes", "embedding_dim": options.dim, "metrics": figures})
        show("Measured here: LightGCN, one thread a process, the same global batch", measured)
    if "columns" in options.parts:
        show(
            "Measured here: a process that holds its columns of the tables",
            measure_columns(options.nodes, 2 * options.dim),
        )
    if "prediction" not in options.parts:
        return
    problems = (
        Problem("amazon-book", 11_000, 9_332, 120_464),
        Problem("1M users", 1_000_000, 300_000, 30_000_000),
    )
    hardware = Hardware()
    for problem in problems:
        show(f"PREDICTED, {problem.name}, {hardware}", predict(problem, hardware))


if __name__ == "__main__":
    main()
