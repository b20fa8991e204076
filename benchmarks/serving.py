"""Speed of inference with a finished run: python -m benchmarks.serving PART ... [--items 10000 --dims 64 ...].

- search: top 20 for one user, or many, at a time in Python, exact and by HNSW and IVF at recall@20 >= .99, compared in
  the same process with the top-k of `implicit`, with plain FAISS, and with the bound set by memory bandwidth: the time
  of a sum over the table in float32
- answers: the same for one user with original ids and without the items that the user has seen, by
  `Recommender.recommend`, by `recommend` of a model of `implicit`, and by FAISS with more results and a filter
- http: `face serve` under a closed loop of HTTP clients, for several numbers of connections and cores; the clients are
  a process of their own on the same cores
- batch: `face recommend` for all users into a Parquet file, with peak memory
- run: loading, recommending and describing with a run of yours (--run), in the shell and in Python

With --unrecorded, cases that this commit has on record are not measured again. All parts but the last use generated
runs: Gaussian embeddings whose variances fall as 1 / rank, like those of matrix factorisation, and 20 seen items per
user.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from multiprocessing import get_context
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from benchmarks.generated_run import generate, write_run
from benchmarks.http_load import clients, resident_mib, start_server, wait_for
from benchmarks.records import append, commit, read
from benchmarks.table_format import matches
from face_lightning.inner_product import InnerProductSearch
from face_lightning.recommending.index_search import IndexSearch, build_index
from face_lightning.recommending.recommender import Recommender

TOP_K = 20
RECALL = 0.995  # on the sample for tuning indices, for .99 on other users
ROUNDS = 5  # in which methods take turns
READ = "read"  # name of the method that reads the table


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    ms = 1e3 * np.asarray(seconds)
    return {"p50_ms": float(np.percentile(ms, 50)), "p99_ms": float(np.percentile(ms, 99))}


def clock(answer: Callable[[int], object], budget: float, most: int, least: int = 20) -> list[float]:
    """Seconds of consecutive calls with numbers from 0, after a warm-up call."""
    answer(0)
    times: list[float] = []
    while len(times) < least or (sum(times) < budget and len(times) < most):
        start = time.perf_counter()
        answer(len(times))
        times.append(time.perf_counter() - start)
    return times


def is_wanted(arguments: argparse.Namespace, part: str, num_items: int, dim: int, **more: object) -> bool:
    """Whether to measure a case: with --unrecorded, only if this commit has no record of it."""
    case = {"part": part, "num_items": num_items, "dim": dim, "commit": commit(), **more}
    return not arguments.unrecorded or not any(matches(record, case) for record in read("serving"))


def index_kinds(num_items: int, dim: int, arguments: argparse.Namespace) -> list[str]:
    """Indices to build for a table."""
    return [kind for kind in arguments.indices if kind != "hnsw" or num_items * dim <= arguments.most_hnsw]


Search = Callable[[slice], Any]  # rows of users to their items, `(B, TOP_K)`


def methods(items: Tensor, users: Tensor, indices: Sequence[str]) -> dict[str, tuple[Search, float]]:
    """Methods, each with the seconds of building it."""
    import faiss
    from implicit.cpu.topk import topk  # not in the extras: pip install implicit

    found: dict[str, tuple[Search, float]] = {}
    num_threads = torch.get_num_threads()
    started = time.perf_counter()
    exact = InnerProductSearch(items)
    exact.prepare()
    found["exact"] = partial(_ask, exact, users), time.perf_counter() - started
    table, queries = items.numpy(), users.numpy()
    found["implicit"] = (lambda rows: topk(table, queries[rows], TOP_K, num_threads=num_threads)[0]), 0.0
    found["FAISS flat"] = partial(_ask_faiss, build_index(table, "flat"), queries), 0.0
    for kind in indices:
        started = time.perf_counter()
        faiss.omp_set_num_threads(os.cpu_count() or 1)  # may also set the threads of torch
        search = IndexSearch(items, kind)  # type: ignore[arg-type]
        search.tune(users[-256:], RECALL)  # users who are not timed
        built = time.perf_counter() - started
        faiss.omp_set_num_threads(num_threads)
        found[kind] = partial(_ask, search, users), built
        padded = np.pad(queries, ((0, 0), (0, search.index.d - items.shape[1])))  # see IndexSearch
        found[f"FAISS {kind}"] = partial(_ask_faiss, search.index, padded), built
    torch.set_num_threads(num_threads)
    faiss.omp_set_num_threads(num_threads)
    return found


def _ask(search: InnerProductSearch | IndexSearch, users: Tensor, rows: slice) -> Tensor:
    return search.search(users[rows], TOP_K)


def _ask_faiss(index: Any, users: np.ndarray, rows: slice) -> Any:  # noqa: ANN401
    return index.search(users[rows], TOP_K)[1]


def _answer_batch(answer: Search, batch: int, count: int, number: int) -> None:
    first = number % count * batch
    answer(slice(first, first + batch))


def measure_search(num_items: int, dim: int, arguments: argparse.Namespace) -> None:
    """Time all methods for one user at a time, and for batches."""
    kinds = index_kinds(num_items, dim, arguments)
    case = {"variant": ["exact", *kinds][-1]}
    batches = [
        size for size in arguments.batches if is_wanted(arguments, "search", num_items, dim, at_once=size, **case)
    ]
    if not batches:
        return
    items, users = generate(num_items, dim, 2), generate(arguments.users, dim, 1)
    expected = InnerProductSearch(items).search(users[:200], TOP_K).numpy()
    asked = methods(items, users, kinds)
    found = {name: np.asarray(answer(slice(200))) for name, (answer, _) in asked.items()}
    for batch in batches:
        count = (arguments.users - 256) // batch
        calls = {name: partial(_answer_batch, answer, batch, count) for name, (answer, _) in asked.items()}
        times = _clock_in_turns(calls | {READ: lambda _: items.sum()}, arguments.seconds, count)
        read = percentiles(times.pop(READ))["p50_ms"]
        for name, (_, built) in asked.items():
            pairs = zip(found[name], expected, strict=True)
            recall = statistics.mean(len(np.intersect1d(*pair)) / TOP_K for pair in pairs)
            metrics = {"recall@20": recall, "build_seconds": built, **percentiles(times[name])}
            metrics |= {"float32_read_ms": read, "float32_gb_per_second": 4e-6 * items.numel() / read}
            record("search", name, num_items, dim, torch.get_num_threads(), batch, metrics)


def _clock_in_turns(calls: Mapping[str, Callable[[int], object]], budget: float, most: int) -> dict[str, list[float]]:
    """Seconds of calls in several rounds, so that other programs affect all methods alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name] += clock(call, budget / ROUNDS, most, least=3)
    return times


