"""A finished run as an object: recommendations, words, and what edits of words and new texts change."""

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

_MAX_KEPT = 2**24  # numbers of topics of words that are kept

__all__ = ["ColdStart", "Description", "Ids", "Recommender", "Side", "Steered", "TopK", "Unknown"]


class Recommender(WordRecommender):
    """A finished run: recommendations, similar entities, words, and what words can do.

    Words are read when they are asked for; texts, and phrases outside the vocabulary, load the run's text encoder.
    """

    @classmethod
    def load(cls, run_dir: str | Path, device: str | torch.device = "cpu", *, new_items: bool = True) -> Self:
        """Read a finished run of any stage.

        Args:
            run_dir: Folder of the run.
            device: Where to rank; tables on the CPU stay memory-mapped, and processes share them.
            new_items: Whether to rank items without interactions that the run keeps with the others; metrics of runs
                are of the others alone.

        Raises:
            CheckpointError: If the run is not finished, or its files belong to different data.
            ConfigurationError: If there is no such device.
            DataError: If a file is damaged.
        """
        recommender = super().load(run_dir, device)
        if not new_items or not recommender.has_words or not (recommender._folder() / "new_items.parquet").is_file():
            return recommender
        from face_lightning.runs.kept_items import read_items  # as of the mapper below

        kept = read_items(recommender._folder(), recommender.entities.fingerprint)
        return recommender if kept is None else recommender._add(kept)

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
        """Best items of a user with more of some topics and less of others: see `WordSteering`.

        Args:
            who: Original id of a user, a history of original item ids, or None for nobody in particular, whose
                embedding is the mean of all users'.
            more: Words or phrases; those outside the vocabulary are represented by their nearest words in it. One that
                is named twice counts twice.
            less: Likewise.
            strength: Share of the words in the edit: at 0 they change nothing, at 1 they decide alone.
            k: Number of items, K.
            filter_seen: Which of their own items known users do not get, see `recommend`; histories do not get theirs
                unless it is None.
            allow: See `recommend`.
            deny: See `recommend`.

        Raises:
            DataError: If ids are unknown, a history is empty, or words cannot be found.
            ConfigurationError: If an argument is out of range.
            CheckpointError: If the run has no words.
        """
        check_range("strength", strength, least=0, most=1, usual="0.5")
        user, seen = self._query_of(who, check_seen(filter_seen))
        found = [[(phrase, *self._topic_of(phrase)) for phrase in phrases] for phrases in (more, less)]
        wanted, unwanted = ([topic for *_, topic in phrases] for phrases in found)
        candidates, excluded = self.candidates(allow, deny), (np.zeros(len(seen), np.int64), seen)
        one = np.zeros(1, np.int64)
        if more or less:
            scores = self._steering.scores(user, self._steering.relevance(wanted, unwanted), strength)
            user = self._steering.embedding(user, wanted, unwanted, strength)
            ranked = Catalogue(scores.unsqueeze(1)).rank(scores.new_ones(1, 1), one, k, candidates, excluded)
        else:
            ranked = self._catalogue.rank(user[None], one, k, candidates, excluded)
        top = collect(ranked, np.array([""], object), self.entities.item_strings)
        is_item = np.isfinite(top.scores[0])
        used = [{phrase: words for phrase, words, _ in phrases} for phrases in found]
        return Steered(top.ids[0][is_item], top.scores[0][is_item], used[0], used[1], user)

    def cold_start(self, text: str, k: int = 20) -> ColdStart:
        """Words, embedding, users and similar items of a new item of which only a text is known.

        The embedding is the prediction of kernel ridge regression from the meanings of texts, fitted on the run's
        items with training interactions.

        Args:
            text: Title, tags or description.
            k: Number of users, and of similar items, K.

        Raises:
            DataError: If the text is empty, or the run's text encoder cannot be loaded.
            CheckpointError: If the run has no words.
        """
        meanings = self._meanings.of_texts([text])
        embedding = self._embedding_of_meaning.predict(meanings).to(self._embeddings.items)
        (words,) = self._meanings.words_of(meanings, self._num_words)
        one = np.zeros(1, np.int64)
        users = Catalogue(self._embeddings.users).rank(embedding, one, k)
        items = self._directions_of_items.rank(F.normalize(embedding, dim=1), one, k)
        entities = self.entities
        top_users, top_items = (
            collect(tiles, np.array([""], object), ids)
            for tiles, ids in ((users, entities.user_strings), (items, entities.item_strings))
        )
        return ColdStart(
            words, embedding[0], top_users.ids[0], top_users.scores[0], top_items.ids[0], top_items.scores[0]
        )

    def with_items(self, texts: Mapping[str, str], labels: Mapping[str, str] | None = None) -> Self:
        """A Recommender that ranks new items with the others, by embeddings predicted from their texts.

        Args:
            texts: Text of each new item by its original id. Items of the run that are named get the predicted
                embedding instead of their own, which suits those without training interactions.
            labels: Names of new items; their ids if left out.

        Raises:
            DataError: If a text is empty, or the run's text encoder cannot be loaded.
            CheckpointError: If the run has no words.
        """
        from face_lightning.runs.kept_items import infer_items  # as of the mapper below

        return self._add(infer_items(texts, labels or {}, self._meanings, self._embedding_of_meaning, self._num_words))

    def _add(self, new: "InferredItems") -> Self:
        """A Recommender with further items, or with new embeddings, words and texts of those that it has."""
        entities = self.entities.with_items(new.ids, dict(zip(new.ids, new.labels, strict=True)))
        rows = torch.tensor([entities.item_rows[identifier] for identifier in new.ids], dtype=torch.int64)
        items = F.pad(self._embeddings.items, (0, 0, 0, len(entities.item_ids) - len(self.entities.item_ids)))
        items = items.index_copy(0, rows.to(items.device), new.embeddings.to(items))
        extended = type(self)(Embeddings(self._embeddings.users, items), entities, self.seen, self.run_dir)
        extended._before = self, rows, new
        return extended

    def _query_of(self, who: str | int | Ids | None, seen: Seen | None) -> tuple[Tensor, np.ndarray]:
        """Embedding `(D,)` of a user, a history or nobody, and rows of the items that are not wanted, ascending."""
        nothing = np.empty(0, np.int64)
        if who is None:
            return self._embeddings.users.mean(0), nothing
        if isinstance(who, str | int | np.integer):
            rows = self.user_rows([str(who)])
            return self._embeddings.users[rows[0]], nothing if seen is None else self.seen.of(rows, seen)[1]
        _, items, counts = self.history_rows([who])
        return self._fold_in.embed(items, counts)[0], nothing if seen is None else items

    @cached_property
    def _topic_of(self) -> Callable[[str], tuple[list[str], Topic]]:
        """Finds the words of the vocabulary that stand for a phrase, and their topic; the last ones are kept."""

        def find(phrase: str) -> tuple[list[str], Topic]:
            words, meaning = self._meanings.find(phrase)
            return words, self._steering.topic(meaning)

        return lru_cache(maxsize=min(1024, max(16, _MAX_KEPT // len(self._embeddings.items))))(find)

    @cached_property
    def _steering(self) -> WordSteering:
        return WordSteering(self._embeddings.items, self._meanings.item_vectors)

    @cached_property
    def _embedding_of_meaning(self) -> "KernelRidge":
        from face_lightning.runs.kept_items import fit_embeddings  # as of the mapper below

        return fit_embeddings(self._embeddings.items, self._meanings.item_vectors, self.seen)
