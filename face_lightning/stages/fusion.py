"""Stage 3 in closed form: the scores of the recommender and those of words and texts, in one pair of tables."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from face_lightning.backbones import GMF, Backbone
from face_lightning.errors import ConfigurationError, check_range
from face_lightning.fold_in import LeastSquaresFoldIn
from face_lightning.losses.weighted_squares import default_unobserved_weight
from face_lightning.mapping.whitening import whiten
from face_lightning.score_fusion import fuse_scores
from face_lightning.search_space import Between, SearchSpace
from face_lightning.stages.base import Stage
from face_lightning.stages.describing import DescribingStage
from face_lightning.structures import Embeddings, TrainingBatch
from face_lightning.words.centering import center

_START = "fusion_start"


class FusionStage(DescribingStage):
    """Adds to each score how well the item's words and text agree with those of the user's items.

    `s_ui = e_u . e_i + c p_u . m_i`: `m_i` is what the item means, and the profile `p_u` is the user's row of least
    squares given these meanings as the items' table, over the user's training interactions. The sum is truncated to the
    width of the backbone (`fuse_scores`), so that the result is a checkpoint of embedding tables like any other.

    The meaning of an item is the mean of its words' vectors beside the vector of its text. Words' vectors are whitened
    over the vocabulary: a mean of plain encoder vectors hardly tells apart items that share most of their words.
    Meanings, of words as of texts, are centered and half whitened over items, so that a few common directions do not
    decide about profiles. An item without a text has its words alone.

    Nothing is trained: c grows by a step every epoch, from 0 in the first, and the epoch with the best validation
    decides. The first epoch is the run that the stage starts from, so validation never falls below it. The mapper is
    that of stage 2, and words are those of the embeddings that the stage starts with: the words that are shown are
    the ones that are scored.

    Args:
        backbone: Builds the backbone from `num_users` and `num_items`; it has to be `GMF`.
        num_users: U.
        num_items: I.
        meanings: Whether items mean what their `words` mean, what their `texts` mean (for comparison), or `both`.
        share_step: What an epoch adds to c, as the ratio of the root mean squares of both scores.
        near_words: Nearest words of a slot that make up its meaning.
        unobserved_weight: Weight of unobserved pairs in the profiles' least squares; that of
            `default_unobserved_weight` if null.
        regularization: l of the profiles' least squares, see `regularization_of_rows`.
        **kwargs: Arguments of `DescribingStage` and `Stage`.

    Raises:
        ConfigurationError: If the backbone is another one, or a number is out of range.
    """

    name: ClassVar[str] = "fusion"
    trains_on_entities: ClassVar[bool] = True
    search_space: ClassVar[SearchSpace] = {
        "unobserved_weight": Between(1e-3, 0.3),
        "regularization": Between(0.3, 20.0),
    }

    def __init__(
        self,
        backbone: Callable[[int, int], Backbone],
        num_users: int,
        num_items: int,
        *,
        meanings: Literal["words", "texts", "both"] = "both",
        share_step: float = 0.05,
        near_words: int = 16,
        unobserved_weight: float | None = None,
        regularization: float = 5.0,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(backbone=backbone, num_users=num_users, num_items=num_items, **kwargs)
        if not isinstance(self.backbone, GMF):
            raise ConfigurationError(
                f"backbone: expected GMF for fusion, got {type(self.backbone).__name__}, whose embeddings are no "
                "tables to replace; use AlignmentStage"
            )
        check_range("share_step", share_step, above=0, usual="0.05")
        check_range("near_words", near_words, least=1, usual="16")
        if unobserved_weight is not None:
            check_range("unobserved_weight", unobserved_weight, above=0, usual="0.02, or null,")
        check_range("regularization", regularization, above=0, usual="5")
        self.meanings = meanings
        self.share_step = share_step
        self.near_words = near_words
        self.unobserved_weight = unobserved_weight
        self.regularization = regularization
        self.automatic_optimization = False
        self.mapper.requires_grad_(False)
        self._start: Embeddings | None = None
        self._words_scores: Embeddings | None = None
        self._descriptors: Tensor | None = None

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """An optimizer that never sees a gradient: its steps are what checkpoints and loggers count."""
        return [SGD(self.backbone.parameters(), lr=0.0)], []

    def begin(self, embeddings: Embeddings) -> None:
        """Compute profiles and meanings; a resumed run has restored the embeddings that it started with."""
        self.mapper.fit_input(self.tiles(embeddings))
        if self._start is None:
            self._start = Embeddings(*(table.detach().clone() for table in embeddings))
        self._start = Embeddings(*(table.to(self.device) for table in self._start))
        kinds = {"words": [self._of_words], "texts": [self._of_texts], "both": [self._of_words, self._of_texts]}
        items = torch.cat([_half_whitened(meanings()) for meanings in kinds[self.meanings]], 1)
        self._words_scores = Embeddings(self._profiles(items), items)

    def _of_words(self) -> Tensor:
        """What the items' words mean, `(I, E)`."""
        assert self._start is not None, "begin sets it"
        words = self.space.word_vectors.whitened()
        return self.expected_word_vectors([self._start.items], self.near_words, words)

    def _of_texts(self) -> Tensor:
        """What the items' texts mean, `(I, E)`; rows of missing texts are NaN."""
        texts, num_users = self.space.texts, self.backbone.num_users
        absent = ~texts.present[num_users:].unsqueeze(1)
        return center(texts.vectors[num_users:].masked_fill(absent, torch.nan))

    def _profiles(self, items: Tensor) -> Tensor:
        """Users' rows of least squares `(U, E)`, given a table of items: the fold-in of known users."""
        given, sizes = self.unobserved_weight, (self.graph.num_interactions, self.graph.num_users, self.graph.num_items)
        weight = default_unobserved_weight(*sizes) if given is None else given
        user_ids, item_ids = (ids.cpu() for ids in self.graph.edge_index)
        lengths = torch.bincount(user_ids, minlength=self.graph.num_users).numpy()
        starts = np.concatenate([[0], np.cumsum(lengths)])
        fold_in = LeastSquaresFoldIn(items, starts, weight, self.regularization, frequency_power=0.5)
        return fold_in.embed(item_ids.numpy(), lengths)

    @torch.no_grad()
    def on_train_epoch_start(self) -> None:
        """Set the tables to those of the epoch's share; a resume in mid-epoch has restored them."""
        super().on_train_epoch_start()
        assert self._start is not None, "on_train_start comes first"
        assert self._words_scores is not None, "on_train_start comes first"
        share = self.share_step * self.current_epoch
        fused = fuse_scores(self._start, self._words_scores, share) if share else self._start
        for table, rows in zip(self.embed(), fused, strict=True):
            table.copy_(rows)

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Count a step; nothing is trained."""
        del batch, batch_idx
        self.optimizers().step()  # type: ignore[union-attr]

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """None."""
        del batch
        return {}

    def epoch_values(self) -> dict[str, Tensor]:
        """Size of the words' scores relative to those of the backbone."""
        return {"train/share": torch.tensor(self.share_step * self.current_epoch)}

    def describe(self, embeddings: Embeddings) -> Tensor:
        """Descriptors of all entities `(U + I, S)`, of the embeddings that the stage started with, found once."""
        if self._start is None:
            return super().describe(embeddings)
        if self._descriptors is None:
            self._descriptors = super().describe(self._start)
        return self._descriptors

    def on_validation_epoch_end(self) -> None:
        """Log the ranking metrics alone: words do not change."""
        Stage.on_validation_epoch_end(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the embeddings that the stage started with besides what every stage with words saves."""
        super().on_save_checkpoint(checkpoint)
        if self._start is not None:
            checkpoint[_START] = [table.cpu() for table in self._start]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the embeddings that the stage started with."""
        super().on_load_checkpoint(checkpoint)
        self._descriptors = None
        if _START in checkpoint:
            self._start = Embeddings(*(table.to(self.device) for table in checkpoint[_START]))


def _half_whitened(meanings: Tensor) -> Tensor:
    """Unit vectors `(I, E)` of meanings; those that are missing, whose rows are NaN, become 0."""
    known = meanings.isfinite().all(1)
    spread = torch.zeros_like(meanings)
    if bool(known.any()):
        vectors = meanings[known].cpu()
        dim = min(vectors.shape)
        spread[known, :dim] = whiten(vectors, dim, power=0.5).to(spread)
    return spread
