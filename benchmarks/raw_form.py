"""Data sets in the format of a user's files: `python -m benchmarks.raw_form steam-vt --out raw/steam-vt`.

Writes clicks.csv (one row per interaction, with original ids) and items.jsonl (one object per item) from public
columns: for ml-100k all ratings with times, films and viewers (users.csv); for steam-vt and yelp the pairs of all
splits of a folder in RLMRec's format, shuffled, with the metadata of games and businesses. The next command is
`face data import`.
"""

import argparse
import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.records import shared_data
from face_lightning.data.fetch import fetch_movielens_100k
from face_lightning.data.interactions import SPLITS
from face_lightning.data.movielens import read_tables
from face_lightning.data.readers import RLMRecFolder
from face_lightning.errors import DataError

ORIGINAL_IDS = {"steam-vt": "app_id", "yelp": "business_id"}
DATASETS = ("ml-100k", *ORIGINAL_IDS)
# Options of `face data import` for each data set, besides the files.
IMPORT = {
    "ml-100k": ["--rating", "rating", "--min_rating", "4", "--domain", "movie"],
    "steam-vt": ["--domain", "game"],
    "yelp": ["--domain", "restaurant"],
}


def write_raw(dataset: str, root: Path, out: Path) -> None:
    """Write the files of a data set.

    Args:
        dataset: One of `DATASETS`.
        root: Folder of the data set; MovieLens-100K is fetched into it if it is missing.
        out: Folder to write into; created if it is missing.

    Raises:
        DataError: If the data set is missing or incomplete.
    """
    out.mkdir(parents=True, exist_ok=True)
    if dataset == "ml-100k":
        _write_movielens(root, out)
    else:
        _write_folder(root, ORIGINAL_IDS[dataset], out)


def _write_movielens(root: Path, out: Path) -> None:
    """Write all ratings, films and viewers of MovieLens-100K."""
    fetch_movielens_100k(root, quiet=True)
    tables = read_tables(root)
    _write_csv(out / "clicks.csv", ["user_id", "item_id", "rating", "timestamp"], tables.ratings.tolist())
    viewers = [[viewer.viewer_id, viewer.occupation] for viewer in tables.viewers]
    _write_csv(out / "users.csv", ["user_id", "occupation"], viewers)
    films = (
        {"item_id": film.film_id, "title": film.title, "year": film.year, "tags": film.genres} for film in tables.films
    )
    _write_jsonl(out / "items.jsonl", films)


def _write_folder(root: Path, original_id: str, out: Path, seed: int = 0) -> None:
    """Write all pairs of a folder in RLMRec's format, and the metadata of its items, with the ids of the source.

    Items without metadata are named by their column number with a mark, so that it cannot equal an id; users are named
    by numbers.
    """
    described = root / "items.jsonl"
    if not described.is_file():
        raise DataError(f"data: expected the metadata {described}, but there is none; give the folder with --data")
    interactions = RLMRecFolder(root).read().interactions
    records = [json.loads(line) for line in described.read_text(encoding="utf-8").splitlines() if line.strip()]
    names = {int(record["item_id"]): str(record[original_id]) for record in records}
    if len(set(names.values())) < len(records):
        raise DataError(f"data: expected every {original_id} once in {described}, but some are doubled; mend the file")
    pairs = np.concatenate([np.transpose(interactions.matrix(split).nonzero()) for split in SPLITS])
    rows = np.random.default_rng(seed).permutation(pairs).tolist()
    _write_csv(
        out / "clicks.csv",
        ["user_id", "item_id"],
        ([f"u{user}", names.get(item, f"item{item}")] for user, item in rows),
    )
    for record in records:
        record["item_id"] = record.pop(original_id)
    _write_jsonl(out / "items.jsonl", records)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def main() -> None:
    """Write the files and print the next command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", choices=DATASETS)
    parser.add_argument("--data", type=Path, help="folder of the data set (default: that in FACE_SHARED_DATA)")
    parser.add_argument("--out", type=Path, help="folder to write into (default: data/raw/DATASET)")
    options = parser.parse_args()
    out = options.out or Path("data/raw") / options.dataset
    usual = Path("data/ml-100k") if options.dataset == "ml-100k" else shared_data() / options.dataset
    try:
        write_raw(options.dataset, options.data or usual, out)
    except DataError as error:
        raise SystemExit(str(error)) from error
    flags = " ".join(IMPORT[options.dataset])
    print(f"face data import {out}/clicks.csv {flags} --core 5 --item_metadata {out}/items.jsonl --out data/mine")


if __name__ == "__main__":
    main()
