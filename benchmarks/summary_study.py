"""Effect of summaries by a language model: `python -m benchmarks.summary_study [--seeds 0 1]`.

On a part of steam-vt (the games with the most interactions, and players drawn at random), games are described by the
template and by SmolLM2-135M (`python -m benchmarks.smollm2`). Players, and games for which SmolLM2 gave no valid
summary, are described by the template in both cases. Stage 1 and the vocabulary are shared; stages 2 and 3 run with
each writer and seed. Measured are Recall@20, compared per user, and how often the words of a game pick it out of 10, by
the text that they were learnt from and by that of the other writer. Appends to results/summary_study.jsonl.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from scipy.stats import ttest_rel

from benchmarks.loading import load_run
from benchmarks.raw_chain import ROOT, SPACE, call
from benchmarks.raw_form import IMPORT, write_raw
from benchmarks.records import append, shared_data
from benchmarks.retrieval import measure
from benchmarks.smollm2 import FOLDER
from face_lightning.runs.outputs import descriptors_of

WRITERS = ("template", "smollm2")
RECALL, PICKED = "test/recall@20", "words/retrieval_items@10"


def draw(raw: Path, num_items: int, num_users: int, seed: int = 0) -> Path:
    """Interactions with the most popular items, of random users with at least five of them."""
    with (raw / "clicks.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    kept = {item for item, _ in Counter(row[1] for row in rows).most_common(num_items)}
    rows = [row for row in rows if row[1] in kept]
    able = sorted(user for user, count in Counter(row[0] for row in rows).items() if count >= 5)
    users = set(np.random.default_rng(seed).permutation(able)[:num_users].tolist())
    path = raw / "sample.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *(row for row in rows if row[0] in users)])
    return path


def write_texts(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make raw files, prepared folder and both summaries unless they exist; statistics of the local writer."""
    raw, mine = work / "raw", work / "mine"
    if not mine.is_dir():
        write_raw("steam-vt", options.data, raw)
        clicks = draw(raw, options.items, options.users)
        described = ["--item_metadata", raw / "items.jsonl", "--out", mine, "--name", "steam-vt sample"]
        call("data", "import", clicks, *IMPORT["steam-vt"], "--core", "5", *described)
    template, words = work / "template.jsonl", work / "words"
    counts_path = work / "writer.json"
    if not counts_path.is_file():
        common = [sys.executable, "-m", "face_lightning.cli", "summarize", "--data.reader", "PreparedFolder"]
        common += ["--data.reader.init_args.root", str(mine)]
        subprocess.run([*common, "--out", str(template)], check=True)
        local = ["--writer", "local", "--model", str(FOLDER), "--kinds", '["item"]', "--dtype", options.dtype]
        local += ["--max_words", "30", "--max_tokens", "40", "--batch_size", "32", "--answer", "text"]
        started = time.perf_counter()
        done = subprocess.run([*common, *local, "--out", str(work / "smollm2.jsonl")], check=False)
        if done.returncode not in (0, 1):  # 1: some have no summary
            raise SystemExit(done.returncode)
        lines = [json.loads(line) for line in (work / "smollm2.jsonl").read_text(encoding="utf-8").splitlines()]
        failed = [line["error"] for line in lines if line["text"] is None]
        reasons = Counter(error.split(":")[0] for error in failed)
        counts = {"written": len(lines) - len(failed), "failed": dict(reasons)}
        counts_path.write_text(json.dumps(counts | {"seconds": round(time.perf_counter() - started, 1)}))
    if not words.is_dir():  # one vocabulary for both: by default, words that are frequent in the texts are added
        call("vocab", "build", "--model", "all-MiniLM-L6-v2", "--texts", template, "--out", words)
    result: dict[str, Any] = json.loads(counts_path.read_text())
    return result


