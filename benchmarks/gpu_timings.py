"""Timings on one device, one JSON line per case: python -m benchmarks.gpu_timings PART --device cuda.

`benchmarks.gpu_check` runs each part in a process of its own. Epochs of more than a few seconds are extrapolated from
their first steps (`steps` of `steps_per_epoch`), rankings from some of the users.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks import device_stages
from benchmarks.device_stages import STAGES, Size, Stepper
from benchmarks.synchronisations import counting
from benchmarks.token_search import PEAK_SIZES, finished, memory, peak, seconds, unit_vectors
from face_lightning.hardware import has_bfloat16
from face_lightning.mapping.gpu_search import has_faiss_gpu
from face_lightning.mapping.search import SearchBackend, build_search
from face_lightning.ranking import Ranker
from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.inference import write_data, write_embeddings
from face_lightning.structures import Embeddings, EvaluationBatch

Record = dict[str, Any]
SIZES = (
    Size("ml-100k", 943, 1_682, 80_000),
    Size("steam-vt", 23_310, 5_237, 316_000),
    Size("amazon-book", 11_000, 9_332, 120_000),
    Size("10^7 interactions", 200_000, 100_000, 10**7, embedding_dim=64, batch_size=65_536),
)
TINY = Size("tiny", 60, 40, 800, 16, 64, 24, 300, 32, 1, narrow_mapper=True)


def epochs(device: torch.device, budget: float, reduced: bool) -> Iterator[Record]:
    """Time an epoch of each stage with LightGCN on generated data of several sizes."""
    for size in (TINY,) if reduced else SIZES:
        train = device_stages.interactions(size)
        for name in STAGES:
            memory(device, reset=True)
            stage = device_stages.build(name, train, size, device)
            stepper = Stepper(name, stage, train, size)
            losses = [float(stepper.step()) for _ in range(2)]
            times: list[float] = []
            begun = time.perf_counter()
            while len(times) < 2 or (len(times) < stepper.steps_per_epoch and time.perf_counter() - begun < budget):
                start = finished(device)
                losses.append(float(stepper.step()))
                times.append(finished(device) - start)
            assert np.isfinite(losses).all(), f"{size.name}, {name}: the loss is not finite"
            step = statistics.median(times)
            figures = {"seconds": step * stepper.steps_per_epoch, "step_ms": 1e3 * step, "peak_mib": memory(device)}
            figures |= {"steps": len(times), "steps_per_epoch": stepper.steps_per_epoch}
            yield {"case": f"epoch of {name}, {size.name}", "metrics": figures}


def token_search(device: torch.device, budget: float, reduced: bool) -> Iterator[Record]:
    """Time every backend of the token search, relative to the throughput of matrix products."""
    num_queries, num_codes, dim = (200, 500, 32) if reduced else (12_000, 50_000, 256)
    queries, codes = (unit_vectors(rows, dim, seed).to(device) for rows, seed in ((num_queries, 1), (num_codes, 0)))
    backends: list[SearchBackend] = ["torch", "bfloat16"] if has_bfloat16(device) else ["torch"]
    if device.type == "cpu" or has_faiss_gpu():
        backends.append("faiss")
    formats = [torch.float32, *([torch.bfloat16] if has_bfloat16(device) else [])]
    sizes = (
        ((256, 256, 256),) if reduced else ((8192, 8192, 8192), *PEAK_SIZES) if device.type == "cuda" else PEAK_SIZES
    )
    peaks = {number_format: peak(number_format, device, sizes) for number_format in formats}
    answers: dict[str, Tensor] = {}
    for backend in backends:
        search = build_search(backend, device)
        search.refresh(codes)
        answers[backend] = search.search(queries, 1)
        before = memory(device, reset=True)
        taken = seconds(lambda: search.search(queries, 1), device, 2, budget / 8)  # noqa: B023
        refresh = seconds(lambda: search.refresh(codes), device, 2, budget / 8)  # noqa: B023
        number_format = torch.bfloat16 if backend == "bfloat16" else torch.float32
        share = 2 * num_queries * num_codes * dim / taken / peaks[number_format]
        figures = {"seconds": taken, "refresh_ms": 1e3 * refresh, "share_of_peak": share}
        figures |= {"extra_mib": memory(device) - before, "peak_tflops": peaks[number_format] / 1e12}
        yield {"case": f"token search by {backend}", "metrics": figures}
    scores = {name: (queries * codes[tokens.squeeze(1)]).double().sum(1) for name, tokens in answers.items()}
    for name, found in scores.items():
        assert (found - scores["torch"]).abs().max() < 1e-5, f"{name} and torch find tokens of other scores"


def ranking(device: torch.device, budget: float, reduced: bool) -> Iterator[Record]:
    """Ranking of 10^5 items for 10^6 users at 64-d, K = 20."""
    num_users, num_items = (2_000, 500) if reduced else (10**6, 10**5)
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(rows, 64, generator=generator).to(device) for rows in (num_users, num_items))
    ranker, nobody = Ranker(Embeddings(users, items)), torch.empty(0, dtype=torch.long, device=device)
    done, tile = 0, 4096 if device.type == "cuda" else 512
    ranker.rank(EvaluationBatch(torch.arange(min(tile, num_users), device=device), nobody, nobody, nobody, nobody), 20)
    start = finished(device)
    while done < num_users and finished(device) - start < 4 * budget:
        ids = torch.arange(done, min(done + tile, num_users), device=device)
        ranker.rank(EvaluationBatch(ids, nobody, nobody, nobody, nobody), 20)
        done += len(ids)
    taken = finished(device) - start
    figures = {"seconds": taken * num_users / done, "users_per_second": done / taken, "users": done}
    yield {"case": f"ranking of {num_users:,} users x {num_items:,} items", "metrics": figures}


def serving(device: torch.device, budget: float, reduced: bool) -> Iterator[Record]:
    """Latencies of a recommender over 10^5 items."""
    num_users, num_items, dim = (50, 200, 16) if reduced else (50_000, 100_000, 64)
    size = Size("served", num_users, num_items, 20 * num_users)
    with tempfile.TemporaryDirectory() as name:
        folder, train = Path(name), device_stages.interactions(size)
        ids = (np.array([f"u{row}" for row in range(num_users)]), np.array([f"i{row}" for row in range(num_items)]))
        write_data(folder, [train, 0 * train, 0 * train], ids, None, "f" * 64)
        generator = torch.Generator().manual_seed(0)
        tables = (torch.randn(rows, dim, generator=generator) for rows in (num_users, num_items))
        write_embeddings(folder, Embeddings(*tables), "f" * 64)
        recommender = Recommender.load(folder, device=device)
        calls: dict[str, Callable[[], object]] = {
            "one user": lambda: recommender.recommend(["u7"], k=20),
            "100 users": lambda: recommender.recommend([f"u{row}" for row in range(min(100, num_users))], k=20),
            "a new user": lambda: recommender.recommend_history([["i1", "i5", "i9"]], k=20),
            "items similar to one": lambda: recommender.similar_items(["i3"], k=20),
        }
        for title, call in calls.items():
            call()
            times: list[float] = []
            while len(times) < 3 or (sum(times) < budget / 4 and len(times) < 200):
                start = finished(device)
                call()
                times.append(finished(device) - start)
            figures = {"seconds": statistics.median(times), "p99_ms": 1e3 * float(np.quantile(times, 0.99))}
            yield {"case": f"serving {title}", "metrics": figures}


def profiles(device: torch.device, budget: float, reduced: bool) -> Iterator[Record]:
    """Profile a step of each stage, including the points where the host waits for the device."""
    del budget
    size = TINY if reduced else SIZES[1]
    train = device_stages.interactions(size)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    for name in STAGES:
        stepper = Stepper(name, device_stages.build(name, train, size, device), train, size)
        for _ in range(3):
            stepper.step()
        counts: Counter[str] = Counter()
        with counting(counts):
            stepper.step()
        start = finished(device)
        with profile(activities=activities) as profiled:
            stepper.step()
            taken = finished(device) - start
        key = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
        rows = sorted(profiled.key_averages(), key=lambda row: -getattr(row, key))
        top = {row.key[:60]: round(getattr(row, key) / 1e3, 3) for row in rows[:8]}
        busy = sum(getattr(row, key) for row in rows) / 1e6
        figures = {"seconds": taken, "busy_seconds": busy, "waits": counts.total(), **_cuda_waits(stepper, device)}
        yield {"case": f"profile of {name}, {size.name}", "metrics": figures, "waits": counts, "top_ms": top}


def _cuda_waits(stepper: Stepper, device: torch.device) -> dict[str, int]:
    """Synchronising calls of a step reported by CUDA's sync debug mode, by call site."""
    if device.type != "cuda":
        return {}
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stepper.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"cuda_waits": sum("synchroniz" in str(warning.message) for warning in caught)}


