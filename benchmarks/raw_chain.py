"""From raw files to words with the commands of a user: `python -m benchmarks.raw_chain --dataset ml-100k`.

Writes clicks.csv and items.jsonl (`benchmarks.raw_form`), then runs `face data import`, `face summarize`,
`face vocab build` and the three stages of configs/own, each in a process of its own, and appends metrics and times to
results/raw_chain.jsonl. `processor_seconds` count the process's own work if other programs use the processor.
`--model smollm2` uses SmolLM2-135M (`python -m benchmarks.smollm2`) as codebook and encoder instead of
all-MiniLM-L6-v2. `--table` prints the records.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.raw_form import DATASETS, IMPORT, write_raw
from benchmarks.records import append, read, shared_data
from benchmarks.smollm2 import FOLDER

ROOT = Path(__file__).resolve().parents[1]
MODELS = {"minilm": "all-MiniLM-L6-v2", "smollm2": str(FOLDER)}
SPACE = "--model.init_args.words.init_args"
SHOWN = {
    "test/recall@20": "Recall@20",
    "words/retrieval_items@10": "items picked of 10",
    "words/retrieval_users@10": "users picked of 10",
    "codebook/active": "words in use",
    "codebook/perplexity": "perplexity",
}


def call(*arguments: object) -> tuple[float, float]:
    """Run a face command in a process of its own; its elapsed seconds and processor seconds."""
    started, worked = time.perf_counter(), _worked()
    subprocess.run([sys.executable, "-m", "face_lightning.cli", *map(str, arguments)], check=True)
    return time.perf_counter() - started, _worked() - worked


def _worked() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def prepare(dataset: str, model: str, data: Path, work: Path, core: int) -> dict[str, float]:
    """Make raw files, prepared folder, texts and codebook unless they exist; processor seconds by command."""
    raw, mine, texts, words = (work / name for name in ("raw", "mine", "texts.jsonl", f"words-{model}"))
    seconds: dict[str, float] = {}
    if not mine.is_dir():
        write_raw(dataset, data, raw)
        described = ["--item_metadata", raw / "items.jsonl", "--out", mine, "--name", dataset]
        seconds["import"] = call("data", "import", raw / "clicks.csv", *IMPORT[dataset], "--core", core, *described)[1]
    reader = ["--data.reader", "PreparedFolder", "--data.reader.init_args.root", mine]
    if not texts.is_file():
        seconds["summarize"] = call("summarize", *reader, "--out", texts)[1]
    if not words.is_dir():
        seconds["vocab"] = call("vocab", "build", "--model", MODELS[model], "--texts", texts, "--out", words)[1]
    return seconds


def run_stages(options: argparse.Namespace, work: Path) -> dict[str, dict[str, Any]]:
    """Fit the stages that have not finished; results by stage."""
    runs = work / "runs" / str(options.seed)
    folders = {"stage1": runs / "stage1", **{name: runs / options.model / name for name in ("stage2", "stage3")}}
    results = {}
    for number, (stage, folder) in enumerate(folders.items(), start=1):
        command = [
            "fit",
            "--config",
            ROOT / f"configs/own/ials/{stage}.yaml",
            "--run_dir",
            folder,
            "--if_exists",
            "skip",
        ]
        command += ["--data.reader.init_args.root", work / "mine", "--seed_everything", str(options.seed)]
        epochs = str(options.epochs[number - 1])
        command += ["--trainer.enable_progress_bar", "false", "--trainer.max_epochs", epochs]
        command += ["--model.init_args.backbone.init_args.embedding_dim", str(options.embedding_dim)]
        if number > 1:
            command += ["--model.init_args.scheduler.init_args.T_max", epochs]
            command += [f"{SPACE}.encoder.init_args.model", MODELS[options.model]]
            command += [f"{SPACE}.codebook", work / f"words-{options.model}", "--data.summaries", work / "texts.jsonl"]
            command += [f"{SPACE}.retrieval_limit", str(options.retrieval_limit)]
            command += ["--data.entities_per_step", str(options.entities_per_step)]
            command += ["--init_from", folders[f"stage{number - 1}"]]
        if number == 3:
            command += ["--model.init_args.aligned_per_step", str(options.aligned_per_step)]
            if options.steps:
                command += ["--trainer.limit_train_batches", str(options.steps)]
        seconds, worked = call(*command)
        result = json.loads((folder / "result.json").read_text())
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        results[stage] = {
            **{key: round(result["metrics"][key], 5) for key in SHOWN if key in result["metrics"]},
            "epochs": result["epochs"],
            "steps": rows[-1]["step"],
            "seconds": round(result["seconds"], 1),
            "seconds_per_step": round(step_seconds(folder), 3),
            "processor_seconds_per_step": round(step_seconds(folder) * worked / seconds, 3),
            "wall_seconds": round(seconds, 1),
            "processor_seconds": round(worked, 1),
            "peak_mib": result["peak_mib"],
        }
    return results


def step_seconds(folder: Path) -> float:
    """Seconds per step: between the first and last validation if the run has more than one epoch."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    first = rows[0] if len(rows) > 1 else {"seconds": 0.0, "step": 0}
    return float((rows[-1]["seconds"] - first["seconds"]) / (rows[-1]["step"] - first["step"]))


def show(records: Sequence[dict[str, Any]]) -> None:
    """Print the records, one row per stage."""
    table = Table("data set", "model", "seed", "stage", *SHOWN.values(), "s a step", "s in all")
    for record in records:
        for stage, result in record["stages"].items():
            cells = [f"{result[key]:,.4g}" if key in result else "" for key in SHOWN]
            times = f"{result['seconds_per_step']:.3g}", f"{result['wall_seconds']:.0f}"
            table.add_row(record["dataset"], record["model"], str(record["seed"]), stage, *cells, *times)
    Console(width=150).print(table)


def main() -> None:
    """Run and record, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", choices=DATASETS, default="ml-100k")
    parser.add_argument("--model", choices=MODELS, default="minilm")
    parser.add_argument("--data", type=Path, help="folder of the data set (default: that in FACE_SHARED_DATA)")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks/raw_chain"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, nargs=3, default=[100, 10, 4], help="maximum epochs of the three stages")
    parser.add_argument("--core", type=int, default=5, help="minimum interactions of every user and item")
    parser.add_argument("--embedding_dim", type=int, default=64)
    parser.add_argument("--entities_per_step", type=int, default=256)
    parser.add_argument("--aligned_per_step", type=int, default=64)
    parser.add_argument("--steps", type=int, help="steps of an epoch of stage 3; all by default")
    parser.add_argument(
        "--retrieval_limit",
        type=int,
        default=1024,
        help="maximum number of users, and of items, in the retrieval metrics",
    )
    parser.add_argument("--table", action="store_true", help="print the records and run nothing")
    options = parser.parse_args()
    if options.table:
        show(read("raw_chain"))
        return
    usual = Path("data/ml-100k") if options.dataset == "ml-100k" else shared_data() / options.dataset
    work = options.work / options.dataset
    seconds = prepare(options.dataset, options.model, options.data or usual, work, options.core)
    stages = run_stages(options, work)
    given = ("core", "embedding_dim", "epochs", "entities_per_step", "aligned_per_step", "steps", "retrieval_limit")
    record = {
        "dataset": options.dataset,
        "model": options.model,
        "seed": options.seed,
        "settings": {name: getattr(options, name) for name in given},
        "prepare_seconds": {name: round(value, 1) for name, value in seconds.items()},
        "stages": stages,
    }
    append("raw_chain", record)
    show([record])


if __name__ == "__main__":
    main()
