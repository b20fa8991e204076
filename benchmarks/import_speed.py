"""Time and memory of importing a large CSV file by `face data import`.

`python -m benchmarks.import_speed` generates a CSV file of 10 million rows (uniform users, items of skewed popularity),
imports it with the real command in a process of its own, and appends the result to results/import_speed.jsonl.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from benchmarks.records import append

_BLOCK = 1_000_000  # rows generated at once


def generate(path: Path, num_rows: int, num_users: int, num_items: int, seed: int = 0) -> None:
    """Write a CSV of user_id, item_id, rating and timestamp."""
    rng = np.random.default_rng(seed)
    schema = pa.schema([(name, pa.int64()) for name in ("user_id", "item_id", "rating", "timestamp")])
    with pacsv.CSVWriter(path, schema) as writer:
        for start in range(0, num_rows, _BLOCK):
            count = min(_BLOCK, num_rows - start)
            columns = [
                rng.integers(0, num_users, count),
                (num_items * rng.random(count) ** 2).astype(np.int64),
                rng.integers(1, 6, count),
                rng.integers(1_000_000_000, 2_000_000_000, count),
            ]
            writer.write_table(pa.table(columns, schema=schema))


def main() -> None:
    """Generate, import, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--split", choices=("random", "temporal", "last"), default="random")
    parser.add_argument("--no_record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "clicks.csv", Path(folder) / "prepared"
        generate(source, options.rows, options.users, options.items)
        command = [sys.executable, "-m", "face_lightning.cli", "data", "import", str(source), "--out", str(out)]
        command += ["--rating", "rating", "--min_rating", "3", "--core", "5", "--split", options.split]
        command += ["--time", "timestamp"] if options.split != "random" else []
        load, started = os.getloadavg()[0], time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = source.stat().st_size
        prepared = sum(path.stat().st_size for path in out.iterdir())
    record = {
        "num_rows": options.rows,
        "split": options.split,
        "csv_mib": round(size / 2**20, 1),
        "prepared_mib": round(prepared / 2**20, 1),
        "seconds": round(seconds, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": round(used.ru_maxrss / 2**10),
        "load_before": round(load, 1),
    }
    print(done.stdout + "\n".join(f"{name:>18}  {value}" for name, value in record.items()))
    if not options.no_record:
        append("import_speed", record)


if __name__ == "__main__":
    main()
