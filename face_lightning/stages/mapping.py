"""Stage 2: train the mapper from embeddings to words, without the text encoder."""

from typing import Any, ClassVar

from torch import Tensor

from face_lightning.search_space import Between, SearchSpace
from face_lightning.stages.describing import DescribingStage
from face_lightning.structures import Embeddings, TrainingBatch


class MappingStage(DescribingStage):
    """Trains the mapper by reconstruction, quantization and lexical anchoring.

    Reference:
        FACE (NeurIPS 2025), stage 2.

    Note:
        The paper fine-tunes the backbone in this stage as well. Here it is frozen by default, because the mapper
        does not need it to change. The ranking loss is then skipped and an epoch is one pass over users and items;
        after about 20 epochs their words match the target words.

    Args:
        freeze_backbone: Whether the backbone is frozen.
        **kwargs: Arguments of `DescribingStage` and `Stage`.
    """

    name: ClassVar[str] = "mapping"
    search_space: ClassVar[SearchSpace] = {
        "optimizer.init_args.lr": Between(5e-4, 1e-2),
        "anchoring_weight": Between(0.3, 3.0),
        "reconstruction_weight": Between(0.1, 3.0),
    }
    tuned_by: ClassVar[tuple[str, ...]] = ("words/retrieval_items@10", "words/retrieval_users@10")

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
        """Parameter groups of the mapper and, unless it is frozen, the backbone."""
        groups = super().parameter_groups()
        return [group for group in groups if group["name"] != "backbone"] if self.freeze_backbone else groups

    @property
    def trains_on_entities(self) -> bool:
        """Whether an epoch is one pass over users and items instead of interactions: while the backbone is frozen."""
        return self.freeze_backbone

    def begin(self, embeddings: Embeddings) -> None:
        """Initialise the mapper, and cache the embeddings of a frozen backbone."""
        super().begin(embeddings)
        if self.freeze_backbone:
            self._final = embeddings

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the mapping losses and, unless the backbone is frozen, the recommendation losses."""
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
        """Average the mapper's gradients over processes if the strategy does not do so itself."""
        self.tables.average_gradients(self.mapper)

    def check_table_layout(self) -> None:
        """Allow column-parallel tables while the backbone is frozen."""
        if not self.freeze_backbone:
            super().check_table_layout()
