"""Export of a run to a folder: vectors, ids, words, an index, the mapper, and a model card."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from face_lightning.errors import ConfigurationError
from face_lightning.files import atomic_folder
from face_lightning.imports import import_optional
from face_lightning.recommending.index_search import build_index
from face_lightning.recommending.recommender import Recommender, Side
from face_lightning.runs.folder import current_run
from face_lightning.runs.kept_mapper import keeps_mapper, read_mapper
from face_lightning.runs.results import read_result
from face_lightning.text.cache import save_tensors

BundledIndex = Literal["flat", "hnsw", "none"]
_EF_SEARCH = 256  # of HNSW; the model card states the recall reached
NUM_STEPS = 3
_SAMPLE = 1000  # number of users on whom the recall of an index is measured


def write_bundle(
    recommender: Recommender,
    run_dir: Path,
    out: Path,
    index: BundledIndex = "flat",
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Write an export atomically.

    Args:
        recommender: Recommender of the run.
        run_dir: Folder of the run.
        out: Folder to create.
        index: Kind of FAISS index over the items.
        progress: Called with a description of each step before it starts, `NUM_STEPS` times.

    Returns:
        Paths of all files, relative to `out`.

    Raises:
        ConfigurationError: If `out` exists and is not an empty folder.
        MissingDependencyError: If an index is requested and FAISS is not installed.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"out: expected a new folder, but {out} is not empty; remove it, or give another")
    with atomic_folder(out) as folder:
        (folder / "pgvector").mkdir()
        facts = _facts(recommender, run_dir) | {"index": index, "recall": None, "has_mapper": False}
        begin = progress or (lambda _: None)
        begin("writing vectors and words")
        _write_tables(recommender, folder)
        begin("building the index")
        if index != "none":
            facts["recall"] = _write_index(recommender, folder / "items.faiss", index)
        begin("tracing the mapper")
        facts["has_mapper"] = keeps_mapper(run_dir) and _write_mapper(run_dir, facts["embedding_dim"], folder)
        _write_texts(facts, folder)
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


def _write_tables(recommender: Recommender, out: Path) -> None:
    """Write vectors, ids, labels and words of users and items, for Python, SQL and vector databases."""
    embeddings, entities = recommender.embeddings(), recommender.entities
    tables: dict[Side, Any] = {"users": embeddings.users.cpu(), "items": embeddings.items.cpu()}
    save_tensors(out / "embeddings.safetensors", embeddings._asdict(), {})
    ids_and_labels = {
        "users": (entities.user_ids, entities.user_labels),
        "items": (entities.item_ids, entities.item_labels),
    }
    for name, table in tables.items():
        vectors = table.numpy()
        np.save(out / f"{name}.npy", vectors)
        ids, labels = ids_and_labels[name]
        words = recommender.words_of(name)
        columns = {"id": ids, "label": labels, **({} if words is None else {"words": words})}
        rows = pa.table({"row": pa.array(np.arange(len(ids))), **columns})
        pq.write_table(rows, out / f"{name}.parquet")
        with (out / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(rows))
        with (out / "pgvector" / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "label", "words", "embedding"])
            for row in _rows(rows):
                vector = ",".join(map(str, vectors[row["row"]]))  # the shortest decimals that parse to the same float32
                writer.writerow([row["id"], row["label"], _sql_array(row.get("words") or []), f"[{vector}]"])


def _rows(table: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 an Arrow table
    for batch in table.to_batches(4096):
        yield from batch.to_pylist()


def _sql_array(words: list[str]) -> str:
    """Format words as a PostgreSQL array literal."""
    quoted = ('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words)
    return "{" + ",".join(quoted) + "}"


def _write_index(recommender: Recommender, path: Path, kind: Literal["flat", "hnsw"]) -> float:
    """Write an inner-product index over the items.

    Returns:
        Recall of the exact top 20, over evenly spaced users.
    """
    faiss = import_optional("faiss", extra="cpu", purpose="the index of an export")
    users, items = (table.cpu().numpy() for table in recommender.embeddings())
    index = build_index(np.ascontiguousarray(items), kind)
    if kind == "hnsw":
        index.hnsw.efSearch = _EF_SEARCH
    faiss.write_index(index, str(path))
    rows = np.arange(0, len(users), max(1, len(users) // _SAMPLE))
    k = min(20, len(items))
    found = index.search(np.ascontiguousarray(users[rows]), k)[1]
    best = np.concatenate([tile.rows for tile in recommender.rank(rows, k, None)])
    return float(np.mean([len(np.intersect1d(*pair)) / k for pair in zip(found, best, strict=True)]))


def _write_mapper(run_dir: Path, embedding_dim: int, out: Path) -> bool:
    """Write the mapper as a program, and its words; returns False if its quantizer cannot be exported."""
    from face_lightning.exports.program import can_export, write_program  # torch.export is slow to import

    mapper, codebook = read_mapper(run_dir, embedding_dim)
    if not can_export(mapper):
        return False
    write_program(mapper, embedding_dim, out / "mapper.pt2")
    (out / "words.txt").write_text("".join(f"{word}\n" for word in codebook.words), encoding="utf-8")
    return True


def _facts(recommender: Recommender, run_dir: Path) -> dict[str, Any]:
    """Values that the model card shows."""
    run_dir = current_run(run_dir)
    result, environment = read_result(run_dir), json.loads((run_dir / "environment.json").read_text())
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    words = (config["model"]["init_args"].get("words") or {}).get("init_args") or {}
    encoder = ((words.get("encoder") or {}).get("init_args") or {}).get("model")
    return {
        "result": result,
        "data": environment["data"],
        "versions": environment["versions"],
        "metrics": {key: value for key, value in result["metrics"].items() if isinstance(value, float)},
        "embedding_dim": recommender.embeddings().items.shape[1],
        "has_words": recommender.has_words,
        "encoder": (encoder and Path(encoder).name) or "all-MiniLM-L6-v2",
        "config": yaml.safe_dump({key: config[key] for key in ("model", "trainer") if key in config}, sort_keys=False),
    }


def _write_texts(facts: dict[str, Any], out: Path) -> None:
    """Write the model card, a script that reads the export, and SQL that loads it."""
    templates = Environment(
        loader=PackageLoader("face_lightning.exports", "."),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    for name, path in (("model_card.md", "README.md"), ("example.py", "example.py"), ("load.sql", "pgvector/load.sql")):
        (out / path).write_text(templates.get_template(f"{name}.j2").render(facts), encoding="utf-8")
