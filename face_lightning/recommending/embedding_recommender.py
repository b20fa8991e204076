"""Recommendations and similar entities from the embeddings of a finished run, by original ids."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import CheckpointError, ConfigurationError, DataError, check_range
from face_lightning.fold_in import FoldIn, LeastSquaresFoldIn
from face_lightning.recommending.answers import (
    Ids,
    Side,
    TopK,
    Unknown,
    collect,
    rows_of,
)
from face_lightning.recommending.catalogue import Catalogue, RankedRows, take_rows
from face_lightning.recommending.index_search import IndexKind
from face_lightning.recommending.shared_files import SharedFiles
from face_lightning.runs.folder import current_run
from face_lightning.runs.inference import (
    Entities,
    Seen,
    SeenItems,
    check_seen,
    read_embeddings,
    read_entities,
    read_interactions,
)
from face_lightning.runs.kept_loss import kept_fold_in
from face_lightning.structures import Embeddings

_SAMPLE = 256  # number of users on whom the recall of an index is measured


class EmbeddingRecommender:
    """Ranks the catalogue for known and new users, exactly as evaluation does.

    It reads only the files that a run saves for inference, and needs no data set, text encoder or Trainer.

    Args:
        embeddings: Final embeddings of users `(U, D)` and items `(I, D)`.
        entities: Original ids and labels of users and items.
        seen: Items that users have interacted with.
        run_dir: Folder of the run; None if the embeddings do not come from one.
    """

    def __init__(
        self, embeddings: Embeddings, entities: Entities, seen: SeenItems, run_dir: Path | None = None
    ) -> None:
        self.entities, self.seen, self.run_dir = entities, seen, run_dir
        self._embeddings = embeddings
        self._catalogue = Catalogue(embeddings.items)
        self._shared: SharedFiles | None = None

    @classmethod
    def load(cls, run_dir: str | Path, device: str | torch.device = "cpu") -> Self:
        """Load a finished run of any stage.

        Args:
            run_dir: Folder of the run.
            device: Device to rank on; on the CPU the tables are memory-mapped, so processes share their memory.

        Raises:
            CheckpointError: If the run is not finished, or its files have different data fingerprints.
            ConfigurationError: If the device is unknown or not available.
            DataError: If a file is damaged.
        """
        run_dir = current_run(Path(run_dir))
        embeddings, fingerprint = read_embeddings(run_dir)
        entities, (seen, seen_fingerprint) = read_entities(run_dir), read_interactions(run_dir)
        shape = len(entities.user_ids), len(entities.item_ids)
        if {entities.fingerprint, seen_fingerprint} != {fingerprint} or shape != tuple(map(len, embeddings)):
            raise CheckpointError(
                f"run: expected files of one run, but those in {run_dir} belong to different data; finish that run, or "
                "train it again"
            )
        try:
            embeddings = Embeddings(*(table.to(device) for table in embeddings))
        except (RuntimeError, AssertionError) as error:  # torch raises either for an unknown or missing device
            reason = str(error).splitlines()[0]
            raise ConfigurationError(f"device: expected cpu or one of this machine, got {device} ({reason})") from error
        return cls(embeddings, entities, seen, run_dir)

    def share(self, root: Path) -> None:
        """Cache tables derived from the embeddings in memory-mapped files, shared by all processes that serve the run.

        Call it before `use_index` and `warm_up`. It has no effect unless the embeddings are on the CPU.

        Args:
            root: Cache folder of the processes; files of other runs in it are removed.
        """
        if self._embeddings.items.device.type != "cpu":
            return
        self._shared = SharedFiles(root, self._embeddings)
        self._shared.remove_others()
        self._catalogue = Catalogue(self._embeddings.items, self._shared, "items")

    def warm_up(self) -> None:
        """Build everything that is otherwise built on first use: search, fold-in and the lookup of ids."""
        self._catalogue.prepare()
        self._item_directions.prepare()
        entities = self.entities
        _ = self._fold_in, entities.user_rows, entities.item_rows, entities.user_strings, entities.item_strings

    def use_index(self, kind: IndexKind, recall: float = 0.99) -> float:
        """Rank items approximately by a FAISS index from now on.

        Rankings with `allow` or `deny`, and similar entities, stay exact.

        Args:
            kind: "hnsw" or "ivf".
            recall: Target recall of the exact top 20; the index is tuned to it on evenly spaced users.

        Returns:
            The recall reached on these users.

        Raises:
            ConfigurationError: If `recall` is out of range.
            MissingDependencyError: If FAISS is not installed.
        """
        check_range("recall", recall, above=0, most=1, usual="0.99")
        users = self._embeddings.users
        return self._catalogue.use_index(kind, users[:: max(1, len(users) // _SAMPLE)], recall)

    def embeddings(self) -> Embeddings:
        """Final embeddings of users `(U, D)` and items `(I, D)`; do not modify them."""
        return self._embeddings

    def recommend(
        self,
        users: Ids | str | None = None,
        k: int = 20,
        *,
        filter_seen: Seen | None = "all",
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: Unknown = "error",
    ) -> TopK:
        """Recommend the top-k items to known users.

        Args:
            users: Original ids; all users if None.
            k: Number of items per user, K.
            filter_seen: Splits whose interactions are left out of a user's ranking: "all", "train", "train+val", or
                None to leave out nothing.
            allow: Original ids of the items to choose from; all if None.
            deny: Original ids of items to leave out.
            unknown: "error" to raise on unknown ids, "skip" to ignore them.

        Raises:
            DataError: If ids are unknown.
            ConfigurationError: If an argument is out of range.
        """
        rows = np.arange(len(self._embeddings.users)) if users is None else self.user_rows(users, unknown)
        tiles = self.rank(rows, k, filter_seen, self.candidates(allow, deny, unknown))
        return collect(tiles, self.entities.user_strings, self.entities.item_strings)

    def recommend_history(
        self,
        histories: Sequence[Ids] | Mapping[str, Ids],
        k: int = 20,
        *,
        filter_seen: bool = True,
        allow: Ids | None = None,
        deny: Ids | None = None,
        unknown: Unknown = "error",
    ) -> TopK:
        """Recommend the top-k items to new users, whose embeddings are inferred by fold-in: see `kept_fold_in`.

        Args:
            histories: Original ids of each user's items, by the user's name; in a sequence, users are named from 0 on.
            k: Number of items per user, K.
            filter_seen: Whether to leave the items of a user's history out of the ranking.
            allow: See `recommend`.
            deny: See `recommend`.
            unknown: See `recommend`; "skip" also skips histories without any known item.

        Raises:
            DataError: If ids are unknown, or a history is empty.
            ConfigurationError: If an argument is out of range.
        """
        names, items, counts = self.history_rows(histories, unknown)
        tiles = self.rank_histories(items, counts, k, filter_seen, self.candidates(allow, deny, unknown))
        return collect(tiles, np.array(names, object), self.entities.item_strings)

    def embed_history(self, histories: Sequence[Ids] | Mapping[str, Ids], unknown: Unknown = "error") -> Tensor:
        """Infer the embeddings of new users `(B, D)`; see `recommend_history` for arguments and errors."""
        _, items, counts = self.history_rows(histories, unknown)
        return self._fold_in.embed(items, counts)

    def similar_items(self, items: Ids | str, k: int = 20, *, unknown: Unknown = "error") -> TopK:
        """The top-k items by cosine similarity to each item; the item itself is left out."""
        tiles = self.rank_similar("items", self.item_rows(items, unknown), k)
        return collect(tiles, self.entities.item_strings, self.entities.item_strings)

    def similar_users(self, users: Ids | str, k: int = 20, *, unknown: Unknown = "error") -> TopK:
        """The top-k users by cosine similarity to each user; the user itself is left out."""
        tiles = self.rank_similar("users", self.user_rows(users, unknown), k)
        return collect(tiles, self.entities.user_strings, self.entities.user_strings)

    def user_rows(self, ids: Ids | str, unknown: Unknown = "error") -> np.ndarray:
        """Look up the rows of users `(B,)` by original ids."""
        return rows_of("users", self.entities.user_rows, ids, unknown)

    def item_rows(self, ids: Ids | str, unknown: Unknown = "error") -> np.ndarray:
        """Look up the rows of items `(B,)` by original ids."""
        return rows_of("items", self.entities.item_rows, ids, unknown)

    def label_of(self, side: Side, identifier: str) -> str:
        """Label of a user or an item by its original id."""
        known, labels = (
            (self.entities.user_rows, self.entities.user_labels)
            if side == "users"
            else (self.entities.item_rows, self.entities.item_labels)
        )
        return str(labels[known[identifier]].as_py())

    def candidates(self, allow: Ids | None, deny: Ids | None, unknown: Unknown = "error") -> np.ndarray | None:
        """Rows of the items that may be recommended, ascending; None for all items."""
        rows = (None if ids is None else self.item_rows(ids, unknown) for ids in (allow, deny))
        return self._catalogue.candidates(*rows)

    def rank(
        self, users: np.ndarray, k: int, filter_seen: Seen | None = "all", candidates: np.ndarray | None = None
    ) -> Iterator[RankedRows]:
        """Rank items for users, given by rows `(B,)`, tile by tile in bounded memory."""
        seen, size = check_seen(filter_seen), self._catalogue.tile_size()
        for begin in range(0, len(users), size):
            tile = users[begin : begin + size]
            queries = take_rows(self._embeddings.users, tile)
            excluded = None if seen is None else self.seen.of(tile, seen)
            yield from self._catalogue.rank(queries, tile, k, candidates, excluded)

    def rank_histories(
        self,
        items: np.ndarray,
        counts: np.ndarray,
        k: int,
        filter_seen: bool = True,
        candidates: np.ndarray | None = None,
    ) -> Iterator[RankedRows]:
        """Rank items for histories, given as concatenated item rows `(N,)` and their number per history `(B,)`."""
        query_numbers = np.arange(len(counts))
        excluded = (np.repeat(query_numbers, counts), items) if filter_seen else None
        return self._catalogue.rank(self._fold_in.embed(items, counts), query_numbers, k, candidates, excluded)

    def rank_similar(self, side: Side, rows: np.ndarray, k: int) -> Iterator[RankedRows]:
        """Rank users or items by cosine similarity to those at `rows` `(B,)`, tile by tile in bounded memory."""
        catalogue = self._user_directions if side == "users" else self._item_directions
        size = catalogue.tile_size()
        for begin in range(0, len(rows), size):
            tile = rows[begin : begin + size]
            queries = take_rows(catalogue.table, tile)
            yield from catalogue.rank(queries, tile, k, excluded=(np.arange(len(tile)), tile))

    @cached_property
    def _user_directions(self) -> Catalogue:
        return self._directions("user_directions", self._embeddings.users)

    @cached_property
    def _item_directions(self) -> Catalogue:
        return self._directions("item_directions", self._embeddings.items)

    def _directions(self, name: str, table: Tensor) -> Catalogue:
        """Catalogue of a table with rows normalised to unit length, so that inner products are cosines."""
        shared = self._shared
        if shared is None:
            return Catalogue(F.normalize(table, dim=1))
        return Catalogue(shared.tensor(name, lambda: F.normalize(table, dim=1)), shared, name)

    @cached_property
    def _fold_in(self) -> FoldIn | LeastSquaresFoldIn:
        return kept_fold_in(self.run_dir, self._embeddings, *self.seen.training())

    def history_rows(
        self, histories: Sequence[Ids] | Mapping[str, Ids], unknown: Unknown = "error"
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Look up the item rows of histories, without duplicates.

        Returns:
            Names of the histories (B), their concatenated item rows `(N,)`, and the number of items of each `(B,)`.

        Raises:
            DataError: If ids are unknown, or a history is empty.
        """
        named = histories.items() if isinstance(histories, Mapping) else enumerate(histories)
        ids = {str(name): [str(identifier) for identifier in items] for name, items in named}
        self.item_rows([identifier for items in ids.values() for identifier in items], unknown)  # one error for all
        rows = {name: np.unique(self.item_rows(items, unknown)) for name, items in ids.items()}
        empty = [name for name, items in rows.items() if not len(items)]
        if empty and unknown == "error":
            raise DataError(
                f"histories: expected at least one item in each, but {', '.join(empty[:5])} "
                f"{'has' if len(empty) == 1 else 'have'} none; leave them out, or skip them with unknown='skip'"
            )
        nonempty = {name: items for name, items in rows.items() if len(items)}
        counts = np.array([len(items) for items in nonempty.values()], dtype=np.int64)
        return list(nonempty), np.concatenate([np.empty(0, np.int64), *nonempty.values()]), counts
