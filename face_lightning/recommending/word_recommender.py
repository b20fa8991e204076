"""Words of the users and items of a finished run, by original ids."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import CheckpointError, DataError
from face_lightning.recommending.answers import (
    Description,
    Ids,
    Side,
    Unknown,
    extend_rows,
    extend_words,
)
from face_lightning.recommending.embedding_recommender import EmbeddingRecommender
from face_lightning.recommending.explanations import Explanation, link_words

if TYPE_CHECKING:
    from face_lightning.mapping.mapper import TokenMapper
    from face_lightning.runs.kept_items import InferredItems
    from face_lightning.runs.kept_meanings import Meanings
    from face_lightning.runs.kept_regression import NewUserWords
    from face_lightning.text.vocabulary import Codebook


class WordRecommender(EmbeddingRecommender):
    """An `EmbeddingRecommender` that also gives the words of users and items."""

    # For a copy with inferred items: the original, the rows of these items `(N,)`, and the items.
    _extension: "tuple[WordRecommender, Tensor, InferredItems] | None" = None

    @property
    def has_words(self) -> bool:
        """Whether the run has words of users and items."""
        return self.run_dir is not None and (self.run_dir / "descriptors.parquet").is_file()

    def warm_up(self) -> None:
        """Build everything that is otherwise built on first use: search, fold-in, words and the mapper."""
        super().warm_up()
        if self.has_words:
            _ = self._words
        with contextlib.suppress(CheckpointError):  # runs without a mapper; their first request fails fast, too
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
        """Words of all users or items as an Arrow array of lists, by row; None if the run has no words."""
        if not self.has_words:
            return None
        num_users = len(self._embeddings.users)
        words = self._words["words"]
        return words.slice(0, num_users) if side == "users" else words.slice(num_users)

    def text_of(self, side: Side, identifier: str) -> str | None:
        """Text of a user or an item by its original id; None if it has no text.

        Raises:
            DataError: If the id is unknown.
            CheckpointError: If the run has no words.
        """
        (row,) = (self.user_rows if side == "users" else self.item_rows)([identifier])
        text: str | None = self._texts[row + (len(self._embeddings.users) if side == "items" else 0)].as_py()
        return text

    def describe_history(
        self, histories: Sequence[Ids] | Mapping[str, Ids], unknown: Unknown = "error"
    ) -> list[Description]:
        """Words of new users, inferred from their histories, those closest to their common meaning first.

        The words come from kernel ridge regression (`runs.kept_regression`) if the run has one, and from the mapper
        otherwise.

        Raises:
            DataError: If ids are unknown, or a history is empty.
            CheckpointError: If the run has no mapper.
        """
        names, items, counts = self.history_rows(histories, unknown)
        embeddings = self._fold_in.embed(items, counts).cpu()
        regression = self._new_user_words
        words = self._mapped_words(embeddings) if regression is None else regression.of(embeddings, items, counts)
        return [Description("user", name, name, user_words) for name, user_words in zip(names, words, strict=True)]

    def explain(self, user: str | int, item: str | int) -> Explanation:
        """Explain why an item suits a user, by the words of both and the pairs with similar meanings.

        Raises:
            DataError: If an id is unknown.
            CheckpointError: If the run has no words.
        """
        user_words, item_words = (one.words for one in self.describe(users=[str(user)], items=[str(item)]))
        user_meanings, item_meanings = (
            torch.stack([self._meanings.find(word)[1] for word in words]) for words in (user_words, item_words)
        )
        (user_row,), (item_row,) = self.user_rows([str(user)]), self.item_rows([str(item)])
        scores = self._embeddings.items @ self._embeddings.users[user_row]
        return Explanation(
            user_words,
            item_words,
            link_words(user_words, item_words, user_meanings @ item_meanings.T),
            float(scores[item_row]),
            int((scores > scores[item_row]).sum()) + 1,
        )

    @property
    def _num_words(self) -> int:
        return len(self._words["words"][0])

    def _mapped_words(self, embeddings: Tensor) -> list[list[str]]:
        """Words that the mapper gives to embeddings `(B, D)`, those closest to their common meaning first."""
        mapper, codebook = self._mapper
        descriptors = mapper.describe(embeddings.split(1024))
        tokens = codebook.token_embeddings - codebook.token_embeddings.mean(0)
        meanings = F.normalize(tokens, dim=1)[descriptors]
        order = (meanings @ meanings.mean(1).unsqueeze(2)).squeeze(2).argsort(dim=1, descending=True, stable=True)
        return [[codebook.words[token] for token in row] for row in descriptors.gather(1, order).tolist()]

    @cached_property
    def _meanings(self) -> "Meanings":
        if self._extension is not None:
            original, rows, new = self._extension
            return original._meanings.with_items(rows, new.meanings, len(self._embeddings.items))
        from face_lightning.runs.kept_meanings import read_meanings  # slow to import, and not needed to rank

        return read_meanings(self._folder())

    @cached_property
    def _mapper(self) -> "tuple[TokenMapper, Codebook]":
        from face_lightning.runs.kept_mapper import read_mapper  # slow to import, and not needed to rank

        return read_mapper(self._folder(), self._embeddings.items.shape[1])

    def _folder(self) -> Path:
        if self.run_dir is None:
            raise CheckpointError("run: expected a Recommender that was loaded from a run; use Recommender.load")
        return self.run_dir

    @cached_property
    def _new_user_words(self) -> "NewUserWords | None":
        from face_lightning.runs.kept_regression import read_regression  # slow to import, and not needed to rank

        return None if self.run_dir is None else read_regression(self.run_dir)

    @cached_property
    def _words(self) -> Any:  # noqa: ANN401 an Arrow table
        if self._extension is not None:
            original, rows, new = self._extension
            return extend_words(original._words, self.entities, rows, new.words)
        return self._read_descriptors(list(Description._fields))

    @cached_property
    def _texts(self) -> Any:  # noqa: ANN401 an Arrow array
        if self._extension is not None:
            original, rows, new = self._extension
            return extend_rows(original._texts, len(self._embeddings.users) + rows, new.texts)
        return self._read_descriptors(["text"])["text"].combine_chunks()

    def _read_descriptors(self, columns: list[str]) -> Any:  # noqa: ANN401 an Arrow table
        if self.run_dir is None or not self.has_words:
            raise CheckpointError(
                f"run: expected a run with words, but {self.run_dir} has no descriptors.parquet; load a finished "
                "mapping or alignment run"
            )
        path = self.run_dir / "descriptors.parquet"
        try:
            return pq.read_table(path, columns=columns).combine_chunks()
        except pa.ArrowInvalid as error:
            raise DataError(f"run: {path} is damaged ({error}); run that stage again") from error
