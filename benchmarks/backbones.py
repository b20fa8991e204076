"""Quality of the backbones: python -m benchmarks.backbones [--datasets amazon-book yelp] [--seeds 0 1 2].

Fits and tests each configuration configs/DATASET/BACKBONE/stage1.yaml through the command line, and prints a table
with the published figures. Finished runs with the same configuration are neither repeated nor recorded again, so an
interrupted benchmark continues where it stopped.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import yaml

from benchmarks.records import append_new, of_run, shared_data
from face_lightning.allocator import keep_freed_memory
from face_lightning.commands import stage as stage_command

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
# Published test Recall@20 on the same matrices: 256-d by the FACE paper, 32-d by the RLMRec paper.
PUBLISHED = {
    ("amazon-book", "GMF", 256): 0.1531,
    ("amazon-book", "LightGCN", 256): 0.1563,
    ("amazon-book", "SimGCL", 256): 0.1617,
    ("amazon-book", "LightGCL", 256): 0.1712,
    ("amazon-book", "LightGCN", 32): 0.1411,
    ("amazon-book", "SimGCL", 32): 0.1512,
    ("yelp", "GMF", 256): 0.1052,
    ("yelp", "LightGCN", 256): 0.1141,
    ("yelp", "SimGCL", 256): 0.1209,
    ("yelp", "LightGCL", 256): 0.1228,
    ("yelp", "LightGCN", 32): 0.1157,
    ("yelp", "SimGCL", 32): 0.1254,
}


def run(config: Path, data: Path, seed: int, runs: Path) -> dict[str, Any]:
    """Fit and test a configuration unless it has finished, and return its result."""
    run_dir = runs / config.parent.parent.name / config.parent.name / config.stem / str(seed)
    command = ["fit", "--config", str(config), "--if_exists", "skip", "--run_dir", str(run_dir)]
    command += ["--seed_everything", str(seed), "--data.reader.init_args.root", str(data)]
    stage_command.main([*command, "--trainer.enable_progress_bar", "false"])
    result: dict[str, Any] = json.loads((run_dir / "result.json").read_text())
    resolved = yaml.safe_load((run_dir / "config.yaml").read_text())
    result["embedding_dim"] = resolved["model"]["init_args"]["backbone"]["init_args"]["embedding_dim"]
    return result


def variant_of(config: Path) -> str:
    """Name of a configuration in the records: `stage1`, or `stage1-32d` in a folder such as lightgcn-32d."""
    return "-".join([config.stem, *config.parent.name.split("-")[1:]])


def record(config: Path, dataset: str, seed: int, result: dict[str, Any]) -> dict[str, Any]:
    """Append the result of a run unless it is on record."""
    about = {"dataset": dataset, "embedding_dim": result["embedding_dim"], "variant": variant_of(config), "seed": seed}
    line = {**of_run(result), **about}
    append_new("backbones", line)
    return line


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown table of means over seeds and published figures."""
    rows = ["| data | backbone | dim | Recall@20 | published | NDCG@20 | seeds | seconds |", "|---" * 8 + "|"]
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["dataset"], line["backbone"], line["embedding_dim"]), []).append(line)
    for (dataset, backbone, dim), group in sorted(groups.items()):
        cells = []
        for key in ("test/recall@20", "test/ndcg@20"):
            values = [line["metrics"][key] for line in group]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        published = PUBLISHED.get((dataset, backbone, dim))
        seconds = statistics.mean(line["seconds"] for line in group)
        shown = f"{published:.4f}" if published else ""
        rows.append(
            f"| {dataset} | {backbone} | {dim} | {cells[0]} | {shown} | {cells[1]} | {len(group)} | {seconds:.0f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Run the selected configurations and print the table."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", nargs="+", default=["amazon-book", "yelp"])
    parser.add_argument("--backbones", nargs="+", help="folders of configurations; all if left out")
    parser.add_argument("--variants", nargs="+", help="names of configurations such as stage1-32d; all if left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", type=Path, default=shared_data(), help="folder of the data sets")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/backbones"))
    arguments = parser.parse_args()
    lines = []
    for dataset in arguments.datasets:
        data = arguments.data / dataset
        if not data.is_dir():
            raise SystemExit(f"{data} is not there: give the folder of {dataset} with --data, or set FACE_SHARED_DATA")
        for config in sorted((CONFIGS / dataset).glob("*/stage1.yaml")):
            if arguments.backbones and config.parent.name.partition("-")[0] not in arguments.backbones:
                continue
            if arguments.variants and variant_of(config) not in arguments.variants:
                continue
            for seed in arguments.seeds:
                lines.append(record(config, dataset, seed, run(config, data, seed, arguments.runs)))
                print(table(lines[-1:]).splitlines()[-1], flush=True)
    print(table(lines))


if __name__ == "__main__":
    main()
