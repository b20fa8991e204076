"""Layout of the backbone's tables over the processes that train together; replicated by default."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from face_lightning.backbones import Backbone
from face_lightning.ranking import Ranker, TileRanker
from face_lightning.structures import Embeddings, EvaluationBatch

TABLE = "tables.weight"  # name of a backbone's parameter with the rows of users, then items


class TableLayout(ABC):
    """Layout of the backbone's tables over the processes that train together."""

    is_sharded: ClassVar[bool]

    @abstractmethod
    def keep_own_part(self, backbone: Backbone) -> str:
        """Reduce the table of a backbone to the part of this process; returns the table's name."""

    @abstractmethod
    def whole_rows(self, rows: Tensor) -> Tensor:
        """Full rows `(N, D)` from the part that this process holds; without gradient if tables are sharded."""

    @abstractmethod
    def sum_parts(self, partial: Tensor) -> Tensor:
        """Sum partial results of processes, such as dot products."""

    @abstractmethod
    def own_entities(self, *rows: Tensor) -> tuple[tuple[Tensor, ...], float]:
        """Select the rows `(N, ...)` of a step that this process maps; also returns the factor of its losses."""

    @abstractmethod
    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module that all processes hold, unless the strategy does."""

    @abstractmethod
    def random_stream(self, rank: int) -> int:
        """Number of the random stream for dropout on the process of this rank."""

    @abstractmethod
    def ranker(self, embeddings: Embeddings) -> TileRanker:
        """Ranker for embeddings, of which this process may hold a part."""

    @abstractmethod
    def own_users(self, batch: EvaluationBatch, ranked: Tensor) -> tuple[EvaluationBatch, Tensor]:
        """Select the users of a ranked tile that this process evaluates."""


class WholeTables(TableLayout):
    """Every process holds full tables: a single process, or data parallelism."""

    is_sharded: ClassVar[bool] = False

    def keep_own_part(self, backbone: Backbone) -> str:
        """Keep the full table."""
        del backbone
        return TABLE

    def whole_rows(self, rows: Tensor) -> Tensor:
        """Return `rows`, which are full."""
        return rows

    def sum_parts(self, partial: Tensor) -> Tensor:
        """Return `partial`, which is the full result."""
        return partial

    def own_entities(self, *rows: Tensor) -> tuple[tuple[Tensor, ...], float]:
        """Return `rows`, as every process has sampled its own entities."""
        return rows, 1.0

    def average_gradients(self, module: nn.Module) -> None:
        """Do nothing, as DDP averages gradients."""

    def random_stream(self, rank: int) -> int:
        """One stream per process."""
        return rank

    def ranker(self, embeddings: Embeddings) -> TileRanker:
        """See `Ranker`."""
        return Ranker(embeddings)

    def own_users(self, batch: EvaluationBatch, ranked: Tensor) -> tuple[EvaluationBatch, Tensor]:
        """Return the whole tile, as every process ranks its own users."""
        return batch, ranked
