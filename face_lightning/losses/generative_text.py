"""RLMRec-Gen: reconstruction of the texts of masked entities from the graph."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from face_lightning.errors import ConfigurationError, check_range
from face_lightning.graph import InteractionGraph
from face_lightning.losses.text_regularizer import TextRegularizer, contrast_rows, text_mlp
from face_lightning.structures import Embeddings


class GenerativeText(TextRegularizer):
    """Masks random entities and reconstructs their text vectors from their propagated embeddings.

    The table rows of a random share of entities are replaced by a learned mask before propagation;
    `L = InfoNCE(MLP(e), s)` over the masked entities.

    Reference:
        Ren et al., "Representation Learning with Large Language Models for Recommendation" (RLMRec-Gen),
        WWW 2024.

    Note:
        With a backbone that does not propagate (GMF), the embedding of a masked entity carries no information; use
        `ContrastiveText` instead.

    Args:
        embedding_dim: D.
        text_dim: E.
        weight: Weight of the loss.
        temperature: Temperature of the InfoNCE loss.
        mask_ratio: Share of entities that are masked in a step, in (0, 1).

    Raises:
        ConfigurationError: If `mask_ratio` or the temperature is out of range.
    """

    name: ClassVar[str] = "text_reconstruction"
    masks_entities: ClassVar[bool] = True

    def __init__(
        self,
        embedding_dim: int,
        text_dim: int,
        weight: float = 0.01,
        temperature: float = 0.2,
        mask_ratio: float = 0.1,
    ) -> None:
        super().__init__(embedding_dim, text_dim, weight)
        check_range("temperature", temperature, above=0, usual="0.2")
        self.temperature = temperature
        if not 0 < mask_ratio < 1:
            raise ConfigurationError(f"mask_ratio: expected between 0 and 1, got {mask_ratio}; 0.1 is usual")
        self.mask_ratio = mask_ratio
        self.mask = nn.Parameter(torch.empty(1, embedding_dim))
        nn.init.xavier_uniform_(self.mask)
        self.mlp = text_mlp(embedding_dim, text_dim)
        self._masked = torch.empty(0, dtype=torch.bool)

    def embed(self, backbone: nn.Module, graph: InteractionGraph) -> Embeddings:
        """Compute the backbone's embeddings with a new random share of entities masked.

        Raises:
            ConfigurationError: If the backbone has no embedding tables.
        """
        name = "tables.weight"
        tables = dict(backbone.named_parameters()).get(name)
        if tables is None:
            raise ConfigurationError(
                f"text: expected a backbone with the parameter {name!r}, whose rows GenerativeText masks, got "
                f"{type(backbone).__name__}; use ContrastiveText"
            )
        self._masked = torch.rand(len(tables), device=tables.device) < self.mask_ratio
        masked_tables = torch.where(self._masked.unsqueeze(1), self.mask, tables)
        embeddings: Embeddings = functional_call(backbone, {name: masked_tables}, (graph,))
        return embeddings

    def forward(self, entity_ids: Tensor, embeddings: Tensor, texts: Tensor) -> Tensor:
        """See `TextRegularizer`."""
        masked = self._masked[entity_ids]
        return contrast_rows(self.mlp(embeddings[masked]), texts[masked], self.temperature, texts[masked])
