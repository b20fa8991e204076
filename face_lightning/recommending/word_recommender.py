"""Words of a finished run's users and items, by original ids."""

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
    """Ranks as `EmbeddingRecommender` does, and gives the words of users and items."""

    # The Recommender that new items were added to, their rows `(N,)` among the items, and they.
    _before: "tuple[WordRecommender, Tensor, InferredItems] | None" = None

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

    def text_of(self, side: Side, identifier: str) -> str | None:
        """Text of a user or an item by its original id; None without one.

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
        """Words of new users from their inferred embeddings, those nearest to all of them first.

        They are the words of the text that kernel ridge regression predicts (`runs.kept_regression`), or the mapper's
        where a run keeps no regression.

        Raises:
            DataError: If ids are unknown, or a history is empty.
            CheckpointError: If the run has no mapper.
        """
        names, items, counts = self.history_rows(histories, unknown)
        embeddings = self._fold_in.embed(items, counts).cpu()
        kept = self._new_user_words
        spelled = self._mapped_words(embeddings) if kept is None else kept.of(embeddings, items, counts)
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
    def _meanings(self) -> "Meanings":
        if self._before is not None:
            before, rows, new = self._before
            return before._meanings.with_items(rows, new.meanings, len(self._embeddings.items))
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
        if self._before is not None:
            before, rows, new = self._before
            return extend_words(before._words, self.entities, rows, new.words)
        return self._read_descriptors(list(Description._fields))

    @cached_property
    def _texts(self) -> Any:  # noqa: ANN401 an Arrow array
        if self._before is not None:
            before, rows, new = self._before
            return extend_rows(before._texts, len(self._embeddings.users) + rows, new.texts)
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
