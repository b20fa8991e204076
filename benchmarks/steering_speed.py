"""Milliseconds of an edit by words: python -m benchmarks.steering_speed RUN_DIR [RUN_DIR ...].

For finished runs with words: `Recommender.steer` for one user, the 20 best of all items that the user has not seen, on
one thread. Users are drawn at random. Processor time excludes other programs.

- new word: the word has not been used before, so that its direction is computed
- two more, one less: three words that have not been used before
- used word: the direction of the word is cached
- first edit: also reads the meanings of words and items and computes what all edits share; once per run
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.records import append
from face_lightning.recommending.recommender import Recommender
from face_lightning.runs.kept_codebook import CODEBOOK
from face_lightning.text.vocabulary import load_codebook


def measure(run_dir: Path, num_edits: int) -> dict[str, list[tuple[float, float]]]:
    """Elapsed and processor milliseconds of each edit, by kind."""
    recommender = Recommender.load(run_dir)
    codebook, _ = load_codebook(run_dir / CODEBOOK)
    draws = np.random.default_rng(0)
    users = recommender.entities.user_ids.to_pylist()
    words = [codebook.words[row] for row in draws.permutation(len(codebook.words))]
    found = {"first edit": [_milliseconds(recommender, users[0], [words.pop()], [])]}
    used = words[-1]
    for kind, more, less in (("new word", 1, 0), ("two more, one less", 2, 1), ("used word", 0, 0)):
        found[kind] = []
        for _ in range(num_edits):
            asked = [words.pop() for _ in range(more)] or [used]
            user = users[draws.integers(len(users))]
            found[kind].append(_milliseconds(recommender, user, asked, [words.pop() for _ in range(less)]))
    return found


def _milliseconds(recommender: Recommender, user: str, more: list[str], less: list[str]) -> tuple[float, float]:
    begin = time.perf_counter(), time.thread_time()
    recommender.steer(user, more, less)
    return 1e3 * (time.perf_counter() - begin[0]), 1e3 * (time.thread_time() - begin[1])


def main() -> None:
    """Measure the given runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--edits", type=int, default=300, help="number of edits of each kind")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for run_dir in arguments.runs:
        of_run = json.loads((run_dir / "result.json").read_text())
        origin = {key: of_run[key] for key in ("dataset", "backbone", "stage", "seed", "fingerprint")}
        table = Table(
            "edit", "p50, ms", "p95, ms", "p50 of the processor, ms", title=f"{of_run['dataset']}, {of_run['stage']}"
        )
        for kind, times in measure(run_dir, arguments.edits).items():
            (p50, cpu), (p95, _) = np.percentile(np.array(times), [50, 95], axis=0).tolist()
            metrics = {"p50_ms": p50, "p95_ms": p95, "p50_cpu_ms": cpu}
            append("steering", {**origin, "part": "speed", "variant": kind, "metrics": metrics})
            table.add_row(kind, *(f"{value:.2f}" for value in metrics.values()))
        Console(width=100).print(table)


if __name__ == "__main__":
    main()
