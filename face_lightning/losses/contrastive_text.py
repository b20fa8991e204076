"""RLMRec-Con: contrastive loss between embeddings and text vectors."""

from typing import ClassVar

from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.losses.text_regularizer import TextRegularizer, contrast_rows, text_mlp


class ContrastiveText(TextRegularizer):
    """Contrasts embeddings with text vectors that an MLP maps to the embedding space.

    `L = InfoNCE(e, MLP(s))` over the entities of a batch.

    Reference:
        Ren et al., "Representation Learning with Large Language Models for Recommendation" (RLMRec-Con),
        WWW 2024.

    Note:
        The authors use the texts of all entities as negatives; here those of the batch, a thousand or more, since
        mapping all texts in each step would dominate its cost. Entities with identical texts are not negatives of
        each other.

    Args:
        embedding_dim: D.
        text_dim: E.
        weight: Weight of the loss.
        temperature: Temperature of the InfoNCE loss.

    Raises:
        ConfigurationError: If the temperature is not positive.
    """

    name: ClassVar[str] = "text_contrast"

    def __init__(self, embedding_dim: int, text_dim: int, weight: float = 0.01, temperature: float = 0.2) -> None:
        super().__init__(embedding_dim, text_dim, weight)
        check_range("temperature", temperature, above=0, usual="0.2")
        self.temperature = temperature
        self.mlp = text_mlp(text_dim, embedding_dim)

    def forward(self, entity_ids: Tensor, embeddings: Tensor, texts: Tensor) -> Tensor:
        """See `TextRegularizer`."""
        del entity_ids
        return contrast_rows(embeddings, self.mlp(texts), self.temperature, texts)
