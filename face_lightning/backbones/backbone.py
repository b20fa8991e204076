"""Base class of collaborative-filtering backbones."""

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
    """Base class of models that embed users and items; the score of a pair is the dot product of its embeddings.

    A backbone is one file. It does not compute the ranking loss, and has no access to configuration, files, Trainer
    or language models.

    Attributes:
        columns_are_independent: Whether each column of the final embeddings depends only on the same column of the
            table `tables.weight`, and no loss of the backbone compares whole rows. Column-parallel training requires
            this.
        search_space: Arguments that `face tune` searches, with their ranges.
        text_dim: Width of the text vectors that `set_texts` expects, E; None if the backbone reads no texts.

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
        """Compute the final embeddings of all users `(U, D)` and items `(I, D)`.

        The result may be random in training mode (edge dropout), and must be deterministic in evaluation mode.
        """

    def initial_embeddings(self) -> Embeddings | None:
        """Return the trainable embedding tables, to which L2 regularisation applies; None if there are none."""
        return None

    def auxiliary_losses(
        self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph
    ) -> dict[str, Tensor]:
        """Compute additional losses by name, already weighted; none by default.

        Args:
            batch: The interactions of the step.
            embeddings: Result of `forward` in this step.
            graph: The graph that `forward` was called with.
        """
        del batch, embeddings, graph
        return {}

    def prepare(self, graph: InteractionGraph) -> None:
        """Precompute what depends only on the graph; called once before training or evaluation."""
        del graph

    def set_texts(self, item_texts: Tensor) -> None:
        """Set the frozen text vectors of the items; called once before training. Checkpoints must include them.

        Args:
            item_texts: Unit vectors `(I, E)`; rows of items without text are NaN.
        """
        del item_texts


class EmbeddingTables(nn.Module):
    """One trainable table of users, then items, `(U + I, D)`; each part has Xavier uniform initialisation.

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
        """Return the tables of users `(U, D)` and items `(I, D)` as views."""
        return Embeddings(*self.weight.split([self.num_users, len(self.weight) - self.num_users]))
