"""Copy of a data set whose texts never mention withheld topics: python -m benchmarks.withheld_topics ROOT OUT.

Topics are the tags and genres of items. Those of at least `--least` items are sorted by frequency, and every n-th is
withheld (`--every 3`: a third, common and rare; `--every 1`: all): it is removed from tags, genres and titles, both
alone and as a part of longer tags. OUT is a folder that `RLMRecFolder` reads, with the items of each topic in
topics.json.
"""

import argparse
import json
import pickle
import re
from pathlib import Path

from scipy.sparse import coo_matrix

from face_lightning.data.interactions import SPLITS
from face_lightning.data.profiles import Dataset
from face_lightning.data.readers import InteractionFile, MovieLens100K, RLMRecFolder

_MATRICES = dict(zip(SPLITS, ("trn_mat.pkl", "val_mat.pkl", "tst_mat.pkl"), strict=True))


def items_of_topics(dataset: Dataset, least: int) -> dict[str, list[int]]:
    """Item rows of each topic (in lower case), most frequent topic first."""
    assert dataset.profiles is not None
    assert dataset.profiles.facts is not None
    topics: dict[str, list[int]] = {}
    for row, fields in enumerate(dataset.profiles.facts.items):
        tags = fields["tags"]
        assert isinstance(tags, list)
        for tag in {tag.lower() for tag in tags}:
            topics.setdefault(tag, []).append(row)
    frequent = {topic: rows for topic, rows in topics.items() if len(rows) >= least}
    return dict(sorted(frequent.items(), key=lambda entry: (-len(entry[1]), entry[0])))


def without(topics: list[str]) -> re.Pattern[str]:
    """Pattern that matches mentions of the topics, including plurals."""
    names = "|".join(re.escape(topic) for topic in sorted(topics, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{names})s?(?!\w)", flags=re.IGNORECASE)


def write_copy(dataset: Dataset, out: Path, every: int, least: int) -> tuple[list[str], list[str]]:
    """Write the copy; returns the withheld topics and the other topics.

    Args:
        dataset: Interactions and metadata of items.
        out: Folder to create.
        every: Withhold one of every so many topics by frequency (the second), or all for 1.
        least: Minimum number of items of a topic.
    """
    profiles, interactions = dataset.profiles, dataset.interactions
    assert profiles is not None
    assert profiles.facts is not None
    topics = items_of_topics(dataset, least)
    withheld = [topic for number, topic in enumerate(topics) if number % every == min(1, every - 1)]
    mentions = without(withheld)
    out.mkdir(parents=True)
    with (out / "items.jsonl").open("w") as file:
        for row, fields in enumerate(profiles.facts.items):
            tags = [tag for tag in fields["tags"] if not mentions.search(tag)]  # type: ignore[attr-defined]
            title = " ".join(mentions.sub(" ", str(fields["title"])).split())
            kept = {key: fields[key] for key in ("year", "developer") if fields.get(key)}
            file.write(json.dumps({"item_id": row, "title": title, "tags": tags, **kept}) + "\n")
    for split, name in _MATRICES.items():
        (out / name).write_bytes(pickle.dumps(coo_matrix(interactions.matrix(split))))
    for name, ids in (("user_ids.txt", interactions.user_ids), ("item_ids.txt", interactions.item_ids)):
        (out / name).write_text("".join(f"{identifier}\n" for identifier in ids.tolist()))
    seen = [topic for topic in topics if not mentions.search(topic)]
    (out / "topics.json").write_text(json.dumps({"withheld": withheld, "seen": seen, "items": topics}))
    return withheld, seen


def read(root: Path, domain: str) -> Dataset:
    """Read interactions and metadata of a data set."""
    if domain == "movie":
        return MovieLens100K(root).read()
    if domain == "item":
        return InteractionFile(root / "clicks.csv", item_metadata=root / "items.jsonl").read()
    return RLMRecFolder(root, domain=domain).read()


def main() -> None:
    """Write the copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("out", type=Path, help="folder to create")
    parser.add_argument("--domain", default="movie", help="movie: MovieLens-100K; game: RLMRec's; item: citeulike-a")
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--least", type=int, default=10)
    arguments = parser.parse_args()
    withheld, seen = write_copy(read(arguments.root, arguments.domain), arguments.out, arguments.every, arguments.least)
    print(f"{arguments.out}: {len(withheld)} topics withheld, {len(seen)} left")


if __name__ == "__main__":
    main()
