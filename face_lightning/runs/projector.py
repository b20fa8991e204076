"""Files of TensorBoard's embedding projector: vectors of items with their labels and words."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from face_lightning.files import write_atomically
from face_lightning.plain_text import printable
from face_lightning.runs.inference import read_embeddings, read_entities, read_interactions

MOST_ITEMS = 3000  # the projector's own methods sample beyond a few thousand points
FILES = ("projector_config.pbtxt", "projector_vectors.tsv", "projector_labels.tsv")


def write_projector(run_dir: Path) -> None:
    """Write the most popular items of a finished run for TensorBoard's PROJECTOR tab.

    Args:
        run_dir: Folder of a run with embeddings, ids and interactions.
    """
    (_, items), _ = read_embeddings(run_dir)
    entities, (seen, _) = read_entities(run_dir), read_interactions(run_dir)
    popularity = np.bincount(seen.training()[1], minlength=len(items))
    rows = np.argsort(-popularity, kind="stable")[:MOST_ITEMS]
    words: list[list[str]] = [[]] * len(items)
    if (run_dir / "descriptors.parquet").is_file():
        words = pq.read_table(run_dir / "descriptors.parquet", columns=["words"])["words"].to_pylist()[-len(items) :]
    vectors = items[torch.from_numpy(rows)].tolist()
    names = [
        (entities.item_labels[row].as_py(), entities.item_ids[row].as_py(), " ".join(words[row]))
        for row in rows.tolist()
    ]
    config, tensor, metadata = FILES
    write_atomically(run_dir / tensor, "".join("\t".join(f"{x:.5g}" for x in vector) + "\n" for vector in vectors))
    lines = ["label\tid\twords", *("\t".join(printable(value) for value in name) for name in names)]
    write_atomically(run_dir / metadata, "\n".join(lines) + "\n")
    entry = f'tensor_name: "items"\n  tensor_path: "{tensor}"\n  metadata_path: "{metadata}"'
    write_atomically(run_dir / config, f"embeddings {{\n  {entry}\n}}\n")
