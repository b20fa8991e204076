"""Popularity: the baseline that every recommender has to beat."""

import torch

from face_lightning.backbones.backbone import Backbone
from face_lightning.graph import InteractionGraph
from face_lightning.structures import Embeddings


class Popularity(Backbone):
    """Ranks items by their number of training interactions, the same for every user; nothing is trained.

    Args:
        num_users: U.
        num_items: I.
    """

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items, embedding_dim=1)

    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Ones `(U, 1)` and interaction counts `(I, 1)`."""
        counts = graph.item_degrees().float().unsqueeze(1)
        return Embeddings(torch.ones(self.num_users, 1, device=counts.device), counts)
