"""A finished run as an object: recommendations, words, steering by words, and new items by their texts."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.recommending.answers import (
    ColdStart,
    Description,
    Ids,
    Side,
    Steered,
    TopK,
    Unknown,
    collect,
)
from face_lightning.recommending.catalogue import Catalogue
from face_lightning.recommending.steering import Topic, WordSteering
from face_lightning.recommending.word_recommender import WordRecommender
from face_lightning.runs.inference import (
    Seen,
    check_seen,
)
from face_lightning.structures import Embeddings

if TYPE_CHECKING:
    from face_lightning.kernel_ridge import KernelRidge
    from face_lightning.runs.kept_items import InferredItems

_MAX_CACHED = 2**24  # numbers in the cached topics

__all__ = ["ColdStart", "Description", "Ids", "Recommender", "Side", "Steered", "TopK", "Unknown"]


class Recommender(WordRecommender):
    """A finished run: recommendations, similar entities, words, steering, and cold start.

    Words are read on first use. New texts, and phrases outside the vocabulary, load the run's text encoder.
    """

    @classmethod
    def load(cls, run_dir: str | Path, device: str | torch.device = "cpu", *, new_items: bool = True) -> Self:
        """Load a finished run of any stage.

        Args:
            run_dir: Folder of the run.
            device: Device to rank on; on the CPU the tables are memory-mapped, so processes share their memory.
            new_items: Whether to also rank the run's items without interactions, by their inferred embeddings. The
                metrics of a run do not include them.

        Raises:
            CheckpointError: If the run is not finished, or its files have different data fingerprints.
            ConfigurationError: If the device is unknown or not available.
            DataError: If a file is damaged.
        """
        recommender = super().load(run_dir, device)
        if not new_items or not recommender.has_words or not (recommender._folder() / "new_items.parquet").is_file():
            return recommender
        from face_lightning.runs.kept_items import read_items  # slow to import, and not needed to rank

        inferred = read_items(recommender._folder(), recommender.entities.fingerprint)
        return recommender if inferred is None else recommender._extended(inferred)

    def steer(
        self,
        who: str | int | Ids | None = None,
        more: Sequence[str] = (),
        less: Sequence[str] = (),
        strength: float = 0.5,
        k: int = 20,
        *,
        filter_seen: Seen | None = "all",
        allow: Ids | None = None,
        deny: Ids | None = None,
    ) -> Steered:
        """Recommend items to a user with more of some topics and less of others: see `WordSteering`.

        Args:
            who: Original id of a user, a history of original item ids, or None for the average user, whose embedding
                is the mean of all users.
            more: Words or phrases to get more of; those outside the vocabulary are represented by their nearest words
                in it. One that is repeated counts twice.
            less: Words or phrases to get less of, as in `more`.
            strength: Weight of the words between 0, where they change nothing, and 1, where they alone decide.
            k: Number of items, K.
            filter_seen: For known users, see `recommend`; the items of a history are left out unless it is None.
            allow: See `recommend`.
            deny: See `recommend`.

        Raises:
            DataError: If ids are unknown, a history is empty, or a phrase cannot be represented.
            ConfigurationError: If an argument is out of range.
            CheckpointError: If the run has no words.
        """
        check_range("strength", strength, least=0, most=1, usual="0.5")
        user, seen = self._steering_query(who, check_seen(filter_seen))
        topics = [[(phrase, *self._find_topic(phrase)) for phrase in phrases] for phrases in (more, less)]
        wanted, unwanted = ([topic for *_, topic in phrases] for phrases in topics)
        candidates, excluded = self.candidates(allow, deny), (np.zeros(len(seen), np.int64), seen)
        query_number = np.zeros(1, np.int64)
        if more or less:
            scores = self._steering.scores(user, self._steering.relevance(wanted, unwanted), strength)
            user = self._steering.embedding(user, wanted, unwanted, strength)
            ranked = Catalogue(scores.unsqueeze(1)).rank(scores.new_ones(1, 1), query_number, k, candidates, excluded)
        else:
            ranked = self._catalogue.rank(user[None], query_number, k, candidates, excluded)
        top = collect(ranked, np.array([""], object), self.entities.item_strings)
        is_item = np.isfinite(top.scores[0])
        used = [{phrase: words for phrase, words, _ in phrases} for phrases in topics]
        return Steered(top.ids[0][is_item], top.scores[0][is_item], used[0], used[1], user)

    def cold_start(self, text: str, k: int = 20) -> ColdStart:
        """Predict the words, embedding, users and similar items of a new item from its text.

        The embedding is predicted by kernel ridge regression on the meanings of texts, fitted on the run's items with
        training interactions.

        Args:
            text: Title, tags or description.
            k: Number of users and of similar items, K.

        Raises:
            DataError: If the text is empty, or the run's text encoder cannot be loaded.
            CheckpointError: If the run has no words.
        """
        meanings = self._meanings.of_texts([text])
        embedding = self._embedding_of_meaning.predict(meanings).to(self._embeddings.items)
        (words,) = self._meanings.words_of(meanings, self._num_words)
        query_number = np.zeros(1, np.int64)
        users = Catalogue(self._embeddings.users).rank(embedding, query_number, k)
        items = self._item_directions.rank(F.normalize(embedding, dim=1), query_number, k)
        entities = self.entities
        top_users, top_items = (
            collect(tiles, np.array([""], object), ids)
            for tiles, ids in ((users, entities.user_strings), (items, entities.item_strings))
        )
        return ColdStart(
            words, embedding[0], top_users.ids[0], top_users.scores[0], top_items.ids[0], top_items.scores[0]
        )

    def with_items(self, texts: Mapping[str, str], labels: Mapping[str, str] | None = None) -> Self:
        """A copy of this Recommender that also ranks new items, by embeddings predicted from their texts.

        Args:
            texts: Text of each new item by its original id. For an item of the run, the predicted embedding replaces
                its own, which is useful for items without training interactions.
            labels: Labels of new items by original id; the id itself for items left out.

        Raises:
            DataError: If a text is empty, or the run's text encoder cannot be loaded.
            CheckpointError: If the run has no words.
        """
        from face_lightning.runs.kept_items import infer_items  # slow to import, and not needed to rank

        regression = self._embedding_of_meaning
        return self._extended(infer_items(texts, labels or {}, self._meanings, regression, self._num_words))

    def _extended(self, new: "InferredItems") -> Self:
        """A copy with inferred items, which are added to or replace the embeddings, words and texts of its items."""
        entities = self.entities.with_items(new.ids, dict(zip(new.ids, new.labels, strict=True)))
        rows = torch.tensor([entities.item_rows[identifier] for identifier in new.ids], dtype=torch.int64)
        items = F.pad(self._embeddings.items, (0, 0, 0, len(entities.item_ids) - len(self.entities.item_ids)))
        items = items.index_copy(0, rows.to(items.device), new.embeddings.to(items))
        extended = type(self)(Embeddings(self._embeddings.users, items), entities, self.seen, self.run_dir)
        extended._extension = self, rows, new
        return extended

    def _steering_query(self, who: str | int | Ids | None, seen: Seen | None) -> tuple[Tensor, np.ndarray]:
        """Embedding `(D,)` of a user, a history or the average user, and rows of the items to exclude, ascending."""
        no_items = np.empty(0, np.int64)
        if who is None:
            return self._embeddings.users.mean(0), no_items
        if isinstance(who, str | int | np.integer):
            rows = self.user_rows([str(who)])
            return self._embeddings.users[rows[0]], no_items if seen is None else self.seen.of(rows, seen)[1]
        _, items, counts = self.history_rows([who])
        return self._fold_in.embed(items, counts)[0], no_items if seen is None else items

    @cached_property
    def _find_topic(self) -> Callable[[str], tuple[list[str], Topic]]:
        """Function from a phrase to the vocabulary words that represent it and their topic, with an LRU cache."""

        def find(phrase: str) -> tuple[list[str], Topic]:
            words, meaning = self._meanings.find(phrase)
            return words, self._steering.topic(meaning)

        return lru_cache(maxsize=min(1024, max(16, _MAX_CACHED // len(self._embeddings.items))))(find)

    @cached_property
    def _steering(self) -> WordSteering:
        return WordSteering(self._embeddings.items, self._meanings.item_vectors)

    @cached_property
    def _embedding_of_meaning(self) -> "KernelRidge":
        from face_lightning.runs.kept_items import fit_embeddings  # slow to import, and not needed to rank

        return fit_embeddings(self._embeddings.items, self._meanings.item_vectors, self.seen)
