"""What every text regulariser provides: a loss between embeddings and the vectors of their texts."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_lightning.distributed import gather_unique, own_rows
from face_lightning.graph import InteractionGraph
from face_lightning.losses.contrastive import contrast_with_all, unit_vectors
from face_lightning.search_space import Between, SearchSpace
from face_lightning.structures import Embeddings, TrainingBatch


class TextRegularizer(nn.Module, ABC):
    """Ties the embeddings that rank to vectors of the entities' texts. A text regulariser is one file.

    Stage 1 takes one as `text`, stage 3 as `grounding`, where what an entity's words mean stands for its text.

    Attributes:
        name: Key of the loss in logs.
        search_space: Arguments that `face tune` searches, with their ranges.

    Args:
        embedding_dim: D.
        text_dim: E.
        weight: Weight of the loss.
    """

    name: ClassVar[str]
    search_space: ClassVar[SearchSpace] = {"weight": Between(1e-3, 0.5)}

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


def contrast_rows(queries: Tensor, keys: Tensor, temperature: float, texts: Tensor) -> Tensor:
    """InfoNCE of row n of `queries` with row n of `keys`; 0, with a gradient, where there are no rows.

    Args:
        queries: `(N, D)`.
        keys: `(N, D)`.
        temperature: Temperature of the contrast.
        texts: Text vectors `(N, E)`; rows of equal texts are no negatives of each other.
    """
    if not len(queries):
        return queries.sum() + keys.sum()
    own, share = own_rows(unit_vectors(queries))
    rows = own_rows(torch.arange(len(queries), device=queries.device))[0]
    equal = rows_of_equal_text(texts)
    excluded = None if equal is None else own_rows(equal)[0]
    return contrast_with_all(own, unit_vectors(keys), rows, temperature, share, excluded=excluded)


def rows_of_equal_text(texts: Tensor) -> Tensor | None:
    """Other rows of the same text vector as each row, `(N, X)`, padded with -1; None where all differ.

    Args:
        texts: `(N, E)`.
    """
    # Equal rows have equal sums to the last bit, and sorting one number a row is cheap.
    weights = torch.arange(1, texts.shape[1] + 1, device=texts.device).double().sqrt()
    groups, counts = (texts * weights).sum(1).unique(return_inverse=True, return_counts=True)[1:]
    most = int(counts.max())
    if most == 1:
        return None
    first, places = counts.cumsum(0) - counts, torch.arange(most, device=texts.device)
    members = groups.argsort()[(first[groups].unsqueeze(1) + places).clamp_max(len(texts) - 1)]
    rows = torch.arange(len(texts), device=texts.device).unsqueeze(1)
    others = (places < counts[groups].unsqueeze(1)) & (members != rows)
    equal: Tensor = members.masked_fill(~others, -1)
    return equal
