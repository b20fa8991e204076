"""AlphaRec: embeddings computed from item texts, without trainable ID embeddings."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_lightning.backbones.backbone import Backbone
from face_lightning.errors import check_range
from face_lightning.graph import InteractionGraph
from face_lightning.losses.contrastive import unit_vectors
from face_lightning.search_space import OneOf, SearchSpace
from face_lightning.structures import Embeddings


class AlphaRec(Backbone):
    """Maps frozen text vectors of users and items by a shared MLP, propagates them, and scores by cosine.

    `E_0 = [MLP(t_u); MLP(t_i)]`, where `t_i` is the vector of the item's text and `t_u` the mean text vector of the
    user's training items; `E = sum_l A^l E_0` as in LightGCN, with rows scaled to unit length.

    Reference:
        Sheng et al., "Language Representations Can be What Recommenders Need: Findings and Potentials", ICLR 2025.

    Note:
        The authors train with a softmax over sampled items (`SampledSoftmax`, temperature 0.15) and item titles encoded
        by large language models; here texts and encoder are those of the stage. An item without text has a zero vector
        and is excluded from the users' means.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
        text_dim: Width of the stage's text encoder, E.
        hidden_dim: Width of the MLP's hidden layer; 0 for a linear map.
        num_layers: Propagation steps, L >= 0.

    Raises:
        ConfigurationError: If a number is out of range.
    """

    search_space: ClassVar[SearchSpace] = {"num_layers": OneOf((1, 2, 3))}

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 256,
        text_dim: int = 384,
        hidden_dim: int = 768,
        num_layers: int = 2,
    ) -> None:
        super().__init__(num_users, num_items, embedding_dim)
        check_range("text_dim", text_dim, least=1, usual="the encoder's: 384 for all-MiniLM-L6-v2")
        check_range("hidden_dim", hidden_dim, least=0, usual="twice text_dim")
        check_range("num_layers", num_layers, least=0, usual="2")
        self.text_dim = text_dim
        self.num_layers = num_layers
        self.mlp: nn.Module = nn.Linear(text_dim, embedding_dim, bias=False)
        if hidden_dim:
            layers = nn.Linear(text_dim, hidden_dim), nn.LeakyReLU(), nn.Linear(hidden_dim, embedding_dim)
            self.mlp = nn.Sequential(*layers)
        self._cached: tuple[InteractionGraph, int, Tensor] | None = None
        self.item_texts: Tensor
        self.register_buffer("item_texts", torch.zeros(num_items, text_dim))  # persistent: later stages need it

    def set_texts(self, item_texts: Tensor) -> None:
        """See `Backbone`."""
        self.item_texts.copy_(item_texts.nan_to_num())

    def prepare(self, graph: InteractionGraph) -> None:
        """See `Backbone`."""
        super().prepare(graph)
        self._cached = None

    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Return unit vectors of users `(U, D)` and items `(I, D)`."""
        version = self.item_texts._version  # changes when a checkpoint is loaded into the buffer in place
        if self._cached is None or self._cached[0] is not graph or self._cached[1] != version:
            self._cached = graph, version, self.user_texts(graph)
        nodes = self.mlp(torch.cat([self._cached[2].to(self.item_texts), self.item_texts]))
        total = graph.propagate_sum(nodes, self.num_layers)
        users, items = total.split([self.num_users, self.num_items])
        return Embeddings(unit_vectors(users), unit_vectors(items))

    @torch.no_grad()
    def user_texts(self, graph: InteractionGraph) -> Tensor:
        """Mean text vector of each user's training items with text, `(U, E)`; zeros if there are none."""
        has_text = self.item_texts.any(1, keepdim=True).to(self.item_texts)
        # Propagation divides by the square roots of both degrees. Undo that of the item's; the user's cancels below.
        rows = torch.cat([self.item_texts, has_text], 1) * graph.item_degrees().sqrt().unsqueeze(1)
        sums = graph.propagate_to(
            torch.arange(self.num_users, device=rows.device), F.pad(rows, (0, 0, self.num_users, 0))
        )
        counts = sums[:, self.text_dim :]
        return sums[:, : self.text_dim] / counts.where(counts > 0, 1.0)
