"""Column parallelism: processes share the columns of tables, where data parallelism shares the rows of a batch.

Each of W processes holds D / W columns of every node's embedding and of their optimizer state. Propagation works on
each column by itself, so it needs no communication; a score is a sum over columns, so only the partial dot products of
a batch, or of a tile of the catalogue, are summed over processes.
"""

from typing import Any, ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from face_lightning.backbones import Backbone
from face_lightning.distributed import average, own_rows
from face_lightning.errors import ConfigurationError
from face_lightning.inner_product import rank_items
from face_lightning.parallel.table_layout import TABLE, TableLayout
from face_lightning.ranking import TileRanker
from face_lightning.structures import Embeddings, EvaluationBatch


class ColumnShards(TableLayout):
    """Each of W processes holds D / W columns of every row, and all work on the same batch."""

    is_sharded: ClassVar[bool] = True

    def keep_own_part(self, backbone: Backbone) -> str:
        """Replace the backbone's table by this process's columns, unless that was done before.

        Raises:
            ConfigurationError: If the backbone's columns depend on each other, or cannot be shared evenly.
        """
        if not backbone.columns_are_independent:
            raise ConfigurationError(
                f"trainer.strategy: expected a backbone whose columns are independent, such as GMF or LightGCN, with "
                f"column_parallel, got {type(backbone).__name__}, whose losses need whole embeddings; use ddp"
            )
        if backbone.embedding_dim % dist.get_world_size():
            raise ConfigurationError(
                f"embedding_dim: expected a multiple of {dist.get_world_size()}, the number of processes that share "
                f"its columns, got {backbone.embedding_dim}; change either of them"
            )
        table = backbone.get_parameter(TABLE)
        if table.shape[1] == backbone.embedding_dim:
            backbone.get_submodule("tables").weight = nn.Parameter(own_columns(table.detach()).clone())
        return TABLE

    def whole_rows(self, rows: Tensor) -> Tensor:
        """See `gather_columns`."""
        return gather_columns(rows)

    def sum_parts(self, partial: Tensor) -> Tensor:
        """See `sum_of_columns`."""
        return sum_of_columns(partial)

    def own_entities(self, *rows: Tensor) -> tuple[tuple[Tensor, ...], float]:
        """Every W-th row: all processes have drawn the same entities."""
        parts = [own_rows(one) for one in rows]
        return tuple(part for part, _ in parts), parts[0][1]

    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module over processes."""
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad = average(parameter.grad)

    def random_stream(self, rank: int) -> int:
        """One stream for all: processes that share columns drop the same edges."""
        del rank
        return 0

    def ranker(self, embeddings: Embeddings) -> TileRanker:
        """See `ColumnRanker`."""
        return ColumnRanker(embeddings)

    def own_users(self, batch: EvaluationBatch, ranked: Tensor) -> tuple[EvaluationBatch, Tensor]:
        """Every W-th user of a tile that all processes have ranked together."""
        count, own = dist.get_world_size(), dist.get_rank()
        seen, relevant = batch.seen_rows % count == own, batch.relevant_rows % count == own
        part = EvaluationBatch(
            batch.user_ids[own::count],
            batch.seen_rows[seen] // count,
            batch.seen_items[seen],
            batch.relevant_rows[relevant] // count,
            batch.relevant_items[relevant],
        )
        return part, ranked[own::count]


def own_columns(table: Tensor) -> Tensor:
    """This process's columns `(N, D / W)` of a table `(N, D)`."""
    return table.chunk(dist.get_world_size(), dim=1)[dist.get_rank()].contiguous()


def whole_columns(own: Tensor) -> Tensor:
    """The whole table `(N, D)`, on the CPU of the first process; on the others, their own columns as they are."""
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())] if dist.get_rank() == 0 else None
    dist.gather(own.contiguous(), parts)
    return own if parts is None else torch.cat([part.cpu() for part in parts], dim=1)


def gather_columns(own: Tensor) -> Tensor:
    """Whole rows `(N, D)` of which every process holds its columns `(N, D / W)`, on all of them; without gradient."""
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own.detach().contiguous())
    return torch.cat(parts, dim=1)


def sum_of_columns(partial: Tensor) -> Tensor:
    """Sum over processes of partial results of columns; the gradient of the sum is that of each part."""
    total: Tensor = _SumOfColumns.apply(partial)  # type: ignore[no-untyped-call]
    return total


class _SumOfColumns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, partial: Tensor) -> Tensor:  # noqa: ANN401
        del ctx
        total = partial.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        del ctx
        return gradients[0]


class ColumnRanker:
    """Ranks all items by dot product, of which every process computes its columns' part.

    All processes rank the same users together, tile by tile of the items.

    Args:
        embeddings: Own columns of users `(U, D / W)` and items `(I, D / W)`.
        tile_size: Scores that are summed over processes at once.
    """

    def __init__(self, embeddings: Embeddings, tile_size: int = 2**24) -> None:
        self._embeddings = embeddings
        self._tile_size = tile_size

    def rank(self, batch: EvaluationBatch, top_k: int) -> Tensor:
        """Best items of each user, seen items last, ties by ascending item index: see `Ranker.rank`."""
        users = F.embedding(batch.user_ids, self._embeddings.users)
        size = max(1, self._tile_size // max(1, len(users)))
        best = torch.empty(len(users), 0, dtype=torch.long, device=users.device)
        best_scores = users.new_empty(len(users), 0)
        for first, items in enumerate(self._embeddings.items.split(size)):
            scores = sum_of_columns(users @ items.T)
            places = batch.seen_items - first * size
            inside = (places >= 0) & (places < len(items))
            scores[batch.seen_rows[inside], places[inside]] = -torch.inf
            ids = torch.arange(len(items), device=users.device).expand(len(users), -1) + first * size
            best_scores, best = torch.cat([best_scores, scores], 1), torch.cat([best, ids], 1)
            kept = rank_items(best_scores, top_k)  # ids ascend among equal scores: the kept come first
            best_scores, best = best_scores.gather(1, kept), best.gather(1, kept)
        return best
