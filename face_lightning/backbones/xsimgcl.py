"""XSimGCL: contrastive loss between the result and one layer of a single perturbed propagation."""

from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.backbones.simgcl import SimGCL, perturb
from face_lightning.distributed import gather_unique, own_rows
from face_lightning.errors import ConfigurationError
from face_lightning.graph import InteractionGraph
from face_lightning.structures import Embeddings, TrainingBatch


class XSimGCL(SimGCL):
    """Perturbs the propagation used for ranking, and contrasts its result with one of its layers.

    Reference:
        Yu et al., "XSimGCL: Towards Extremely Simple Graph Contrastive Learning for Recommendation",
        TKDE 2023.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
        num_layers: Propagation steps, L >= 1.
        contrast_layer: Layer, counted from 1, that the result is contrasted with.
        contrast_weight: Weight of the contrastive loss.
        temperature: Temperature of the contrastive loss.
        noise_scale: Length of the noise added to a node in each layer.
        negatives: Negatives of a user (or item): "all" users (or items) or those of the "batch".
        max_contrasted: Maximum number of users, and of items, per step in the contrastive loss, chosen evenly from
            those of the batch; null for all. Bounds the loss's cost with large batches.
        combine: Whether layers are summed or averaged, without the tables themselves, as in the paper.

    Raises:
        ConfigurationError: If `contrast_layer` is not in 1..L.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 256,
        num_layers: int = 3,
        contrast_layer: int = 1,
        contrast_weight: float = 0.1,
        temperature: float = 0.2,
        noise_scale: float = 0.2,
        negatives: Literal["all", "batch"] = "all",
        max_contrasted: int | None = None,
        combine: Literal["sum", "mean"] = "mean",
    ) -> None:
        super().__init__(
            num_users,
            num_items,
            embedding_dim,
            num_layers,
            contrast_weight=contrast_weight,
            temperature=temperature,
            noise_scale=noise_scale,
            negatives=negatives,
            max_contrasted=max_contrasted,
            combine=combine,
        )
        if not 1 <= contrast_layer <= num_layers:
            raise ConfigurationError(
                f"contrast_layer: expected 1 to {num_layers} (num_layers), got {contrast_layer}; 1 is usual"
            )
        self.contrast_layer = contrast_layer
        self._view: Embeddings | None = None

    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Compute the propagated embeddings of users `(U, D)` and items `(I, D)`, perturbed in training."""
        layer: Tensor = self.tables.weight
        layers = []
        for _ in range(self.num_layers):
            layer = graph.propagate(layer)
            if self.training:
                layer = perturb(layer, self.noise_scale)
            layers.append(layer)
        total = reduce(torch.add, layers)
        if self.combine == "mean":
            total = total / self.num_layers
        self._view = self.split(layers[self.contrast_layer - 1]) if self.training else None
        return self.split(total)

    def auxiliary_losses(
        self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph
    ) -> dict[str, Tensor]:
        """Compute `contrast` between the result and layer `contrast_layer` for the batch's users and items."""
        del graph
        view, self._view = self._view, None
        assert view is not None, "forward comes first, in training mode"
        terms = []
        for ids, table, keys in zip((batch.user_ids, batch.positive_ids), embeddings, view, strict=True):
            unique = gather_unique(ids, self.max_contrasted)
            terms.append(self.contrast(unique, F.embedding(own_rows(unique)[0], table), keys))
        return {"contrast": self.contrast_weight * torch.stack(terms).sum()}
