"""How the backbone's tables lie over the processes that train together; whole on each of them by default."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from face_lightning.backbones import Backbone
from face_lightning.ranking import Ranker, TileRanker
from face_lightning.structures import Embeddings, EvaluationBatch

TABLE = "tables.weight"  # of a backbone: the parameter that holds the rows of users, then items


class TableLayout(ABC):
    """How the backbone's tables lie over the processes that train together."""

    is_sharded: ClassVar[bool]

    @abstractmethod
    def keep_own_part(self, backbone: Backbone) -> str:
        """Leave a backbone with this process's part of its table, and return the table's name."""

    @abstractmethod
    def whole_rows(self, rows: Tensor) -> Tensor:
        """Whole rows `(N, D)` of embeddings of which this process may hold a part; without gradient then."""

    @abstractmethod
    def sum_parts(self, partial: Tensor) -> Tensor:
        """Sum over processes of what each computed from its part, such as dot products."""

    @abstractmethod
    def own_entities(self, *rows: Tensor) -> tuple[tuple[Tensor, ...], float]:
        """The rows `(N, ...)` of a step that this process maps, and the factor of its losses."""

    @abstractmethod
    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module that all processes hold, where the strategy does not."""

    @abstractmethod
    def random_stream(self, rank: int) -> int:
        """Number of the random stream that the process of this rank draws dropout from."""

    @abstractmethod
    def ranker(self, embeddings: Embeddings) -> TileRanker:
        """Ranker over embeddings of which this process may hold a part."""

    @abstractmethod
    def own_users(self, batch: EvaluationBatch, ranked: Tensor) -> tuple[EvaluationBatch, Tensor]:
        """The part of a ranked tile of users that this process counts."""


class WholeTables(TableLayout):
    """Every process holds whole tables: one process, or data parallelism."""

    is_sharded: ClassVar[bool] = False

    def keep_own_part(self, backbone: Backbone) -> str:
        """Nothing to leave out."""
        del backbone
        return TABLE

    def whole_rows(self, rows: Tensor) -> Tensor:
        """`rows`."""
        return rows

    def sum_parts(self, partial: Tensor) -> Tensor:
        """`partial`."""
        return partial

    def own_entities(self, *rows: Tensor) -> tuple[tuple[Tensor, ...], float]:
        """`rows`: every process has drawn its own entities."""
        return rows, 1.0

    def average_gradients(self, module: nn.Module) -> None:
        """DDP averages gradients."""

    def random_stream(self, rank: int) -> int:
        """One stream per process."""
        return rank

    def ranker(self, embeddings: Embeddings) -> TileRanker:
        """See `Ranker`."""
        return Ranker(embeddings)

    def own_users(self, batch: EvaluationBatch, ranked: Tensor) -> tuple[EvaluationBatch, Tensor]:
        """The whole tile: every process ranks its own users."""
        return batch, ranked
