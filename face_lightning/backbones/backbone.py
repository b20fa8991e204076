"""What every collaborative-filtering backbone provides."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from face_lightning.errors import ConfigurationError
from face_lightning.graph import InteractionGraph
from face_lightning.memory import check_memory
from face_lightning.search_space import SearchSpace
from face_lightning.structures import Embeddings, TrainingBatch


class Backbone(nn.Module, ABC):
    """Gives every user and item an embedding; a pair's score is their dot product.

    A backbone is one file. It never computes the ranking loss and never sees a configuration, a file,
    a Trainer or a language model.

    Attributes:
        columns_are_independent: Whether each column of the final embeddings depends on the same column of the table
            `tables.weight` alone, and no loss of the backbone compares whole rows: processes may share columns then.
        search_space: Arguments that `face tune` searches, with their ranges.
        text_dim: Width of the text vectors that `set_texts` takes, E; None if the backbone reads no texts.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.

    Raises:
        ConfigurationError: If `embedding_dim` is not positive, or the tables cannot fit into memory.
    """

    columns_are_independent: ClassVar[bool] = False
    search_space: ClassVar[SearchSpace] = {}
    text_dim: int | None = None

    def __init__(self, num_users: int, num_items: int, embedding_dim: int) -> None:
        super().__init__()
        if embedding_dim < 1:
            raise ConfigurationError(f"embedding_dim: expected at least 1, got {embedding_dim}; 64 to 256 are usual")
        check_memory(
            "embedding_dim",
            16 * (num_users + num_items) * embedding_dim,
            f"({num_users:,} users + {num_items:,} items) x {embedding_dim:,} x 16 bytes (weight, gradient, 2 moments)",
            "lower embedding_dim; 64 to 256 are usual",
        )
        self.num_users = num_users
        self.num_items = num_items
        self.embedding_dim = embedding_dim

    @abstractmethod
    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Final embeddings of all users `(U, D)` and items `(I, D)`.

        In training mode a backbone may perturb what it returns (edge dropout); in evaluation mode the
        result is deterministic.
        """

    def initial_embeddings(self) -> Embeddings | None:
        """The trainable tables behind the final embeddings, on which L2 regularisation acts."""
        return None

    def auxiliary_losses(
        self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph
    ) -> dict[str, Tensor]:
        """Further losses by name, already weighted; none by default.

        Args:
            batch: The interactions of the step.
            embeddings: What `forward` returned in this step.
            graph: The graph it was called with.
        """
        del batch, embeddings, graph
        return {}

    def prepare(self, graph: InteractionGraph) -> None:
        """Compute once what depends on the graph alone, before training or evaluation."""
        del graph

    def set_texts(self, item_texts: Tensor) -> None:
        """Take the frozen vectors of the items' texts, once before training; checkpoints have to hold them.

        Args:
            item_texts: Unit vectors `(I, E)`; rows of items without text are NaN.
        """
        del item_texts


class EmbeddingTables(nn.Module):
    """One trainable table over users, then items, `(U + I, D)`, Xavier-uniform for each side.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
    """

    def __init__(self, num_users: int, num_items: int, embedding_dim: int) -> None:
        super().__init__()
        self.num_users = num_users
        self.weight = nn.Parameter(torch.empty(num_users + num_items, embedding_dim))
        nn.init.xavier_uniform_(self.weight.data[:num_users])
        nn.init.xavier_uniform_(self.weight.data[num_users:])

    def forward(self) -> Embeddings:
        """Tables of users `(U, D)` and items `(I, D)`, as views."""
        return Embeddings(*self.weight.split([self.num_users, len(self.weight) - self.num_users]))
