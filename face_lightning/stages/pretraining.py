"""Stage 1: pretrain a backbone on the interaction graph."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from face_lightning.backbones import Backbone
from face_lightning.errors import ConfigurationError
from face_lightning.losses import PairwiseLoss, TextRegularizer
from face_lightning.stages.base import Stage
from face_lightning.structures import Embeddings, TrainingBatch
from face_lightning.text.encoders import TextEncoder
from face_lightning.text.sentence_encoder import SentenceEncoder
from face_lightning.words.entity_texts import text_vectors


class PretrainingStage(Stage):
    """Trains a backbone on its ranking and auxiliary losses, optionally with a text regulariser.

    Started from an earlier run, with the learning rate and number of epochs of stage 3, it is the control experiment
    for stage 3: the same fine-tuning without words.

    Args:
        backbone: Builds the backbone from `num_users` and `num_items`.
        num_users: U.
        num_items: I.
        text: Builds a text regulariser from the widths of embeddings and text vectors, such as
            `ContrastiveText` (RLMRec-Con); null for none.
        encoder: Frozen text encoder for the regulariser, or for a backbone that reads texts; all-MiniLM-L6-v2 if
            null.
        **kwargs: Arguments of `Stage`.

    Raises:
        ConfigurationError: If the backbone reads vectors of another width than the encoder's.
    """

    name: ClassVar[str] = "pretraining"

    def __init__(
        self,
        backbone: Callable[[int, int], Backbone],
        num_users: int,
        num_items: int,
        *,
        text: Callable[[int, int], TextRegularizer] | None = None,
        encoder: TextEncoder | SentenceEncoder | None = None,  # the command line defaults to the first class
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(backbone, num_users, num_items, **kwargs)
        self.text: TextRegularizer | None = None
        text_dim = self.backbone.text_dim
        if text is not None or text_dim is not None:
            self.encoder: SentenceEncoder = encoder or TextEncoder()
        if text_dim is not None and text_dim != self.encoder.width:
            raise ConfigurationError(
                f"text_dim: expected {self.encoder.width}, the width of the text encoder, got {text_dim}; set "
                "model.init_args.backbone.init_args.text_dim to it"
            )
        if text is not None:
            self.text = text(self.backbone.embedding_dim, self.encoder.width)
            self.loss_weights[self.text.name] = self.text.weight
        self._vectors = torch.empty(0)
        self._present = torch.empty(0, dtype=torch.bool)

    @property
    def reads_texts(self) -> bool:
        """Whether training reads texts."""
        return self.text is not None or self.backbone.text_dim is not None

    def check_table_layout(self) -> None:
        """Allow column-parallel tables if the losses depend on scores only.

        Raises:
            ConfigurationError: If a text regulariser or the ranking loss needs whole embeddings.
        """
        if self.text is not None:
            raise ConfigurationError(
                "trainer.strategy: expected ddp with a text regulariser, which needs whole embeddings, got "
                "column_parallel; use ddp, or leave model.text out"
            )
        if not isinstance(self.ranking_loss, PairwiseLoss):
            raise ConfigurationError(
                f"trainer.strategy: expected ddp with the ranking loss {self.ranking_loss.name}, which needs whole "
                "embeddings, got column_parallel; use ddp, or the ranking loss BPR"
            )

    def setup(self, stage: str) -> None:
        """Set up the base class and encode the texts if the regulariser or the backbone reads them."""
        super().setup(stage)
        if not self.reads_texts or stage != "fit":  # outside fit the backbone's text vectors come from the checkpoint
            return
        vectors = text_vectors(self.encoder, self.trainer.datamodule.profiles)  # type: ignore[attr-defined]
        if self.backbone.text_dim is not None:
            self.backbone.set_texts(vectors[self.backbone.num_users :])
        if self.text is not None:
            self._present = (~vectors.isnan().any(1)).to(self.device)
            self._vectors = vectors.nan_to_num().to(self.device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the backbone and, if configured, the text regulariser."""
        groups = super().parameter_groups()
        return groups if self.text is None else [*groups, {"params": list(self.text.parameters()), "name": "text"}]

    def embed(self) -> Embeddings:
        """Compute the backbone's embeddings, masked by the text regulariser if it masks any."""
        return super().embed() if self.text is None else self.text.embed(self.backbone, self.graph)

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the ranking loss, `l2`, the backbone's auxiliary losses and the text regulariser's loss."""
        losses, embeddings = self.recommendation_losses(batch)
        if self.text is not None:
            losses[self.text.name] = self.text.loss(batch, embeddings, self._vectors, self._present)
        return losses
