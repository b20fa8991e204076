"""Plain implementations of training steps and evaluation, as in most public code.

Propagation is autograd through a COO sparse tensor and is repeated for every batch and view; contrastive losses hold
all scores of a batch with all nodes; evaluation ranks a dense matrix and loops over users. Losses and metrics equal
those of the package, which `benchmarks.training` checks before it times anything.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.backbones import GMF, Backbone, LightGCL, LightGCN, SimGCL
from face_lightning.data.interactions import Interactions
from face_lightning.graph import InteractionGraph
from face_lightning.structures import Embeddings, TrainingBatch


class Reference:
    """Losses of a backbone in a plain implementation, on the backbone's own tables.

    Args:
        backbone: GMF, LightGCN, SimGCL or LightGCL without edge dropout.
        graph: Its graph.
    """

    def __init__(self, backbone: Backbone, graph: InteractionGraph) -> None:
        self.backbone = backbone
        users, items = graph.edge_index
        rows = torch.cat([users, items + graph.num_users])
        columns = torch.cat([items + graph.num_users, users])
        size = (graph.num_users + graph.num_items,) * 2
        weights = graph.edge_weight.repeat(2)
        self.adjacency = torch.sparse_coo_tensor(torch.stack([rows, columns]), weights, size).coalesce()

    def embed(self, noise: float = 0.0) -> tuple[Embeddings, list[Tensor]]:
        """Final embeddings and all layers."""
        tables = self.backbone.get_parameter("tables.weight")
        layers: list[Tensor] = [tables]
        if isinstance(self.backbone, LightGCN):
            for _ in range(self.backbone.num_layers):
                layer = torch.sparse.mm(self.adjacency, layers[-1])
                if noise:
                    layer = layer + noise * F.normalize(torch.rand_like(layer), dim=1) * layer.sign()
                layers.append(layer)
        total = sum(layers[1:], layers[0])
        return self._split(total), layers

    def loss(self, batch: TrainingBatch, l2_weight: float) -> Tensor:
        """All weighted losses of a batch."""
        embeddings, layers = self.embed()
        tables = self._split(layers[0])
        user, positive, negative = batch.user_ids, batch.positive_ids, batch.negative_ids
        difference = (embeddings.users[user] * (embeddings.items[positive] - embeddings.items[negative])).sum(1)
        norms = tables.users[user].square() + tables.items[positive].square() + tables.items[negative].square()
        loss = -F.logsigmoid(difference).mean() + l2_weight * norms.sum(1).mean()
        if isinstance(self.backbone, SimGCL):
            views = [self.embed(self.backbone.noise_scale)[0] for _ in range(2)]
            loss = loss + self.backbone.contrast_weight * self._contrast([user, positive], views[0], views[1])
        if isinstance(self.backbone, LightGCL):
            ids = [user, torch.cat([positive, negative])]
            loss = loss + self.backbone.contrast_weight * self._contrast(ids, self._low_rank(layers), embeddings)
        return loss

    def _low_rank(self, layers: list[Tensor]) -> Embeddings:
        backbone = self.backbone
        assert isinstance(backbone, LightGCL)
        users, items = self._split(layers[0])
        for layer in layers[:-1]:
            layer_users, layer_items = self._split(layer)
            users = users + backbone.left @ (backbone.right.T @ layer_items)
            items = items + backbone.right @ (backbone.left.T @ layer_users)
        return Embeddings(users, items)

    def _contrast(self, ids: list[Tensor], first: Embeddings, second: Embeddings) -> Tensor:
        temperature = self.backbone.temperature
        assert isinstance(temperature, float)
        total = torch.zeros(())
        for queries, keys, rows in zip(first, second, ids, strict=True):
            unique = rows.unique()
            query, key = queries[unique], keys
            if getattr(self.backbone, "similarity", "cosine") == "cosine":
                query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
            scores = torch.exp(query @ key.T / temperature)
            agreement = (query * key[unique]).sum(1) / temperature
            if isinstance(self.backbone, LightGCL):
                agreement = agreement.clamp(-self.backbone.limit, self.backbone.limit)
            total = total + (scores.sum(1).log() - agreement).mean()
        return total

    def _split(self, nodes: Tensor) -> Embeddings:
        return Embeddings(*nodes.split([self.backbone.num_users, self.backbone.num_items]))


def evaluate(embeddings: Embeddings, interactions: Interactions, top_k: int, batch_size: int = 256) -> dict[str, float]:
    """Recall and NDCG on validation with a dense mask per batch and a loop over users."""
    train, valid = interactions.train, interactions.valid
    users = np.flatnonzero(np.diff(valid.indptr))
    recall, ndcg = 0.0, 0.0
    for begin in range(0, len(users), batch_size):
        rows = users[begin : begin + batch_size]
        scores = embeddings.users[torch.from_numpy(rows)] @ embeddings.items.T
        mask = torch.from_numpy(train[rows].toarray())
        scores = scores * (1 - mask) - 1e8 * mask
        for row, ranked in zip(rows, scores.topk(top_k, dim=1).indices.tolist(), strict=True):
            wanted = set(valid.indices[valid.indptr[row] : valid.indptr[row + 1]].tolist())
            hits = [item in wanted for item in ranked]
            ideal = sum(1 / math.log2(rank + 2) for rank in range(min(top_k, len(wanted))))
            recall += sum(hits) / len(wanted)
            ndcg += sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit) / ideal
    return {f"recall@{top_k}": recall / len(users), f"ndcg@{top_k}": ndcg / len(users)}


BACKBONES = (GMF, LightGCN, SimGCL, LightGCL)
