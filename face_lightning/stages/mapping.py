"""Stage 2: map the backbone's embeddings to words, without the text encoder."""

import math
from typing import Any, ClassVar

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor

from face_lightning.distributed import world_size
from face_lightning.stages.describing import DescribingStage
from face_lightning.structures import Embeddings, TrainingBatch

# Of each entity: words of steam-vt pick 78 % of games after 15 and 99 % after 30 (benchmarks/results/raw_chain.jsonl).
_FEW_VISITS, _ENOUGH_VISITS = 16, 30


class MappingStage(DescribingStage):
    """Trains the mapper by reconstruction, quantization and lexical anchoring.

    Reference:
        FACE (NeurIPS 2025), stage 2.

    Note:
        The paper fine-tunes the backbone in this stage as well. Here it rests by default: nothing that
        the stage learns needs it to move, and the ranking loss need not be computed.

    Args:
        freeze_backbone: Whether the backbone rests.
        **kwargs: Arguments of `DescribingStage` and `Stage`.
    """

    name: ClassVar[str] = "mapping"

    def __init__(
        self,
        *,
        freeze_backbone: bool = True,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.freeze_backbone = freeze_backbone
        self.backbone.requires_grad_(not freeze_backbone)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The mapper, and the backbone unless it rests."""
        groups = super().parameter_groups()
        return [group for group in groups if group["name"] != "backbone"] if self.freeze_backbone else groups

    def on_train_start(self) -> None:
        """Begin, and warn where epochs are too few to learn the words of so many entities."""
        super().on_train_start()
        steps, epochs = self.trainer.num_training_batches, self.trainer.max_epochs
        at_once = self.trainer.datamodule.entities_per_step * (1 if self.tables.is_sharded else world_size())  # type: ignore[attr-defined]
        if epochs is not None and epochs > 0 and not math.isinf(steps):
            told = told_of_visits(steps * at_once / (self.backbone.num_users + self.backbone.num_items), epochs)
            if told is not None:
                rank_zero_warn(told)

    def begin(self, embeddings: Embeddings) -> None:
        """Keep what the backbone gives while it rests, besides what every stage with words does."""
        super().begin(embeddings)
        if self.freeze_backbone:
            self._final = embeddings

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Mapping losses, and the backbone's own unless it rests."""
        if self.freeze_backbone:
            losses: dict[str, Tensor] = {}
            embeddings = self.final_embeddings
        else:
            losses, embeddings = self.recommendation_losses(batch)
        entity_ids, share = batch.entity_ids.sort().values, batch.entity_share
        entities = self.tables.whole_rows(embeddings.gather(entity_ids))
        (entity_ids, entities), factor = self.tables.own_entities(entity_ids, entities)
        terms = self.map_entities(entities, entity_ids)[1]
        return losses | {name: share * factor * loss for name, loss in terms.items()}

    def on_after_backward(self) -> None:
        """Average the mapper's gradient, where the strategy leaves that to the stage."""
        self.tables.average_gradients(self.mapper)

    def check_table_layout(self) -> None:
        """Allow shared columns as long as the backbone is frozen."""
        if not self.freeze_backbone:
            super().check_table_layout()


def told_of_visits(visits: float, epochs: int) -> str | None:
    """What to tell the user where each entity is mapped `visits` times an epoch, and that too rarely in all."""
    if visits * epochs >= _FEW_VISITS:
        return None
    return (
        f"words: each user and item is mapped {visits * epochs:.1f} times in {epochs} epochs, and its words settle "
        f"after some {_ENOUGH_VISITS}; raise trainer.max_epochs to {math.ceil(_ENOUGH_VISITS / visits)}, and with it "
        "the T_max of a scheduler"
    )
