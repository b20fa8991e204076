"""A finished run as an object: recommendations, similar entities, words and embeddings by original ids."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import CheckpointError, DataError, check_range
from face_lightning.kernel_ridge import KernelRidge
from face_lightning.recommending.answers import (
    ColdStart,
    Description,
    Ids,
    Side,
    Steered,
    TopK,
    Unknown,
    collect,
    extend_words,
)
from face_lightning.recommending.catalogue import Catalogue
from face_lightning.recommending.embedding_recommender import EmbeddingRecommender
from face_lightning.recommending.explanations import Explanation, link_words
from face_lightning.recommending.steering import WordSteering
from face_lightning.runs.inference import (
    Seen,
    check_seen,
)
from face_lightning.structures import Embeddings

if TYPE_CHECKING:
    from face_lightning.mapping.mapper import TokenMapper
    from face_lightning.runs.kept_meanings import Meanings
    from face_lightning.runs.kept_regression import NewUserWords
    from face_lightning.text.vocabulary import Codebook

__all__ = ["ColdStart", "Description", "Ids", "Recommender", "Side", "Steered", "TopK", "Unknown"]


class Recommender(EmbeddingRecommender):
    """A finished run: recommendations, similar entities, words, and what words can do.

    Words are read when they are asked for; texts, and phrases outside the vocabulary, load the run's text encoder.
    """

    @property
    def has_words(self) -> bool:
        """Whether the run gives words to users and items."""
        return self.run_dir is not None and (self.run_dir / "descriptors.parquet").is_file()

    def warm_up(self) -> None:
        """Build now what is otherwise built on first use: search, fold-in, words and the mapper."""
        super().warm_up()
        if self.has_words:
            _ = self._words
        with contextlib.suppress(CheckpointError):  # also imports what says that there is none
            _ = self._mapper, self._new_user_words

    def describe(self, *, users: Ids | str = (), items: Ids | str = ()) -> list[Description]:
        """Words of users, then of items.

        Raises:
            DataError: If ids are unknown.
            CheckpointError: If the run has no words.
        """
        rows = [*self.user_rows(users).tolist(), *(len(self._embeddings.users) + self.item_rows(items)).tolist()]
        return [Description(**row) for row in self._words.take(pa.array(rows, pa.int64())).to_pylist()]

    def words_of(self, side: Side) -> Any:  # noqa: ANN401
        """Words of all users or items as an Arrow array of lists, in the order of rows; None for a run without."""
        if not self.has_words:
            return None
        num_users = len(self._embeddings.users)
        words = self._words["words"]
        return words.slice(0, num_users) if side == "users" else words.slice(num_users)

    def describe_history(
        self, histories: Sequence[Ids] | Mapping[str, Ids], unknown: Unknown = "error"
    ) -> list[Description]:
        """Words of new users from their inferred embeddings, those nearest to all of them first.

        They are the words of the text that kernel ridge regression predicts (`runs.kept_regression`), or the mapper's
        where a run keeps no regression.

        Raises:
            DataError: If ids are unknown, or a history is empty.
            CheckpointError: If the run has no mapper.
        """
        names, items, counts = self.history_rows(histories, unknown)
        embeddings = self._fold_in.embed(items, counts).cpu()
        spelled = (
            self._mapped_words(embeddings) if self._new_user_words is None else self._new_user_words.of(embeddings)
        )
        return [Description("user", name, name, words) for name, words in zip(names, spelled, strict=True)]

    def explain(self, user: str | int, item: str | int) -> Explanation:
        """Why an item suits a user: words of both, and the pairs of like meaning.

        Raises:
            DataError: If an id is unknown.
            CheckpointError: If the run has no words.
        """
        of_user, of_item = self.describe(users=[str(user)], items=[str(item)])
        meanings = [torch.stack([self._meanings.find(word)[1] for word in one.words]) for one in (of_user, of_item)]
        (user_row,), (item_row,) = self.user_rows([str(user)]), self.item_rows([str(item)])
        scores = self._embeddings.items @ self._embeddings.users[user_row]
        return Explanation(
            of_user.words,
            of_item.words,
            link_words(of_user.words, of_item.words, meanings[0] @ meanings[1].T),
            float(scores[item_row]),
            int((scores > scores[item_row]).sum()) + 1,
        )

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
        found = [{phrase: self._direction_of(phrase) for phrase in phrases} for phrases in (more, less)]
        catalogue, query = self._catalogue, user
        if more or less:
            directions = [[self._direction_of(phrase)[1] for phrase in phrases] for phrases in (more, less)]
            query = self._steering.edit(user, self._steering.combine(*directions), strength)
            catalogue = self._steering.catalogue
        excluded = np.zeros(len(seen), np.int64), seen
        ranked = catalogue.rank(query[None], np.zeros(1, np.int64), k, self.candidates(allow, deny), excluded)
        top = collect(ranked, pa.array([""]), self.entities.item_ids)
        is_item = np.isfinite(top.scores[0])
        used = [{phrase: words for phrase, (words, _) in phrases.items()} for phrases in found]
        return Steered(top.ids[0][is_item], top.scores[0][is_item], used[0], used[1], query[: len(user)])

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
        embedding = self._embedding_of_meaning.predict(meanings.to(self._embeddings.items))
        (words,) = self._meanings.words_of(meanings, self._num_words)
        one = np.zeros(1, np.int64)
        users = Catalogue(self._embeddings.users).rank(embedding, one, k)
        items = self._directions_of_items.rank(F.normalize(embedding, dim=1), one, k)
        entities = self.entities
        top_users, top_items = (
            collect(tiles, pa.array([""]), ids)
            for tiles, ids in ((users, entities.user_ids), (items, entities.item_ids))
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
        meanings = self._meanings.of_texts(list(texts.values()))
        predicted = self._embedding_of_meaning.predict(meanings.to(self._embeddings.items))
        entities = self.entities.with_items(list(texts), labels or {})
        rows = torch.tensor([entities.item_rows[name] for name in texts])
        new = len(entities.item_ids) - len(self.entities.item_ids)
        items = F.pad(self._embeddings.items, (0, 0, 0, new)).index_copy(0, rows.to(predicted.device), predicted)
        extended = type(self)(Embeddings(self._embeddings.users, items), entities, self.seen, self.run_dir)
        extended._meanings = self._meanings.with_items(rows, meanings, len(items))
        extended._words = extend_words(self._words, entities, rows, self._meanings.words_of(meanings, self._num_words))
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

    @property
    def _num_words(self) -> int:
        return len(self._words["words"][0])

    def _mapped_words(self, embeddings: Tensor) -> list[list[str]]:
        mapper, codebook = self._mapper
        descriptors = mapper.describe(embeddings.split(1024))
        tokens = codebook.token_embeddings - codebook.token_embeddings.mean(0)
        meanings = F.normalize(tokens, dim=1)[descriptors]
        order = (meanings @ meanings.mean(1).unsqueeze(2)).squeeze(2).argsort(dim=1, descending=True, stable=True)
        return [[codebook.words[token] for token in row] for row in descriptors.gather(1, order).tolist()]

    @cached_property
    def _direction_of(self) -> Callable[[str], tuple[list[str], Tensor]]:
        """Finds the words of the vocabulary that stand for a phrase, and their direction; the last ones are kept."""

        def find(phrase: str) -> tuple[list[str], Tensor]:
            words, meaning = self._meanings.find(phrase)
            return words, self._steering.direction(meaning)

        return lru_cache(maxsize=1024)(find)

    @cached_property
    def _steering(self) -> WordSteering:
        return WordSteering(self._embeddings.items, self._meanings.item_vectors)

    @cached_property
    def _embedding_of_meaning(self) -> KernelRidge:
        clicked = np.bincount(self.seen.training()[1], minlength=len(self._embeddings.items)) > 0
        known = torch.from_numpy(np.flatnonzero(clicked)).to(self._embeddings.items.device)
        meanings = self._meanings.item_vectors.to(self._embeddings.items)
        return KernelRidge.fit(meanings[known], self._embeddings.items[known], ridge=0.1)

    @cached_property
    def _meanings(self) -> "Meanings":
        from face_lightning.runs.kept_meanings import read_meanings  # as of the mapper below

        return read_meanings(self._folder())

    @cached_property
    def _mapper(self) -> "tuple[TokenMapper, Codebook]":
        from face_lightning.runs.kept_mapper import read_mapper  # half a second that ranking does not need

        return read_mapper(self._folder(), self._embeddings.items.shape[1])

    def _folder(self) -> Path:
        if self.run_dir is None:
            raise CheckpointError("run: expected a Recommender that was loaded from a run; use Recommender.load")
        return self.run_dir

    @cached_property
    def _new_user_words(self) -> "NewUserWords | None":
        from face_lightning.runs.kept_regression import read_regression  # likewise

        return None if self.run_dir is None else read_regression(self.run_dir)

    @cached_property
    def _words(self) -> Any:  # noqa: ANN401 an Arrow table
        if self.run_dir is None or not self.has_words:
            raise CheckpointError(
                f"run: expected a run with words, but {self.run_dir} has no descriptors.parquet; load a finished "
                "mapping or alignment run"
            )
        path = self.run_dir / "descriptors.parquet"
        try:
            return pq.read_table(path, columns=list(Description._fields)).combine_chunks()
        except pa.ArrowInvalid as error:
            raise DataError(f"run: {path} is damaged ({error}); run that stage again") from error
