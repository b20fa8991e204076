"""Stage 2: map the backbone's embeddings to words, without the text encoder."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from face_lightning.mapping.mapper import TokenMapper
from face_lightning.stages.base import Stage
from face_lightning.stages.health import WordWatch
from face_lightning.stages.words import WordSpace, gather_entities
from face_lightning.types import TrainingBatch


class MappingStage(Stage):
    """Trains the mapper by reconstruction, quantization and lexical anchoring.

    Reference:
        FACE (NeurIPS 2025), stage 2.

    Note:
        The paper fine-tunes the backbone in this stage as well. Here it rests by default: nothing that
        the stage learns needs it to move, and the ranking loss need not be computed.

    Args:
        mapper: Builds the mapper from token embeddings and the backbone's embedding_dim.
        words: Builds the word space from extra words.
        extra_words: Words of the catalogue's own texts to let into the vocabulary.
        freeze_backbone: Whether the backbone rests.
        reconstruction_weight: Weight of the reconstruction.
        codebook_weight: Weight of the quantizer's codebook term.
        commitment_weight: Weight of the quantizer's commitment term.
        anchoring_weight: Weight of lexical anchoring; 0 leaves texts out, as the paper does.
        **kwargs: Arguments of `Stage`.
    """

    name: ClassVar[str] = "mapping"

    def __init__(
        self,
        *,
        mapper: Callable[[Tensor, int], TokenMapper] = TokenMapper,
        words: Callable[[Sequence[str]], WordSpace] = WordSpace,
        extra_words: Sequence[str] = (),
        freeze_backbone: bool = True,
        reconstruction_weight: float = 1.0,
        codebook_weight: float = 0.1875,
        commitment_weight: float = 0.0625,
        anchoring_weight: float = 1.0,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.words = words(extra_words)
        self.mapper = mapper(self.words.codebook.token_embeddings, self.backbone.embedding_dim)
        self._watch = WordWatch(self.words, self.mapper)
        self.freeze_backbone = freeze_backbone
        self.backbone.requires_grad_(not freeze_backbone)
        self.loss_weights |= {
            "reconstruction": reconstruction_weight,
            "codebook": codebook_weight,
            "commitment": commitment_weight,
            "anchoring": anchoring_weight,
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The mapper, and the backbone unless it rests."""
        groups: list[dict[str, Any]] = [{"params": list(self.mapper.parameters()), "name": "mapper"}]
        return groups if self.freeze_backbone else [*groups, *super().parameter_groups()]

    def setup(self, stage: str) -> None:
        """Read the texts of all entities besides what every stage sets up."""
        super().setup(stage)
        self.words.read(self.trainer.datamodule.profiles, self.device)  # type: ignore[attr-defined]

    def on_train_start(self) -> None:
        """Compute the resting backbone's embeddings; a resume in mid-epoch starts no epoch, but starts here too."""
        if self.freeze_backbone:
            self.backbone.eval()
            with torch.no_grad():
                self._start_evaluation()

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Mapping losses, and the backbone's own unless it rests."""
        if self.freeze_backbone:
            losses: dict[str, Tensor] = {}
            embeddings = self.final_embeddings
        else:
            losses, embeddings = self.recommendation_losses(batch)
        entity_ids = batch.entity_ids.sort().values
        mapped = self.mapper(gather_entities(embeddings, entity_ids))
        anchor = self.loss_weights["anchoring"] > 0
        own = self.words.losses(mapped, entity_ids, anchor)
        return losses | {name: batch.entity_share * loss for name, loss in own.items()}

    def on_validation_epoch_end(self) -> None:
        """Log the health of the words besides the ranking metrics."""
        self._watch.log(self)
        super().on_validation_epoch_end()

    def on_test_epoch_end(self) -> None:
        """Log the health of the words and how well they pick their entity, besides the ranking metrics."""
        self._watch.log(self, retrieval=True)
        super().on_test_epoch_end()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the health of words is compared with, besides what every stage keeps."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["words"] = self._watch.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        super().on_load_checkpoint(checkpoint)
        if "words" in checkpoint:
            self._watch.load_state_dict(checkpoint["words"])
