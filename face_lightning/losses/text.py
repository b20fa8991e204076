"""Text regularisers: what an entity's text vector asks of its embedding, for any backbone in stage 1."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from face_lightning.distributed import gather_unique, own_rows
from face_lightning.errors import ConfigurationError
from face_lightning.graph import InteractionGraph
from face_lightning.losses.contrastive import contrast_with_all, unit_vectors
from face_lightning.structures import Embeddings, TrainingBatch


class TextRegularizer(nn.Module, ABC):
    """Ties the embeddings that rank to vectors of the entities' texts.

    Args:
        embedding_dim: D.
        text_dim: E.
        weight: Weight of the loss.
        temperature: Temperature of the contrast, > 0.

    Raises:
        ConfigurationError: If the temperature is not positive.
    """

    name: ClassVar[str]

    def __init__(self, embedding_dim: int, text_dim: int, weight: float, temperature: float) -> None:
        super().__init__()
        if temperature <= 0:
            raise ConfigurationError(f"temperature: expected more than 0, got {temperature}; 0.2 is usual")
        self.embedding_dim, self.text_dim = embedding_dim, text_dim
        self.weight = weight
        self.temperature = temperature

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


class ContrastiveText(TextRegularizer):
    """Brings an embedding near its own text, mapped into the embeddings' space, and away from others.

    `L = InfoNCE(e, MLP(s))` among the entities of a batch.

    Reference:
        Ren et al., "Representation Learning with Large Language Models for Recommendation" (RLMRec-Con),
        WWW 2024.

    Note:
        The authors contrast with the texts of all entities; here with those of the batch, a thousand or
        more, because mapping every text in every step would cost more than all the rest.

    Args:
        embedding_dim: D.
        text_dim: E.
        weight: Weight of the loss.
        temperature: Temperature of the contrast.
    """

    name: ClassVar[str] = "text_contrast"

    def __init__(self, embedding_dim: int, text_dim: int, weight: float = 0.01, temperature: float = 0.2) -> None:
        super().__init__(embedding_dim, text_dim, weight, temperature)
        self.mlp = _mlp(text_dim, embedding_dim)

    def forward(self, entity_ids: Tensor, embeddings: Tensor, texts: Tensor) -> Tensor:
        """See `TextRegularizer`."""
        del entity_ids
        return _contrast(embeddings, self.mlp(texts), self.temperature)


class GenerativeText(TextRegularizer):
    """Hides some entities from the backbone and has their text told by what the graph says of them.

    Tables of a random share of entities are replaced by a learnt mask before propagation;
    `L = InfoNCE(MLP(e), s)` over the hidden ones.

    Reference:
        Ren et al., "Representation Learning with Large Language Models for Recommendation" (RLMRec-Gen),
        WWW 2024.

    Note:
        A backbone that does not propagate (GMF) has nothing to tell of a hidden entity: use it with
        `ContrastiveText`.

    Args:
        embedding_dim: D.
        text_dim: E.
        weight: Weight of the loss.
        temperature: Temperature of the contrast.
        mask_ratio: Share of entities that a step hides, in (0, 1).

    Raises:
        ConfigurationError: If `mask_ratio` is out of range.
    """

    name: ClassVar[str] = "text_reconstruction"

    def __init__(
        self,
        embedding_dim: int,
        text_dim: int,
        weight: float = 0.01,
        temperature: float = 0.2,
        mask_ratio: float = 0.1,
    ) -> None:
        super().__init__(embedding_dim, text_dim, weight, temperature)
        if not 0 < mask_ratio < 1:
            raise ConfigurationError(f"mask_ratio: expected between 0 and 1, got {mask_ratio}; 0.1 is usual")
        self.mask_ratio = mask_ratio
        self.mask = nn.Parameter(torch.empty(1, embedding_dim))
        nn.init.xavier_uniform_(self.mask)
        self.mlp = _mlp(embedding_dim, text_dim)
        self._hidden = torch.empty(0, dtype=torch.bool)

    def embed(self, backbone: nn.Module, graph: InteractionGraph) -> Embeddings:
        """The backbone's embeddings with a new random share of entities hidden.

        Raises:
            ConfigurationError: If the backbone has no embedding tables.
        """
        name = "tables.weight"
        tables = dict(backbone.named_parameters()).get(name)
        if tables is None:
            raise ConfigurationError(
                f"text: GenerativeText hides rows of the parameter {name!r}, which {type(backbone).__name__} lacks; "
                "use ContrastiveText"
            )
        self._hidden = torch.rand(len(tables), device=tables.device) < self.mask_ratio
        masked = torch.where(self._hidden.unsqueeze(1), self.mask, tables)
        embeddings: Embeddings = functional_call(backbone, {name: masked}, (graph,))
        return embeddings

    def forward(self, entity_ids: Tensor, embeddings: Tensor, texts: Tensor) -> Tensor:
        """See `TextRegularizer`."""
        hidden = self._hidden[entity_ids]
        return _contrast(self.mlp(embeddings[hidden]), texts[hidden], self.temperature)


def _mlp(input_dim: int, output_dim: int) -> nn.Sequential:
    middle = (input_dim + output_dim) // 2
    return nn.Sequential(nn.Linear(input_dim, middle), nn.LeakyReLU(), nn.Linear(middle, output_dim))


def _contrast(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """InfoNCE of row n of `queries` with row n of `keys`; 0, with a gradient, where there are no rows."""
    if not len(queries):
        return queries.sum() + keys.sum()
    own, share = own_rows(unit_vectors(queries))
    rows = own_rows(torch.arange(len(queries), device=queries.device))[0]
    return contrast_with_all(own, unit_vectors(keys), rows, temperature, share)
