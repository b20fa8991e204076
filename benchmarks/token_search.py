"""Speed and memory of the exact token searches: python -m benchmarks.token_search.

For several numbers of queries (B x S), numbers of codes (V) and widths (d), on random unit vectors, which are the
hardest case for a search by rounded products. Measures milliseconds to find the best token of every query, also
relative to the throughput of matrix products in the same number format; the time to load new codes; and the memory of
the first search beyond codes, index and queries. Each case runs in a process of its own. The results of all backends
are compared: where two differ, their scores in float64 must be equal up to float32 rounding.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from face_lightning.hardware import has_bfloat16
from face_lightning.mapping.search import SearchBackend, build_search

BACKENDS: tuple[SearchBackend, ...] = ("faiss", "torch", "bfloat16")


def unit_vectors(rows: int, dim: int, seed: int) -> Tensor:
    """Random directions, the same on every device."""
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def clock(device: torch.device) -> str:
    """Clock of a case: with one thread, processor time, which other programs do not affect."""
    return "work" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"


def finished(device: torch.device) -> float:
    """Time after synchronising the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() if clock(device) == "work" else time.perf_counter()


def seconds(run: Callable[[], object], device: torch.device, least: int, budget: float) -> float:
    """Median time of at least `least` calls, and of more calls within a budget of seconds."""
    times: list[float] = []
    while len(times) < least or (sum(times) < budget and len(times) < 20):
        start = finished(device)
        run()
        times.append(finished(device) - start)
    return statistics.median(times)


PEAK_SIZES = ((2048, 2048, 2048), (4096, 1024, 4096), (1024, 256, 16384), (4096, 4096, 4096))


def peak(number_format: torch.dtype, device: torch.device, sizes: Sequence[tuple[int, int, int]] = PEAK_SIZES) -> float:
    """Maximum floating-point operations per second of matrix products over several sizes."""
    best = 0.0
    for rows, inner, columns in sizes:
        left = torch.randn(rows, inner, device=device).to(number_format)
        right = torch.randn(columns, inner, device=device).to(number_format)
        (lambda a=left, b=right: a @ b.T)()
        taken = seconds(lambda a=left, b=right: a @ b.T, device, least=3, budget=0.3)
        best = max(best, 2 * rows * inner * columns / taken)
    return best


def memory(device: torch.device, reset: bool = False) -> float:
    """Peak memory since the last reset, in MiB: of the process, or of the GPU that the process uses."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**10


def measure(
    backend: SearchBackend, num_queries: int, num_codes: int, dim: int, device: torch.device, out: Path
) -> dict[str, Any]:
    """One case, in this process."""
    codes, queries = (unit_vectors(rows, dim, seed).to(device) for rows, seed in ((num_codes, 0), (num_queries, 1)))
    search = build_search(backend, device)
    start = finished(device)
    search.refresh(codes)
    refresh = finished(device) - start
    before = memory(device, reset=True)
    start = finished(device)
    tokens = search.search(queries, 1)
    first = finished(device) - start
    extra = memory(device) - before
    again = first if first > 5 else seconds(lambda: search.search(queries, 1), device, least=1, budget=0.5)
    refresh = min(refresh, seconds(lambda: search.refresh(codes), device, least=1, budget=0.1))
    np.save(out, tokens.cpu().numpy())
    return {"ms": 1e3 * min(again, first), "refresh_ms": 1e3 * refresh, "extra_mib": extra}


def compare(files: dict[str, Path], num_queries: int, num_codes: int, dim: int) -> int:
    """Number of queries for which backends differ; all of these must be ties up to rounding.

    Raises:
        SystemExit: If a difference is more than rounding explains.
    """
    answers = {name: torch.from_numpy(np.load(path)).squeeze(1) for name, path in files.items()}
    first, *others = answers.values()
    rows = torch.stack([tokens != first for tokens in others]).any(0).nonzero().squeeze(1) if others else first[:0]
    if len(rows):
        codes, queries = unit_vectors(num_codes, dim, 0), unit_vectors(num_queries, dim, 1)[rows].double()
        scores = torch.stack([(codes[tokens[rows]].double() * queries).sum(1) for tokens in answers.values()])
        gap = float((scores.amax(0) - scores.amin(0)).max())
        if gap > 2 * dim**0.5 * torch.finfo(torch.float32).eps:
            raise SystemExit(f"the backends {', '.join(answers)} give answers whose scores differ by {gap}")
    return len(rows)


def run_case(backends: list[str], sizes: tuple[int, int, int], device: str, peaks: dict[str, float]) -> list[list[str]]:
    """Measure and record a case by all backends, each in a process of its own; rows of a table."""
    from benchmarks.records import append  # heavy import that the processes of a case do not need

    num_queries, num_codes, dim = sizes
    rows, found = [], {}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.npy" for name in backends}
        for name, path in files.items():
            child = [sys.executable, "-m", "benchmarks.token_search", "--one", name, "--out", str(path)]
            child += ["--device", device, *(str(number) for number in ("--queries", num_queries))]
            child += [str(number) for number in ("--codes", num_codes, "--dims", dim)]
            done = subprocess.run(child, check=True, capture_output=True, text=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
        differing = compare(files, num_queries, num_codes, dim)
    for name, figures in found.items():
        reached = 2 * num_queries * num_codes * dim / (figures["ms"] / 1e3)
        number_format = "bfloat16" if name == "bfloat16" and "bfloat16" in peaks else "float32"
        figures |= {"share_of_peak": reached / peaks[number_format], "peak_format": number_format}
        figures |= {"share_of_float32_peak": reached / peaks["float32"], "rounding_ties": differing}
        append(
            "token_search",
            {
                "variant": name,
                "num_queries": num_queries,
                "num_codes": num_codes,
                "dim": dim,
                "device": device,
                "threads": torch.get_num_threads(),
                "clock": clock(torch.device(device)),
                "peak_gflops": {key: round(value / 1e9, 1) for key, value in peaks.items()},
                "metrics": figures,
            },
        )
        cells = (f"{figures['ms']:,.1f}", f"{figures['refresh_ms']:,.1f}", f"{figures['share_of_peak']:.0%}")
        rows.append([f"{num_queries:,}", f"{num_codes:,}", f"{dim:,}", name, *cells, f"{figures['extra_mib']:,.0f}"])
    return rows


def main() -> None:
    """Measure all cases, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, nargs="+", default=[1_000, 12_000, 100_000])
    parser.add_argument("--codes", type=int, nargs="+", default=[10_000, 50_000, 150_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--one", choices=BACKENDS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.one is not None:
        sizes = arguments.queries[0], arguments.codes[0], arguments.dims[0]
        print(json.dumps(measure(arguments.one, *sizes, device, arguments.out)))
        return
    formats = [torch.float32, *([torch.bfloat16] if has_bfloat16(device) else [])]
    peaks = {str(number_format).removeprefix("torch."): peak(number_format, device) for number_format in formats}
    reached = ", ".join(f"{name} {value / 1e9:,.0f}" for name, value in peaks.items())
    columns = ("queries", "codes", "d", "backend", "ms", "refresh, ms", "of peak", "extra MiB")
    table = Table(*columns, title=f"best token, {device.type}, {torch.get_num_threads()} threads; GFLOP/s: {reached}")
    for dim in arguments.dims:
        for num_codes in arguments.codes:
            for num_queries in arguments.queries:
                for row in run_case(arguments.backends, (num_queries, num_codes, dim), arguments.device, peaks):
                    table.add_row(*row)
                table.add_section()
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
