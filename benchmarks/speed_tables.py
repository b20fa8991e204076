"""Tables of benchmarks/README.md on speed and memory of training, searches, imports and serving."""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy.special import stdtrit

from benchmarks import alignment
from benchmarks.table_format import Column, Record, Table, mean


def reached(records: Sequence[Record], _: object, after: float) -> str:
    """Best validation Recall@20 within a number of seconds."""
    recalls = [recall for record in records for seconds, recall in record["curve"] if seconds <= after]
    return f"{max(recalls):.4f}" if recalls else ""


def caught_up(records: Sequence[Record], _: object) -> str:
    """Number of seeds whose warm start comes within .001 of training from scratch."""
    return f"{sum(record['metrics']['warm_seconds'] is not None for record in records)} of {len(records)}"


def caught_up_again(records: Sequence[Record], _: object) -> str:
    """Number of repetitions from scratch that come within .001 of the first time."""
    pairs = [(record["metrics"].get("again_best", []), record["metrics"]["quality"]) for record in records]
    reached = [best >= quality for repetitions, quality in pairs for best in repetitions]
    return f"{sum(reached)} of {len(reached)}" if reached else ""


def caught_up_in_half(records: Sequence[Record], _: object) -> str:
    """Number of seeds whose warm start comes within .001 of the mean from scratch in half of the epochs."""
    found = [record["metrics"] for record in records if record["metrics"].get("again_best")]
    means = [statistics.mean([one["anew_best"], *one["again_best"]]) for one in found]
    reached = [(one["warm_half"] or 0) >= quality - 0.001 for one, quality in zip(found, means, strict=True)]
    return f"{sum(reached)} of {len(found)}" if found else ""


def paired(path: str, other: str) -> Callable[[Sequence[Record], object], str]:
    """Mean difference of two metrics paired over seeds, the first possibly a list, with Student's 95 % interval."""

    def cell(records: Sequence[Record], _: object) -> str:
        pairs = [(record["metrics"].get(path), record["metrics"][other]) for record in records]
        found = [float(np.mean(value)) - base for value, base in pairs if value is not None]
        if len(found) < 2:
            return ""
        half = float(stdtrit(len(found) - 1, 0.975)) * statistics.stdev(found) / len(found) ** 0.5
        return f"{statistics.mean(found):+.4f} ± {half:.4f}"

    return cell


def surroundings(records: Sequence[Record], _: object) -> str:
    """`quiet` if the command recorded that nothing else ran on the machine, otherwise `shared`."""
    return "/".join(sorted({"quiet" if "--quiet" in record["command"] else "shared" for record in records}))


ANSWERS = ("Recommender.recommend", "implicit's recommend", "FAISS flat and a filter")
EXACT = ("exact", "implicit", "FAISS flat")
INDICES = ("hnsw", "ivf", "FAISS hnsw", "FAISS ivf")

