"""XSimGCL: contrast of a middle layer with the last one within a single perturbed propagation."""

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
    """Perturbs the one propagation that serves ranking, and contrasts its result with one of its layers.

    Reference:
        Yu et al., "XSimGCL: Towards Extremely Simple Graph Contrastive Learning for Recommendation",
        TKDE 2023.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
        num_layers: Propagation steps, L >= 1.
        contrast_layer: Which layer, from 1, the result is contrasted with.
        contrast_weight: Weight of the contrast.
        temperature: Temperature of the contrast.
        noise_scale: Length of the noise that a node gets in each layer.
        negatives: What a node is contrasted with: "all" nodes of its kind or those of the "batch".
        max_contrasted: Nodes of a kind that are contrasted in a step at most, chosen evenly from the batch's; all
            of them if null. Large batches then share a propagation at the contrast's cost of small ones.
        combine: Whether layers are summed or averaged; the tables themselves are left out, as in the paper.

    Raises:
        ConfigurationError: If there is no such `contrast_layer`.
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
        """Propagated embeddings of users `(U, D)` and items `(I, D)`, perturbed in training."""
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
        """`contrast` of the batch's users and of its items between the result and the chosen layer."""
        del graph
        view, self._view = self._view, None
        assert view is not None, "forward comes first, in training mode"
        terms = []
        for ids, table, keys in zip((batch.user_ids, batch.positive_ids), embeddings, view, strict=True):
            unique = gather_unique(ids, self.max_contrasted)
            terms.append(self.contrast(unique, F.embedding(own_rows(unique)[0], table), keys))
        return {"contrast": self.contrast_weight * torch.stack(terms).sum()}