def fit(stage: int, folder: Path, before: Path | None, work: Path, options: argparse.Namespace, *more: object) -> None:
    """Fit a stage of configs/own unless it has finished."""
    command = [
        "fit",
        "--config",
        ROOT / f"configs/own/ials/stage{stage}.yaml",
        "--run_dir",
        folder,
        "--if_exists",
        "skip",
    ]
    command += ["--data.reader.init_args.root", work / "mine", "--trainer.enable_progress_bar", "false", *more]
    command += ["--trainer.max_epochs", str(options.epochs[stage - 1])]
    command += ["--model.init_args.backbone.init_args.embedding_dim", str(options.embedding_dim)]
    call(*command, *(["--init_from", before] if before else []))


def run_seed(seed: int, work: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Run the stages of a seed with both writers; metrics of stage 3 by writer."""
    runs = work / "runs" / str(seed)
    seeded = ["--seed_everything", str(seed)]
    # Batches of a fiftieth of the interactions, and more patience for so few of them.
    small = ["--data.batch_size", "256", "--early_stopping.patience", "30"]
    fit(1, runs / "stage1", None, work, options, *seeded, *small)
    results = {}
    for writer in WRITERS:
        given = [*seeded, "--data.summaries", work / f"{writer}.jsonl", "--data.batch_size", str(options.batch_size)]
        given += [f"{SPACE}.retrieval_limit", str(options.items), f"{SPACE}.codebook", str(work / "words")]
        fit(2, runs / writer / "stage2", runs / "stage1", work, options, *given)
        fit(3, runs / writer / "stage3", runs / writer / "stage2", work, options, *given)
        metrics = json.loads((runs / writer / "stage3" / "result.json").read_text())["metrics"]
        other = work / f"{WRITERS[1 - WRITERS.index(writer)]}.jsonl"
        stage = load_run(runs / writer / "stage3", ["--data.summaries", str(other)])[0]
        crossed = measure(stage.space, descriptors_of(stage).tolist())[PICKED]
        shown = {key: metrics[key] for key in (RECALL, PICKED, "words/retrieval_users@10", "codebook/items_active")}
        results[writer] = {**shown, "picked by the other text": crossed}
    return results


def compare(seed: int, work: Path) -> dict[str, float]:
    """Recall@20 of the same users with SmolLM2's summaries and with the template's."""
    columns = [
        pq.read_table(work / "runs" / str(seed) / writer / "stage3" / "test_users.parquet").sort_by("user_id")[RECALL]
        for writer in ("smollm2", "template")
    ]
    paired = ttest_rel(*(column.to_numpy() for column in columns))
    return {"t": round(float(paired.statistic), 3), "p": round(float(paired.pvalue), 4), "users": len(columns[0])}


def main() -> None:
    """Write texts, run and record all seeds, and print means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=shared_data() / "steam-vt")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/summary_study"))
    parser.add_argument("--items", type=int, default=300)
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, nargs=3, default=[100, 5, 3], help="maximum epochs of the three stages")
    parser.add_argument("--embedding_dim", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=1024, help="seeds of stages 2 and 3")
    parser.add_argument("--dtype", default="bfloat16", help="number format of the writer's weights")
    parser.add_argument("--texts_only", action="store_true", help="write the summaries, and train nothing")
    options = parser.parse_args()
    writer = write_texts(options.work, options)
    if options.texts_only:
        print(writer)
        return
    seeds: list[dict[str, dict[str, float]]] = []
    for seed in options.seeds:
        seeds.append(run_seed(seed, options.work, options))
        settings = {
            name: getattr(options, name) for name in ("items", "users", "epochs", "embedding_dim", "batch_size")
        }
        comparison = compare(seed, options.work)
        record = {"seed": seed, "settings": settings, "writer": writer, "stage3": seeds[-1], "recall": comparison}
        append("summary_study", {"dataset": "steam-vt", **record})
        print(f"seed {seed}: SmolLM2 against template, Recall@20 {comparison}")
    table = Table("", *WRITERS, title=f"steam-vt, {options.items} games, mean of seeds {options.seeds}")
    for key in seeds[0]["template"]:
        table.add_row(key, *(f"{statistics.mean(seed[one][key] for seed in seeds):.4f}" for one in WRITERS))
    Console().print(table)


if __name__ == "__main__":
    main()