SPEED: dict[str, Table] = {
    "steps": Table(
        sources=[{"benchmark": "training", "part": ("steps", "compile"), "batch_size": (256, 2048)}],
        labels=["amazon-book, 256-d", "pairs per step"],
        by=["backbone", "batch_size"],
        columns=[
            Column("ms", mean("ours_ms", ".0f"), {"part": "steps"}),
            Column("plain implementation, ms", mean("usual_ms", ".0f"), {"part": "steps"}),
            Column("speedup", mean("ratio", ".1f"), {"part": "steps"}),
            Column("speedup by torch.compile", mean("ratio", ".2f"), {"part": "compile"}),
        ],
        command="python -m benchmarks.training steps compile",
    ),
    "batches": Table(
        sources=[{"benchmark": "training", "part": "batches"}],
        labels=["pairs per step"],
        by=["batch_size"],
        columns=[Column(f"after {seconds} s", partial(reached, after=seconds)) for seconds in (30, 60, 120)],
    ),
    "graph-sizes": Table(
        sources=[{"benchmark": "training", "part": "scaling"}],
        labels=["interactions"],
        by=["metrics.interactions"],
        columns=[
            Column("seconds per epoch", mean("epoch_seconds", ".1f")),
            Column("peak MiB", mean("peak_mib", ",.0f")),
        ],
    ),
    "sweeps": Table(
        sources=[{"benchmark": "training", "part": "sweeps"}],
        labels=["interactions"],
        by=["metrics.interactions"],
        columns=[
            Column("seconds per sweep", mean("epoch_seconds", ".2f")),
            Column("peak MiB", mean("peak_mib", ",.0f")),
        ],
    ),
    "processes": Table(
        sources=[{"benchmark": "scaling"}],
        labels=["processes"],
        rows={str(number): {"variant": (f"{number} processes", f"columns over {number}")} for number in (1, 2, 4)},
        columns=[
            Column("interactions per second, LightGCN 64-d", mean("interactions_per_second", ",.0f")),
            Column("memory growth with shared columns, 400,000 nodes at 128-d, MiB", mean("grows_by_mib", ",.0f")),
        ],
    ),
    "token-search": Table(
        sources=[{"benchmark": "token_search"}],
        labels=["queries", "codes", "width"],
        by=["num_queries", "num_codes", "dim"],
        columns=[
            Column(f"{title}, ms", mean("ms", ",.0f"), {"variant": variant})
            for variant, title in (("faiss", "FAISS"), ("torch", "torch tiles"), ("bfloat16", "bfloat16 with a proof"))
        ],
        command="python -m benchmarks.token_search",
    ),
    "gpu": Table(
        sources=[{"benchmark": "gpu_check", "part": ("epochs", "token-search", "ranking", "serving", "capacity")}],
        labels=["case"],
        by=["case"],
        columns=[
            Column("GPU, seconds", mean("seconds", ",.4f"), {"device": "cuda"}),
            Column("the same machine's CPU, seconds", mean("seconds", ",.4f"), {"device": "cpu"}),
            Column("GPU, peak MiB", mean("peak_mib", ",.0f"), {"device": "cuda"}),
        ],
        command="make gpu-check",
    ),
    "gpu-demo": Table(
        sources=[{"benchmark": "gpu_check", "part": "demo"}],
        labels=["run"],
        by=["case"],
        columns=[
            Column(f"{title}, {device}", mean(key, digits), {"device": where})
            for title, key, digits in (
                ("Recall@20", "test/recall@20", ".4f"),
                ("NDCG@20", "test/ndcg@20", ".4f"),
                ("seconds", "seconds", ".1f"),
            )
            for device, where in (("GPU", "cuda"), ("CPU", "cpu"))
        ],
        command="make gpu-check",
    ),
    "gpu-profiles": Table(
        sources=[{"benchmark": "gpu_check", "part": "profiles", "device": "cuda"}],
        labels=["case"],
        by=["case"],
        columns=[
            Column("seconds per step", mean("seconds", ".4f")),
            Column("busy, seconds", mean("busy_seconds", ".4f")),
            Column("waits for the GPU", mean("cuda_waits", ".0f")),
        ],
        command="make gpu-check",
    ),
    "import": Table(
        sources=[{"benchmark": "import_speed"}],
        labels=["rows", "split"],
        by=["num_rows", "split"],
        columns=[
            Column("CSV, MiB", mean("csv_mib", ".0f")),
            Column("seconds", mean("seconds", ".0f")),
            Column("processor seconds", mean("processor_seconds", ".0f")),
            Column("peak MiB", mean("peak_mib", ",.0f")),
        ],
    ),
    "serving-one": Table(
        sources=[{"benchmark": "serving", "part": "search", "at_once": 1, "variant": EXACT}],
        labels=["items", "width"],
        by=["num_items", "dim"],
        columns=[
            *(Column(f"{variant}: p50, ms", mean("p50_ms", ".3f"), {"variant": variant}) for variant in EXACT),
            Column("reading the table, ms", mean("float32_read_ms", ".3f"), {"variant": "exact"}),
            Column("GB per second", mean("float32_gb_per_second", ".1f"), {"variant": "exact"}),
            Column("machine", surroundings),
        ],
    ),
    "serving-answers": Table(
        sources=[{"benchmark": "serving", "part": "answers"}],
        labels=["items", "width"],
        by=["num_items", "dim"],
        columns=[
            *(
                Column(f"{variant}: {title}, ms", mean(metric, ".3f"), {"variant": variant})
                for variant in ANSWERS
                for title, metric in (("p50", "p50_ms"), ("p99", "p99_ms"))
            ),
            Column("machine", surroundings),
        ],
    ),
    "serving-search": Table(
        sources=[
            {"benchmark": "serving", "part": "search", "at_once": 256},
            {"benchmark": "serving", "part": "search", "at_once": 1, "variant": INDICES},
        ],
        labels=["items", "width", "method"],
        by=["num_items", "dim", "variant"],
        columns=[
            Column("256 users: p50, ms", mean("p50_ms", ".1f"), {"at_once": 256}),
            Column("one user: p50, ms", mean("p50_ms", ".3f"), {"at_once": 1}),
            Column("recall@20", mean("recall@20")),
            Column("build time, seconds", mean("build_seconds", ".1f")),
            Column("machine", surroundings),
        ],
    ),
    "serving-http": Table(
        sources=[{"benchmark": "serving", "part": "http"}],
        labels=["items", "width", "index", "cores"],
        by=["num_items", "dim", "variant", "cores"],
        columns=[
            Column(f"{connections} connections: {title}", mean(metric, spec), {"at_once": connections})
            for connections in (1, 8, 64)
            for title, metric, spec in (
                ("p50, ms", "p50_ms", ".1f"),
                ("p99, ms", "p99_ms", ".1f"),
                ("requests per second", "requests_per_second", ",.0f"),
            )
        ]
        + [Column("machine", surroundings)],
    ),
    "serving-batch": Table(
        sources=[{"benchmark": "serving", "part": "batch"}],
        labels=["items", "users and length of the list"],
        by=["num_items", "variant"],
        columns=[
            Column("seconds", mean("seconds", ",.0f")),
            Column("processor seconds", mean("processor_seconds", ",.0f")),
            Column("peak MiB", mean("peak_mib", ",.0f")),
            Column("file, MiB", mean("out_mib", ",.0f")),
        ],
    ),
    "serving-run": Table(
        sources=[{"benchmark": "serving", "part": "run"}],
        labels=["for one user or item"],
        by=["variant"],
        columns=[
            Column("p50, ms", mean("p50_ms", ".2f")),
            Column("p99, ms", mean("p99_ms", ".2f")),
            Column("seconds", mean("seconds", ".2f")),
            Column("processor seconds", mean("processor_seconds", ".2f")),
            Column("peak MiB", mean("peak_mib", ",.0f")),
        ],
    ),
    "growing": Table(
        sources=[{"benchmark": "growing"}],
        labels=["ml-100k"],
        by=["variant"],
        columns=[
            Column("from scratch: seconds to the best epoch", mean("anew_best_seconds", ".1f")),
            Column("warm start: seconds to the best epoch", mean("warm_best_seconds", ".1f")),
            Column("from scratch: best validation Recall@20", mean("anew_best")),
            Column("warm start: best validation Recall@20", mean("warm_best")),
            Column("difference, 95 % interval", paired("warm_best", "anew_best")),
            Column("from scratch: test Recall@20", mean("anew_test")),
            Column("warm start: test Recall@20", mean("warm_test")),
            Column("difference, 95 % interval", paired("warm_test", "anew_test")),
            Column("seeds whose warm start comes within .001 on validation", caught_up),
            Column("time to get there, % of training from scratch", mean("share_of_time", ".0f", 100.0)),
            Column(
                "from scratch again, other initial tables: difference on validation", paired("again_best", "anew_best")
            ),
            Column("difference on test", paired("again_test", "anew_test")),
            Column("repetitions that come within .001 on validation", caught_up_again),
            Column(
                "seeds whose warm start comes within .001 of the mean from scratch in half of the epochs",
                caught_up_in_half,
            ),
        ],
    ),
    "step-parts": Table(
        load=alignment.newest_parts,
        labels=["part of an alignment step"],
        by=["part"],
        columns=[Column("ms", mean("ms", ".1f")), Column("share, %", mean("share", ".0f", 100.0))],
    ),
    "step-choices": Table(
        load=alignment.newest_choices,
        labels=["choice reversed"],
        by=["form"],
        columns=[
            Column("parts concerned, ms", mean("its_ms", ".1f")),
            Column("parts as shipped, ms", mean("shipped_ms", ".1f")),
            Column("whole step, ms", mean("step_ms", ".1f")),
            Column("step as shipped, ms", mean("shipped_step_ms", ".1f")),
        ],
    ),
}
