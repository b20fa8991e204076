"""LightGCL: contrast of propagation with what the graph's leading singular vectors make of it."""

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
    """Contrasts each node with its view through the truncated SVD of the normalised adjacency.

    `G_{l+1} = U S V^T E_l` beside `E_{l+1} = A E_l`, both summed over layers;
    `L = w (InfoNCE(G_users, E_users) + InfoNCE(G_items, E_items))`.

    Reference:
        Cai et al., "LightGCL: Simple Yet Effective Graph Contrastive Learning for Recommendation",
        ICLR 2023.

    Note:
        The authors approximate the SVD by random projections; it is exact here (Lanczos, from a seeded
        start), which costs a second on a graph of a million interactions. Their paper contrasts by cosine;
        their code, whose form is the default, by dot products whose agreement earns nothing beyond 5.
        Without that limit vectors grow for as long as training lasts; with it they end up better than
        those of cosine (`benchmarks/results/search.log`).

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
        num_layers: Propagation steps, L >= 1.
        rank: Number of singular vectors; min(U, I) - 1 where that is less.
        contrast_weight: Weight w of the contrast.
        temperature: Temperature of the contrast.
        similarity: "dot" or "cosine".
        limit: Agreement of a node with its view, over the temperature, beyond which it earns nothing.
        max_contrasted: Nodes of a kind that are contrasted in a step at most, chosen evenly from the batch's; all
            of them if null. Large batches then share a propagation at the contrast's cost of small ones.
        keep_edges: Probability of keeping an interaction in a training step; 1 turns edge dropout off.
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
        self._condensed: tuple[Tensor, Tensor] | None = None

    def prepare(self, graph: InteractionGraph) -> None:
        """Find the leading singular vectors; those of the users carry the singular values."""
        users, items = graph.edge_index.cpu().numpy()
        weights = graph.edge_weight.cpu().double().numpy()
        adjacency = sp.csr_array((weights, (users, items)), shape=(self.num_users, self.num_items))
        start = np.random.default_rng(0).standard_normal(min(adjacency.shape))
        left, values, right = svds(adjacency, k=self.rank, v0=start)
        self.left = torch.from_numpy(left * values).to(graph.edge_weight)
        self.right = torch.from_numpy(right.T.copy()).to(graph.edge_weight)

    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Propagated embeddings of users `(U, D)` and items `(I, D)`."""
        if not self.training:
            return super().forward(graph)
        edge_weight = self.edge_weight(graph)
        layers: list[Tensor] = [self.tables.weight]
        for _ in range(self.num_layers):
            layers.append(graph.propagate(layers[-1], edge_weight))
        self._condensed = self._condense(layers[:-1])
        return self.split(self.combined(reduce(torch.add, layers)))

    def auxiliary_losses(
        self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph
    ) -> dict[str, Tensor]:
        """`contrast` of the batch's users and items, seen through the singular vectors, with all nodes."""
        del graph
        condensed, self._condensed = self._condensed, None
        assert condensed is not None, "forward comes first, in training mode"
        ids = batch.user_ids, torch.cat([batch.positive_ids, batch.negative_ids])
        sides = zip(ids, (self.left, self.right), self.initial_embeddings(), condensed, embeddings, strict=True)
        terms = []
        for nodes, vectors, table, summary, keys in sides:
            rows, share = own_rows(gather_unique(nodes, self.max_contrasted))
            queries = self.combined(F.embedding(rows, table) + F.embedding(rows, vectors) @ summary)
            cosine = self.similarity == "cosine"
            if cosine:
                queries, keys = unit_vectors(queries), unit_vectors(keys)
            terms.append(contrast_with_all(queries, keys, rows, self.temperature, share, self.limit, bounded=cosine))
        return {"contrast": self.contrast_weight * torch.stack(terms).sum()}

    def _condense(self, layers: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Sums over layers of `V^T E_items` and `(U S)^T E_users`, `(rank, D)`: what G of any node is made of."""
        with torch.autocast(layers[0].device.type, enabled=False):  # in float32, as all propagation
            sides = [self.split(layer) for layer in layers]
            from_items = torch.stack([self.right.T @ items for _, items in sides]).sum(0)
            from_users = torch.stack([self.left.T @ users for users, _ in sides]).sum(0)
        return from_items, from_users
