"""Reader of tables of interactions: CSV, TSV, Parquet, RecBole's atomic files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from face_lightning.data.metadata import MetadataFile, read_metadata
from face_lightning.data.pairs import Columns, read_pairs
from face_lightning.data.prepared import PreparedData, Record, describe_file
from face_lightning.data.preparing import Recipe, notices, prepare, raw_notices
from face_lightning.data.profiles import DOMAINS, Dataset
from face_lightning.data.readers.prepared_folder import as_dataset, missing_texts
from face_lightning.data.readers.reader import Reader
from face_lightning.data.tables import Progress, TableFormat, parts_of
from face_lightning.errors import ConfigurationError


class InteractionFile(Reader):
    """Reads a table of interactions, filters and splits it.

    Text files may be compressed (.gz, .bz2, .zst). The result does not depend on row order. `face data import` does
    the same once and stores the result.

    Args:
        source: CSV, TSV, Parquet or RecBole's .inter file, or a folder of part files as written by Spark; with split
            "given", the training file.
        user: Column of user ids.
        item: Column of item ids.
        rating: Column of ratings, for `min_rating`; without `min_rating`, every row counts regardless of its rating.
        min_rating: Minimum rating of an interaction.
        time: Column of times: numbers, or dates such as 2024-01-31 12:00:00.
        core: Minimum number of interactions of every user and item (k-core).
        split: "random" per user, "global" at random over all pairs, "temporal" over all pairs, "last" pairs of each
            user, or "given" by the files `valid` and `test`.
        ratios: Relative sizes of train, valid and test.
        last_n: Number of pairs of a user in valid, and in test, for split "last".
        seed: Seed of the random splits.
        valid: Validation file, for split "given".
        test: Test file, for split "given".
        separator: Column separator, such as `;` or `::`; by the suffix of the file if omitted.
        encoding: Encoding of text files.
        header: Whether the first line contains the column names; otherwise these are 1, 2, ...
        drop_missing: Drop rows without an id instead of rejecting the file.
        item_metadata: Metadata of items: JSONL, CSV, TSV, Parquet or RecBole's .item, joined by id; if omitted, the
            .item file in the folder of an .inter file.
        user_metadata: Likewise for users (.user). It becomes part of users' texts and must not reveal test items.
        item_key: Field of original ids in `item_metadata`; the name of `item` if omitted.
        user_key: Likewise in `user_metadata`.
        item_fields: Maps the field names of templates to those of `item_metadata`, such as
            `{title: movie_title, tags: class}`; see `MetadataFile`.
        user_fields: Likewise for `user_metadata`.
        metadata_separator: Column separator of metadata; if omitted, `separator` if line 1 contains it, else by suffix.
        metadata_header: Whether the first line of metadata contains the column names; otherwise these are 1, 2, ...
        keep_new_items: Keep items of `item_metadata` without a remaining interaction. They take part in neither
            training nor metrics; runs with words recommend them by their texts.
        domain: Kind of items: "movie", "game", "book", "restaurant" or "item".
        name: Name of the data set; the file name without suffix if omitted.
    """

    def __init__(
        self,
        source: str | Path,
        user: str = "user_id",
        item: str = "item_id",
        rating: str | None = None,
        min_rating: float | None = None,
        time: str | None = None,
        core: int = 1,
        split: Literal["random", "global", "temporal", "last", "given"] = "random",
        ratios: Sequence[float] = (3.0, 1.0, 1.0),
        last_n: int = 1,
        seed: int = 0,
        valid: str | Path | None = None,
        test: str | Path | None = None,
        separator: str | None = None,
        encoding: str = "utf-8",
        header: bool = True,
        drop_missing: bool = False,
        item_metadata: str | Path | None = None,
        user_metadata: str | Path | None = None,
        item_key: str | None = None,
        user_key: str | None = None,
        item_fields: dict[str, str] | None = None,
        user_fields: dict[str, str] | None = None,
        metadata_separator: str | None = None,
        metadata_header: bool = True,
        keep_new_items: bool = False,
        domain: str = "item",
        name: str | None = None,
    ) -> None:
        _check_split(split, valid, test)
        if min_rating is not None and rating is None:
            raise ConfigurationError("min_rating: expected a column of ratings, got none; add --rating COLUMN")
        if domain not in DOMAINS:
            raise ConfigurationError(f"domain: expected one of {', '.join(DOMAINS)}, got {domain!r}; choose one")
        self.paths = [Path(source), *(Path(path) for path in (valid, test) if path is not None)]
        self.columns = Columns(user, item, rating, time)
        self.recipe = Recipe(min_rating, core, split, tuple(ratios), last_n, seed)
        self.form = TableFormat(separator, encoding, header)
        self.drop_missing = drop_missing
        given = {
            "user": (user_metadata or _find_recbole_file(self.paths[0], "user"), user_key or user, user_fields),
            "item": (item_metadata or _find_recbole_file(self.paths[0], "item"), item_key or item, item_fields),
        }
        form = TableFormat(metadata_separator, encoding, metadata_header, separator)
        self.metadata = {
            kind: MetadataFile(Path(path), kind, key, fields or {}, form)
            for kind, (path, key, fields) in given.items()
            if path is not None
        }
        if keep_new_items and "item" not in self.metadata:
            raise ConfigurationError(
                "keep_new_items: expected metadata of items, got none; add --item_metadata FILE, or omit this option"
            )
        self.keep_new_items = keep_new_items
        self.domain = domain
        self.name = name or self.paths[0].name.partition(".")[0] or "data"

    def read(self) -> Dataset:
        """Read, filter and split the data, and write texts.

        Raises:
            DataError: If a file is missing or damaged, or no rows remain after a step.
        """
        return as_dataset(self.prepare())

    def prepare(self, progress: Progress | None = None) -> PreparedData:
        """Read, filter and split the data, and record their history.

        Args:
            progress: Called with the share that has been read.

        Raises:
            DataError: As `read` does.
        """
        pairs = read_pairs(self.paths, self.columns, self.form, drop_missing=self.drop_missing, progress=progress)
        interactions, steps = prepare(pairs, self.recipe, self.name)
        history: dict[str, Any] = {
            "sources": [describe_file(part) for path in self.paths for part in parts_of(path)],
            "columns": self.columns.named(),
            "steps": [step._asdict() for step in steps],
            "notices": [*raw_notices(pairs, self.recipe), *notices(interactions)],
        }
        records: dict[str, list[Record]] = {}
        sides = {"user": interactions.user_ids, "item": interactions.item_ids}
        new_items: dict[str, Record] = {}
        for kind, file in self.metadata.items():
            keep = self.keep_new_items and kind == "item"
            records[kind], others, num_rows = read_metadata(file, sides[kind], keep)
            history["sources"].append(describe_file(file.path))
            history["notices"] += _metadata_notices(kind, records[kind], num_rows, keep)
            new_items |= others
        data = PreparedData(interactions, records.get("user"), records.get("item"), new_items, self.domain, history)
        dataset = as_dataset(data)
        history["without_text"] = missing_texts(dataset)
        history["num_new_items"] = 0 if dataset.new_items is None else len(dataset.new_items.texts)
        return data


def _check_split(split: str, valid: str | Path | None, test: str | Path | None) -> None:
    """Check that files of validation and test pairs are given exactly if they decide the split."""
    if (valid is not None, test is not None) != ((split == "given"),) * 2:
        raise ConfigurationError(
            f"split: expected --valid FILE and --test FILE with split given only, got split {split}, "
            f"valid {valid}, test {test}; correct one of them"
        )


def _find_recbole_file(source: Path, kind: str) -> Path | None:
    """Return RecBole's file of users or items in the folder of a file of interactions; None if there is none."""
    if source.suffix != ".inter":
        return None
    # A file of one split has another suffix: name.train.inter belongs to name.item.
    candidates = (source.with_suffix(f".{kind}"), source.with_suffix("").with_suffix(f".{kind}"))
    return next((path for path in candidates if path.is_file()), None)


def _metadata_notices(kind: str, records: Sequence[Record], num_rows: int, keeps_others: bool) -> list[str]:
    """Return warnings about entities without metadata, and metadata without entities."""
    known = sum(map(bool, records))
    found = []
    if known < len(records):
        found.append(
            f"{len(records) - known:,} of {len(records):,} {kind}s have no metadata: their words come from "
            "interactions alone, and they are excluded from the text losses"
        )
    if known < num_rows and not keeps_others:
        cure = "; --keep_new_items keeps them" if kind == "item" else ""
        found.append(
            f"{num_rows - known:,} of {num_rows:,} rows of {kind}_metadata belong to no remaining {kind}{cure}"
        )
    return found