def measure_answers(num_items: int, dim: int, arguments: argparse.Namespace) -> None:
    """Time requests for original ids of unseen items, as users of the libraries make them."""
    if not is_wanted(arguments, "answers", num_items, dim):
        return
    with tempfile.TemporaryDirectory() as name:
        calls = libraries(write_run(Path(name) / "run", arguments.users, num_items, dim))
        lists = [[call(user).tolist() for user in range(100)] for call in calls.values()]
        if any(found != lists[0] for found in lists):
            raise SystemExit("answers: expected the same items from all libraries")
        for variant, times in _clock_in_turns(calls, arguments.seconds, arguments.users).items():
            record("answers", variant, num_items, dim, torch.get_num_threads(), 1, percentiles(times))


def libraries(run: Path) -> dict[str, Callable[[int], np.ndarray]]:
    """Functions from a row of users to original ids, best first, without the items that the user has seen."""
    import faiss
    from implicit.cpu.als import AlternatingLeastSquares

    recommender = Recommender.load(run)
    recommender.warm_up()
    users, items = (table.numpy() for table in recommender.embeddings())
    ids, seen = recommender.entities.item_strings, csr_matrix(recommender.seen.matrix(0, len(items)))
    model = AlternatingLeastSquares(factors=items.shape[1], num_threads=torch.get_num_threads())
    model.user_factors, model.item_factors = users, items
    index = build_index(items, "flat")
    faiss.omp_set_num_threads(torch.get_num_threads())

    def by_faiss(user: int) -> np.ndarray:
        own = seen.indices[seen.indptr[user] : seen.indptr[user + 1]]
        found = index.search(users[user : user + 1], TOP_K + len(own))[1][0]
        return np.asarray(ids[found[~np.isin(found, own)][:TOP_K]])

    return {
        "Recommender.recommend": lambda user: recommender.recommend([str(user)], TOP_K).ids[0],
        "implicit's recommend": lambda user: ids[model.recommend(user, seen[user], TOP_K)[0]],
        "FAISS flat and a filter": by_faiss,
    }


def record(
    part: str, variant: str, num_items: int, dim: int, cores: int, at_once: int, metrics: dict[str, Any]
) -> None:
    """Print and record a measurement."""
    case = f"{num_items} items, {variant}, {cores} cores, {at_once} at once"
    print(f"{part}: {case}, {dim}-d: " + ", ".join(f"{key} {value:.4g}" for key, value in metrics.items()), flush=True)
    sizes = {"num_items": num_items, "dim": dim, "cores": cores, "at_once": at_once}
    append("serving", {"part": part, "case": case, "variant": variant, **sizes, "metrics": metrics})


