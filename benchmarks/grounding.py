"""What limits the gain of words for a recommender: python -m benchmarks.grounding RUN_DIR --config CON.yaml.

Fine-tunes stage 1 as CON.yaml says (RLMRec-Con), with several kinds of vectors in place of text vectors:

- texts: the encoder's vectors of the texts
- targets: vectors of the target words of anchoring
- slots: vectors of the slots of the run in RUN_DIR, in which stage 3 grounds embeddings
- words: vectors of the words that the run shows, one per slot
- slots of users, slots of items: slots for one kind of entity, texts for the other

All start from the same run of stage 1 (--init_from). Appends to results/grounding.jsonl. The variants are compared by
validation Recall@20; a variant that is on record is not run again.
"""

import argparse
import json
import pickle
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.loading import load_run
from benchmarks.records import append_new, of_run
from benchmarks.retrieval import similarity
from face_lightning.allocator import keep_freed_memory
from face_lightning.commands import stage as stage_command
from face_lightning.runs.outputs import descriptors_of
from face_lightning.stages.describing import DescribingStage


@torch.no_grad()
def vectors_of(stage: DescribingStage, num_near: int) -> dict[str, Tensor]:
    """Vectors of all entities `(U + I, E)`, users first, for each variant."""
    space = stage.space
    texts, users = space.texts.vectors, space.texts.num_users
    stage.eval()
    learnt = stage.expected_word_vectors(stage.backbone(stage.graph), num_near)
    return {
        "texts": texts,
        "targets": space.word_vectors.means(space.targets.tokens),
        "slots": learnt,
        "words": space.word_vectors.means(descriptors_of(stage)),
        "slots of users": torch.cat([learnt[:users], texts[users:]]),
        "slots of items": torch.cat([texts[:users], learnt[users:]]),
    }


def folder_with(vectors: Tensor, num_users: int, data: Path, folder: Path) -> Path:
    """Write a folder in RLMRec's format with the matrices of `data` and the given vectors."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [name for name in ("user_ids.txt", "item_ids.txt") if (data / name).is_file()]
    for name in ("trn_mat.pkl", "val_mat.pkl", "tst_mat.pkl", "items.jsonl", *ids):
        (folder / name).write_bytes((data / name).read_bytes())
    for name, rows in (("usr_emb_np.pkl", vectors[:num_users]), ("itm_emb_np.pkl", vectors[num_users:])):
        (folder / name).write_bytes(pickle.dumps(rows.numpy()))
    return folder


def best(run_dir: Path) -> float:
    """Validation Recall@20 of the best epoch."""
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return max(float(line.get("val/recall@20", 0.0)) for line in lines)


def fine_tune(
    vectors: Tensor, variant: str, num_users: int, run_result: dict[str, Any], options: argparse.Namespace
) -> float:
    """Fit CON.yaml with the vectors of a variant unless it has finished, record it, and return validation Recall@20."""
    slug = variant.replace(" ", "-")
    run_dir = options.runs / run_result["backbone"] / run_result["stage"] / str(options.seed) / slug
    folder = folder_with(vectors, num_users, options.data, options.runs / "data" / slug)
    command = ["fit", "--config", str(options.config), "--run_dir", str(run_dir), "--if_exists", "resume"]
    command += ["--init_from", str(options.init_from), "--seed_everything", str(options.seed)]
    command += ["--data.reader.init_args.root", str(folder), "--data.reader.init_args.name", run_result["dataset"]]
    stage_command.main([*command, "--trainer.enable_progress_bar", "false"])
    line = of_run(json.loads((run_dir / "result.json").read_text()))
    line["metrics"] |= {"val/recall@20": best(run_dir)}
    append_new("grounding", {**line, "variant": variant, "words_of": run_result["stage"]})
    return best(run_dir)


def main() -> None:
    """Fine-tune with each kind of vectors and print validation Recall@20."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="a finished run of stage 2 or 3")
    parser.add_argument("--config", type=Path, required=True, help="con.yaml of the same backbone")
    parser.add_argument("--init_from", type=Path, required=True, help="the run of stage 1")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--variants", nargs="+", help="all if left out")
    parser.add_argument("--near", type=int, default=16, help="number of words of a slot that make up its meaning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/grounding"))
    options = parser.parse_args()
    stage = load_run(options.run, ["--data.reader.init_args.root", str(options.data)])[0]
    space = stage.space
    run_result = json.loads((options.run / "result.json").read_text())
    found = vectors_of(stage, options.near)
    table = Table(
        "vectors", "validation Recall@20", "of stage 1", title=f"{run_result['dataset']}, {run_result['backbone']}"
    )
    start = best(options.init_from)
    for variant in options.variants or found:
        reached = fine_tune(found[variant], variant, space.texts.num_users, run_result, options)
        table.add_row(variant, f"{reached:.4f}", f"{reached / start - 1:+.1%}")
    Console().print(table)
    tokens, users = descriptors_of(stage).tolist(), torch.arange(space.texts.num_users)
    items = torch.arange(space.texts.num_users, len(tokens))
    alike = {kind: similarity(space, tokens, members) for kind, members in (("users", users), ("items", items))}
    print(f"rank correlation of similarities by learnt words and by texts: {alike}")


if __name__ == "__main__":
    main()
