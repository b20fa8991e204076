"""GMF: matrix factorisation with a dot product."""

from typing import ClassVar

from face_lightning.backbones.backbone import Backbone, EmbeddingTables
from face_lightning.graph import InteractionGraph
from face_lightning.structures import Embeddings


class GMF(Backbone):
    """Matrix factorisation: score(u, i) = e_u . e_i.

    Reference:
        He et al., "Neural Collaborative Filtering", WWW 2017.

    Note:
        The original GMF weighs dimensions by a learned vector, which with dot-product scores can be absorbed into the
        tables. The FACE paper uses this plain form under the same name.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
    """

    columns_are_independent: ClassVar[bool] = True

    def __init__(self, num_users: int, num_items: int, embedding_dim: int = 256) -> None:
        super().__init__(num_users, num_items, embedding_dim)
        self.tables = EmbeddingTables(num_users, num_items, embedding_dim)

    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Return the tables; the graph is not used."""
        del graph
        return self.initial_embeddings()

    def initial_embeddings(self) -> Embeddings:
        """Return the tables of users `(U, D)` and items `(I, D)`."""
        tables: Embeddings = self.tables()
        return tables