def measure_http(num_items: int, dim: int, arguments: argparse.Namespace) -> None:
    """Put load on a server, for each index, number of cores and number of connections."""
    with tempfile.TemporaryDirectory() as name:
        run = write_run(Path(name) / "run", arguments.users, num_items, dim)
        for index, cores in product(("exact", *index_kinds(num_items, dim, arguments)), arguments.cores):
            case = {"variant": index, "cores": cores, "at_once": arguments.connections[-1]}
            if is_wanted(arguments, "http", num_items, dim, **case):
                server, port = start_server(run, index, RECALL, cores)
                try:
                    wait_for(server, cores)
                    for connections in arguments.connections:
                        with get_context("spawn").Pool(1) as pool:
                            given = (port, connections, arguments.users, TOP_K, arguments.seconds)
                            times, elapsed = pool.apply(clients, given)
                        metrics = percentiles(times) | {"requests_per_second": len(times) / elapsed}
                        metrics["mib"] = resident_mib(server)
                        record("http", index, num_items, dim, cores, connections, metrics)
                finally:
                    server.terminate()
                    server.wait()


def timed_command(*arguments: str) -> dict[str, float]:
    """Seconds, processor seconds and peak MiB of a `face` command."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "face_lightning.cli", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"face {' '.join(arguments)} has failed")
    seconds = time.perf_counter() - started
    worked = usage.ru_utime + usage.ru_stime
    return {"seconds": seconds, "processor_seconds": worked, "peak_mib": usage.ru_maxrss / 1024}


def measure_batch(num_items: int, dim: int, arguments: argparse.Namespace) -> None:
    """Recommend 100 items to each user of a generated run."""
    with tempfile.TemporaryDirectory() as name:
        run = write_run(Path(name) / "run", arguments.batch_users, num_items, dim)
        out = Path(name) / "recommendations.parquet"
        metrics = timed_command("recommend", "--run", str(run), "-k", "100", "--out", str(out))
        metrics["out_mib"] = out.stat().st_size / 2**20
        variant = f"{arguments.batch_users} users x top 100"
        record("batch", variant, num_items, dim, torch.get_num_threads(), 0, metrics)


def measure_run(run: Path, arguments: argparse.Namespace) -> None:
    """Time requests for one user with a finished run."""
    shell = min(
        (timed_command("recommend", "--run", str(run), "--users", "1") for _ in range(5)), key=itemgetter("seconds")
    )
    started = time.perf_counter()
    recommender = Recommender.load(run)
    load = time.perf_counter() - started
    started = time.perf_counter()
    recommender.recommend(["1"])
    first = time.perf_counter() - started
    recommender.warm_up()
    users = recommender.entities.user_ids.to_pylist()
    items = recommender.entities.item_ids.to_pylist()
    calls: dict[str, Callable[[int], object]] = {
        "recommend": lambda number: recommender.recommend([users[number % len(users)]]),
        "recommend_history": lambda number: recommender.recommend_history([items[number % 50 : number % 50 + 20]]),
        "similar_items": lambda number: recommender.similar_items([items[number % len(items)]]),
        "describe an item": lambda number: recommender.describe(items=[items[number % len(items)]]),
        "describe_history": lambda number: recommender.describe_history([items[number % 50 : number % 50 + 20]]),
    }
    sizes = len(items), recommender.embeddings().items.shape[1], torch.get_num_threads(), 0
    record("run", "face recommend --users 1", *sizes, shell)
    record("run", "Recommender.load", *sizes, {"p50_ms": 1e3 * load})
    record("run", "first recommend", *sizes, {"p50_ms": 1e3 * first})
    for name, call in calls.items():
        record("run", name, *sizes, percentiles(clock(call, arguments.seconds / 2, 10_000)))


def main() -> None:
    """Measure the selected parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=["search", "answers", "http", "batch", "run"])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--batch_users", type=int, default=1_000_000)
    parser.add_argument("--indices", nargs="*", default=["hnsw", "ivf"], choices=["hnsw", "ivf"])
    parser.add_argument(
        "--most_hnsw", type=int, default=10**7, help="largest table, in numbers, for which HNSW is built"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 256], help="users at a time")
    parser.add_argument("--cores", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of each measurement")
    parser.add_argument("--run", type=Path, help="folder of a finished run with words")
    parser.add_argument("--quiet", action="store_true", help="record that nothing else runs on the machine")
    parser.add_argument("--unrecorded", action="store_true", help="skip cases that this commit has on record")
    arguments = parser.parse_args()
    if "run" in arguments.parts:
        if arguments.run is None:
            parser.error("run: expected --run DIR")
        measure_run(arguments.run, arguments)
    generated = {"search": measure_search, "answers": measure_answers, "http": measure_http, "batch": measure_batch}
    for part in (part for part in generated if part in arguments.parts):
        for num_items in arguments.items:
            for dim in arguments.dims:
                generated[part](num_items, dim, arguments)


if __name__ == "__main__":
    main()