def capacity(device: torch.device, budget: float, reduced: bool) -> Iterator[Record]:
    """Memory of a step of stage 1 on 10^8 interactions at 64-d, on a GPU; on a CPU 10^6."""
    del budget
    count = 10**4 if reduced else 10**8 if device.type == "cuda" else 10**6
    size = Size("capacity", count // 50, count // 100, count, embedding_dim=64, batch_size=count // 100)
    train = device_stages.interactions(size)
    memory(device, reset=True)
    stepper = Stepper("stage1", device_stages.build("stage1", train, size, device), train, size)
    stepper.step()
    start = finished(device)
    assert torch.isfinite(stepper.step())
    figures = {"seconds": finished(device) - start, "peak_mib": memory(device), "interactions": int(train.nnz)}
    yield {"case": f"step on {count:,} interactions, 64-d", "metrics": figures}


PARTS: dict[str, Callable[[torch.device, float, bool], Iterator[Record]]] = {
    "epochs": epochs,
    "token-search": token_search,
    "ranking": ranking,
    "serving": serving,
    "profiles": profiles,
    "capacity": capacity,
}


def main() -> None:
    """Time the selected parts and print a line per case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds per case")
    parser.add_argument("--reduced", action="store_true", help="tiny sizes, to test the command itself")
    arguments = parser.parse_args()
    for part in arguments.parts:
        for record in PARTS[part](torch.device(arguments.device), arguments.budget, arguments.reduced):
            print(json.dumps({"part": part, "device": arguments.device, **record}), flush=True)


if __name__ == "__main__":
    main()
