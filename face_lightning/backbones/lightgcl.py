"""LightGCL: LightGCN with a contrastive loss against propagation over a low-rank SVD of the graph."""

from collections.abc import Sequence
from functools import reduce
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import svds
from torch import Tensor

from face_lightning.backbones.lightgcn import LightGCN
from face_lightning.distributed import gather_unique, own_rows
from face_lightning.errors import ConfigurationError
from face_lightning.graph import InteractionGraph
from face_lightning.losses.contrastive import contrast_with_all, unit_vectors
from face_lightning.search_space import Between, OneOf, SearchSpace
from face_lightning.structures import Embeddings, TrainingBatch


class LightGCL(LightGCN):
    """Contrasts each node's embedding with a second view, propagated over the truncated SVD of the adjacency matrix.

    `G_{l+1} = U S V^T E_l` and `E_{l+1} = A E_l` with the normalised adjacency A, both summed over layers;
    `L = w (InfoNCE(G_users, E_users) + InfoNCE(G_items, E_items))`.

    Reference:
        Cai et al., "LightGCL: Simple Yet Effective Graph Contrastive Learning for Recommendation",
        ICLR 2023.

    Note:
        The authors approximate the SVD by random projections; here it is exact (Lanczos with a seeded start vector),
        which takes a second on a graph of a million interactions. Their paper contrasts by cosine. Their code, and
        the default here, uses dot products with the positive logit clamped at 5: without the clamp, the norms grow
        throughout training; with it, results are better than with cosine (`benchmarks/results/search.log`).

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
        num_layers: Propagation steps, L >= 1.
        rank: Number of singular vectors, at most min(U, I) - 1.
        contrast_weight: Weight w of the contrastive loss.
        temperature: Temperature of the contrastive loss.
        similarity: "dot" or "cosine".
        limit: Absolute value at which the positive logit, after the temperature, is clamped.
        max_contrasted: Maximum number of users, and of items, per step in the contrastive loss, chosen evenly from
            those of the batch; null for all. Bounds the loss's cost with large batches.
        keep_edges: Probability of keeping an interaction in a training step; 1 disables edge dropout.
        combine: Whether layers are summed or averaged.

    Raises:
        ConfigurationError: If `rank` is not positive.
    """

    columns_are_independent: ClassVar[bool] = False  # the contrast compares whole rows
    search_space: ClassVar[SearchSpace] = {
        "num_layers": OneOf((1, 2, 3)),
        "contrast_weight": Between(0.01, 0.5),
        "temperature": Between(0.1, 0.5),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 256,
        num_layers: int = 2,
        rank: int = 5,
        contrast_weight: float = 0.1,
        temperature: float = 0.1,
        similarity: Literal["cosine", "dot"] = "dot",
        limit: float = 5.0,
        max_contrasted: int | None = None,
        keep_edges: float = 1.0,
        combine: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__(num_users, num_items, embedding_dim, num_layers, keep_edges, combine)
        if rank < 1:
            raise ConfigurationError(f"rank: expected at least 1, got {rank}; 5 is usual")
        self.rank = min(rank, num_users - 1, num_items - 1)
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.similarity = similarity
        self.limit = limit
        self.max_contrasted = max_contrasted
        self.left: Tensor
        self.right: Tensor
        self.register_buffer("left", torch.zeros(num_users, self.rank), persistent=False)
        self.register_buffer("right", torch.zeros(num_items, self.rank), persistent=False)
        self._view: tuple[Embeddings, tuple[Tensor, Tensor]] | None = None

    def prepare(self, graph: InteractionGraph) -> None:
        """Compute the leading singular vectors; those of the users are multiplied by the singular values."""
        users, items = graph.edge_index.cpu().numpy()
        weights = graph.edge_weight.cpu().double().numpy()
        adjacency = sp.csr_array((weights, (users, items)), shape=(self.num_users, self.num_items))
        start = np.random.default_rng(0).standard_normal(min(adjacency.shape))
        left, values, right = svds(adjacency, k=self.rank, v0=start)
        self.left = torch.from_numpy(left * values).to(graph.edge_weight)
        self.right = torch.from_numpy(right.T.copy()).to(graph.edge_weight)

    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Compute the propagated embeddings of users `(U, D)` and items `(I, D)`."""
        if not self.training:
            return super().forward(graph)
        edge_weight = self.edge_weight(graph)
        layers: list[Tensor] = [self.tables.weight]
        for _ in range(self.num_layers):
            layers.append(graph.propagate(layers[-1], edge_weight))
        self._view = self.split(layers[0]), self._project_layers(layers[:-1])
        return self.split(self.combined(reduce(torch.add, layers)))

    def auxiliary_losses(
        self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph
    ) -> dict[str, Tensor]:
        """Compute `contrast` between the low-rank view of the batch's users and items and the embeddings of all."""
        del graph
        view, self._view = self._view, None
        assert view is not None, "forward comes first, in training mode"
        tables, low_rank = view
        ids = batch.user_ids, torch.cat([batch.positive_ids, batch.negative_ids])
        sides = zip(ids, (self.left, self.right), tables, low_rank, embeddings, strict=True)
        terms = []
        for nodes, vectors, table, factor, keys in sides:
            rows, share = own_rows(gather_unique(nodes, self.max_contrasted))
            queries = self.combined(F.embedding(rows, table) + F.embedding(rows, vectors) @ factor)
            cosine = self.similarity == "cosine"
            if cosine:
                queries, keys = unit_vectors(queries), unit_vectors(keys)
            terms.append(contrast_with_all(queries, keys, rows, self.temperature, share, self.limit, bounded=cosine))
        return {"contrast": self.contrast_weight * torch.stack(terms).sum()}

    def _project_layers(self, layers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Sum `V^T E_items` and `(U S)^T E_users` over layers, `(rank, D)` each: the factors of the low-rank view."""
        with torch.autocast(layers[0].device.type, enabled=False):  # float32, as in all propagation
            sides = [self.split(layer) for layer in layers]
            from_items = torch.stack([self.right.T @ items for _, items in sides]).sum(0)
            from_users = torch.stack([self.left.T @ users for users, _ in sides]).sum(0)
        return from_items, from_users
