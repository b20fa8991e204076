"""What every text regulariser provides: a loss between embeddings and the vectors of their texts."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_lightning.distributed import gather_unique, own_rows
from face_lightning.graph import InteractionGraph
from face_lightning.losses.contrastive import contrast_with_all, unit_vectors
from face_lightning.structures import Embeddings, TrainingBatch


class TextRegularizer(nn.Module, ABC):
    """Ties the embeddings that rank to vectors of the entities' texts. A text regulariser is one file.

    Stage 1 takes one as `text`, stage 3 as `grounding`, where what an entity's words mean stands for its text.

    Attributes:
        name: Key of the loss in logs.

    Args:
        embedding_dim: D.
        text_dim: E.
        weight: Weight of the loss.
    """

    name: ClassVar[str]

    def __init__(self, embedding_dim: int, text_dim: int, weight: float) -> None:
        super().__init__()
        self.embedding_dim, self.text_dim = embedding_dim, text_dim
        self.weight = weight

    def embed(self, backbone: nn.Module, graph: InteractionGraph) -> Embeddings:
        """The backbone's embeddings, which ranking and this regulariser share."""
        embeddings: Embeddings = backbone(graph)
        return embeddings

    @abstractmethod
    def forward(self, entity_ids: Tensor, embeddings: Tensor, texts: Tensor) -> Tensor:
        """Unweighted loss of entities that have a text.

        Args:
            entity_ids: Unique entities of one kind, `(N,)`; users, then items, share one index space.
            embeddings: Their embeddings `(N, D)`.
            texts: Their text vectors `(N, E)`, of unit length.
        """

    def loss(self, batch: TrainingBatch, embeddings: Embeddings, texts: Tensor, present: Tensor) -> Tensor:
        """Sum over users and items of the loss of a batch's entities.

        Args:
            batch: Its users, positive and negative items take part, each once over all processes.
            embeddings: What `embed` returned in this step.
            texts: Text vectors of all entities `(U + I, E)`.
            present: Which of them have a text `(U + I,)`.
        """
        num_users = len(embeddings.users)
        item_ids = torch.cat([batch.positive_ids, batch.negative_ids])
        terms = []
        for first, ids, table in zip((0, num_users), (batch.user_ids, item_ids), embeddings, strict=True):
            unique = gather_unique(ids)
            unique = unique[present[unique + first]]
            terms.append(self(unique + first, F.embedding(unique, table), F.embedding(unique + first, texts)))
        return torch.stack(terms).sum()


def text_mlp(input_dim: int, output_dim: int) -> nn.Sequential:
    """Two layers between the widths of texts and embeddings, as RLMRec has them."""
    middle = (input_dim + output_dim) // 2
    return nn.Sequential(nn.Linear(input_dim, middle), nn.LeakyReLU(), nn.Linear(middle, output_dim))


def contrast_rows(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """InfoNCE of row n of `queries` with row n of `keys`; 0, with a gradient, where there are no rows."""
    if not len(queries):
        return queries.sum() + keys.sum()
    own, share = own_rows(unit_vectors(queries))
    rows = own_rows(torch.arange(len(queries), device=queries.device))[0]
    return contrast_with_all(own, unit_vectors(keys), rows, temperature, share)
