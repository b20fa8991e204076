"""Base class and helpers of text regularisers: losses between embeddings and text vectors."""

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
    """Base class of losses that tie embeddings to the text vectors of their entities; one file each.

    Used in stage 1 as `text`, and in stage 3 as `grounding`, with the meaning vectors of the words as text vectors.

    Attributes:
        name: Key of the loss in logs.
        search_space: Arguments that `face tune` searches, with their ranges.
        masks_entities: Whether `embed` masks entities, so that `forward` depends on it. Not supported as `grounding`.

    Args:
        embedding_dim: D.
        text_dim: E.
        weight: Weight of the loss.
    """

    name: ClassVar[str]
    search_space: ClassVar[SearchSpace] = {"weight": Between(1e-3, 0.5)}
    masks_entities: ClassVar[bool] = False

    def __init__(self, embedding_dim: int, text_dim: int, weight: float) -> None:
        super().__init__()
        self.embedding_dim, self.text_dim = embedding_dim, text_dim
        self.weight = weight

    def embed(self, backbone: nn.Module, graph: InteractionGraph) -> Embeddings:
        """Compute the backbone's embeddings for the ranking loss and this regulariser; may mask its input."""
        embeddings: Embeddings = backbone(graph)
        return embeddings

    @abstractmethod
    def forward(self, entity_ids: Tensor, embeddings: Tensor, texts: Tensor) -> Tensor:
        """Return the unweighted loss of entities with text.

        Args:
            entity_ids: Unique ids of either users or items, `(N,)`, in the common index space of entities.
            embeddings: Their embeddings `(N, D)`.
            texts: Their text vectors `(N, E)`, of unit length.
        """

    def loss(self, batch: TrainingBatch, embeddings: Embeddings, texts: Tensor, present: Tensor) -> Tensor:
        """Return the sum of the losses of a batch's users and items.

        Args:
            batch: Batch whose users, positive and negative items enter the loss, each once over all processes.
            embeddings: Result of `embed` in this step.
            texts: Text vectors of all entities `(U + I, E)`.
            present: Mask of the entities with text `(U + I,)`.
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
    """Build the two-layer MLP of RLMRec between text and embedding space."""
    hidden_dim = (input_dim + output_dim) // 2
    return nn.Sequential(nn.Linear(input_dim, hidden_dim), nn.LeakyReLU(), nn.Linear(hidden_dim, output_dim))


def contrast_rows(queries: Tensor, keys: Tensor, temperature: float, texts: Tensor) -> Tensor:
    """InfoNCE with row n of `keys` as positive of row n of `queries`; without rows, a differentiable 0.

    Args:
        queries: `(N, D)`.
        keys: `(N, D)`.
        temperature: Temperature of the InfoNCE loss.
        texts: Text vectors `(N, E)`; rows of equal texts are not negatives of each other.
    """
    if not len(queries):
        return queries.sum() + keys.sum()
    own, share = own_rows(unit_vectors(queries))
    rows = own_rows(torch.arange(len(queries), device=queries.device))[0]
    equal = rows_of_equal_text(texts)
    excluded = None if equal is None else own_rows(equal)[0]
    return contrast_with_all(own, unit_vectors(keys), rows, temperature, share, excluded=excluded)


def rows_of_equal_text(texts: Tensor) -> Tensor | None:
    """Find for each row the other rows with an equal text vector.

    Args:
        texts: `(N, E)`.

    Returns:
        Rows `(N, X)`, padded with -1; None if all texts differ.
    """
    # Equal rows have bit-identical weighted sums, and sorting one number per row is cheap.
    weights = torch.arange(1, texts.shape[1] + 1, device=texts.device).double().sqrt()
    groups, counts = (texts * weights).sum(1).unique(return_inverse=True, return_counts=True)[1:]
    max_count = int(counts.max())
    if max_count == 1:
        return None
    first, offsets = counts.cumsum(0) - counts, torch.arange(max_count, device=texts.device)
    members = groups.argsort()[(first[groups].unsqueeze(1) + offsets).clamp_max(len(texts) - 1)]
    rows = torch.arange(len(texts), device=texts.device).unsqueeze(1)
    others = (offsets < counts[groups].unsqueeze(1)) & (members != rows)
    equal: Tensor = members.masked_fill(~others, -1)
    return equal
