"""LightGCN: linear propagation of embeddings over the interaction graph."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from face_lightning.backbones.backbone import Backbone, EmbeddingTables
from face_lightning.errors import check_range
from face_lightning.graph import InteractionGraph
from face_lightning.search_space import Between, OneOf, SearchSpace
from face_lightning.structures import Embeddings


class LightGCN(Backbone):
    """Propagates embedding tables over the graph and sums (or averages) all layers.

    `E_{l+1} = D^{-1/2} A D^{-1/2} E_l`, `E = sum_l E_l`.

    Reference:
        He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
        SIGIR 2020.

    Note:
        The LightGCN paper averages the layers; the code of FACE and RLMRec sums them. The sum is the default, since
        the published results depend on it.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
        num_layers: Propagation steps, L >= 1.
        keep_edges: Probability of keeping an interaction in a training step; 1 disables edge dropout.
        combine: Whether layers are summed or averaged.

    Raises:
        ConfigurationError: If `num_layers` or `keep_edges` is out of range.
    """

    columns_are_independent: ClassVar[bool] = True
    search_space: ClassVar[SearchSpace] = {"num_layers": OneOf((1, 2, 3)), "keep_edges": Between(0.5, 1.0, log=False)}

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 256,
        num_layers: int = 3,
        keep_edges: float = 0.8,
        combine: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__(num_users, num_items, embedding_dim)
        check_range("num_layers", num_layers, least=1, most=64, usual="2 or 3")
        check_range("keep_edges", keep_edges, above=0, most=1, usual="0.8 to 1")
        self.num_layers = num_layers
        self.keep_edges = keep_edges
        self.combine = combine
        self.tables = EmbeddingTables(num_users, num_items, embedding_dim)

    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Compute the propagated embeddings of users `(U, D)` and items `(I, D)`."""
        total = graph.propagate_sum(self.tables.weight, self.num_layers, self.edge_weight(graph))
        return self.split(self.combined(total))

    def edge_weight(self, graph: InteractionGraph) -> Tensor | None:
        """Draw the edge weights of this pass `(N,)`; None if no edges are dropped."""
        return graph.dropped_weights(self.keep_edges) if self.training and self.keep_edges < 1 else None

    def combined(self, total: Tensor) -> Tensor:
        """Scale the sum of all layers according to `combine`."""
        return total / (self.num_layers + 1) if self.combine == "mean" else total

    def split(self, nodes: Tensor) -> Embeddings:
        """Split all nodes `(U + I, D)` into users `(U, D)` and items `(I, D)`."""
        return Embeddings(*torch.split(nodes, [self.num_users, self.num_items]))

    def initial_embeddings(self) -> Embeddings:
        """Return the tables before propagation, `(U, D)` and `(I, D)`."""
        tables: Embeddings = self.tables()
        return tables
