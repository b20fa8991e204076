"""Stage 3 in closed form: add semantic scores of words and texts to the recommender's scores."""

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
    """Adds a semantic score to each recommendation score: the fit of an item's words and text to the user's items.

    `s_ui = e_u . e_i + c p_u . m_i`, where `m_i` is the item's meaning vector and the user profile `p_u` is the
    least-squares solution for the user's training interactions with the meaning vectors as item table. The sum is
    truncated to the embedding width of the backbone (`fuse_scores`), so the result is an ordinary checkpoint of
    embedding tables.

    An item's meaning vector concatenates the mean vector of its words and the vector of its text. Word vectors are
    whitened over the vocabulary, since means of plain encoder vectors hardly distinguish items that share most of
    their words. Both parts are centered and half whitened over items, so that a few common directions do not dominate
    the profiles. An item without a text has only the words part.

    Nothing is trained: c is 0 in the first epoch and grows by one step per epoch, and the best epoch on validation is
    kept. Since the first epoch scores like the run that the stage starts from, validation never falls below it. The
    mapper is that of stage 2, and words are computed from the initial embeddings, so that the words that are shown
    are also the ones that are scored.

    Args:
        backbone: Builds the backbone from `num_users` and `num_items`; must be `GMF`.
        num_users: U.
        num_items: I.
        meanings: Source of the items' meaning vectors: `words`, `texts` (for comparison), or `both`.
        share_step: Increase of c per epoch, in units of the ratio of the root mean squares of both scores.
        near_words: Number of nearest words per slot that make up its meaning.
        unobserved_weight: Weight of unobserved pairs in the profiles' least squares; `default_unobserved_weight` if
            null.
        regularization: l of the profiles' least squares, see `regularization_of_rows`.
        **kwargs: Arguments of `DescribingStage` and `Stage`.

    Raises:
        ConfigurationError: If the backbone is not `GMF`, or a number is out of range.
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
                f"backbone: expected GMF for fusion, got {type(self.backbone).__name__}, whose embeddings are not "
                "plain tables; use AlignmentStage"
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
        self._semantic: Embeddings | None = None  # profiles and meaning vectors, the factors of the semantic scores
        self._descriptors: Tensor | None = None

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """Build an optimizer without effect, whose steps advance the global step of checkpoints and loggers."""
        return [SGD(self.backbone.parameters(), lr=0.0)], []

    def begin(self, embeddings: Embeddings) -> None:
        """Compute meaning vectors and profiles from the initial embeddings, which a resumed run has restored."""
        self.mapper.fit_input(self.tiles(embeddings))
        if self._start is None:
            self._start = Embeddings(*(table.detach().clone() for table in embeddings))
        self._start = Embeddings(*(table.to(self.device) for table in self._start))
        words, texts = self._compute_word_meanings, self._compute_text_meanings
        sources = {"words": [words], "texts": [texts], "both": [words, texts]}[self.meanings]
        items = torch.cat([_half_whiten(compute()) for compute in sources], 1)
        self._semantic = Embeddings(self._compute_profiles(items), items)

    def _compute_word_meanings(self) -> Tensor:
        """Mean vectors of the items' words, `(I, E)`."""
        assert self._start is not None, "begin sets it"
        words = self.space.word_vectors.whitened()
        return self.expected_word_vectors([self._start.items], self.near_words, words)

    def _compute_text_meanings(self) -> Tensor:
        """Centered vectors of the items' texts, `(I, E)`; rows of missing texts are NaN."""
        texts, num_users = self.space.texts, self.backbone.num_users
        absent = ~texts.present[num_users:].unsqueeze(1)
        return center(texts.vectors[num_users:].masked_fill(absent, torch.nan))

    def _compute_profiles(self, items: Tensor) -> Tensor:
        """Fold all users into a table of items by least squares, `(U, E)`."""
        weight = self.unobserved_weight
        if weight is None:
            sizes = self.graph.num_interactions, self.graph.num_users, self.graph.num_items
            weight = default_unobserved_weight(*sizes)
        user_ids, item_ids = (ids.cpu() for ids in self.graph.edge_index)
        lengths = torch.bincount(user_ids, minlength=self.graph.num_users).numpy()
        starts = np.concatenate([[0], np.cumsum(lengths)])
        fold_in = LeastSquaresFoldIn(items, starts, weight, self.regularization, frequency_power=0.5)
        return fold_in.embed(item_ids.numpy(), lengths)

    @torch.no_grad()
    def on_train_epoch_start(self) -> None:
        """Set the tables to the fusion with the epoch's share; on a resume in mid-epoch the checkpoint holds them."""
        super().on_train_epoch_start()
        assert self._start is not None, "on_train_start comes first"
        assert self._semantic is not None, "on_train_start comes first"
        share = self.share_step * self.current_epoch
        fused = fuse_scores(self._start, self._semantic, share) if share else self._start
        for table, rows in zip(self.embed(), fused, strict=True):
            table.copy_(rows)

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Advance the global step; nothing is trained."""
        del batch, batch_idx
        self.optimizers().step()  # type: ignore[union-attr]

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return no losses."""
        del batch
        return {}

    def epoch_values(self) -> dict[str, Tensor]:
        """Return the size of the semantic scores relative to those of the backbone."""
        return {"train/share": torch.tensor(self.share_step * self.current_epoch)}

    def describe(self, embeddings: Embeddings) -> Tensor:
        """Compute the descriptors of all entities, `(U + I, S)`, from the initial embeddings, and cache them."""
        if self._start is None:
            return super().describe(embeddings)
        if self._descriptors is None:
            self._descriptors = super().describe(self._start)
        return self._descriptors

    def on_validation_epoch_end(self) -> None:
        """Log only the ranking metrics, since the words do not change."""
        Stage.on_validation_epoch_end(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the initial embeddings in addition to the base class's state."""
        super().on_save_checkpoint(checkpoint)
        if self._start is not None:
            checkpoint[_START] = [table.cpu() for table in self._start]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the initial embeddings."""
        super().on_load_checkpoint(checkpoint)
        self._descriptors = None
        if _START in checkpoint:
            self._start = Embeddings(*(table.to(self.device) for table in checkpoint[_START]))


def _half_whiten(meanings: Tensor) -> Tensor:
    """Whiten meaning vectors `(I, E)` with power 0.5, to unit length; missing ones, rows of NaN, become 0."""
    present = meanings.isfinite().all(1)
    whitened = torch.zeros_like(meanings)
    if bool(present.any()):
        vectors = meanings[present].cpu()
        dim = min(vectors.shape)
        whitened[present, :dim] = whiten(vectors, dim, power=0.5).to(whitened)
    return whitened
