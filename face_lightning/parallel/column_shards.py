"""Column parallelism: the columns of tables are sharded, where data parallelism shards the rows of a batch.

Each of W processes holds D / W columns of every node's embedding and of its optimizer state. Propagation treats columns
independently, so it needs no communication. A score is a sum over columns, so only the partial dot products of a batch,
or of a tile of the catalogue, are summed over processes.
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
    """Each of W processes holds D / W columns of every row, and all process the same batch."""

    is_sharded: ClassVar[bool] = True

    def keep_own_part(self, backbone: Backbone) -> str:
        """Replace the backbone's table by the columns of this process, unless this was done before.

        Raises:
            ConfigurationError: If the backbone's columns depend on each other, or cannot be divided evenly.
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
        """Select every W-th row, as all processes have sampled the same entities."""
        parts = [own_rows(one) for one in rows]
        return tuple(part for part, _ in parts), parts[0][1]

    def average_gradients(self, module: nn.Module) -> None:
        """Average the gradients of a module over processes."""
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad = average(parameter.grad)

    def random_stream(self, rank: int) -> int:
        """One stream for all processes, which must drop the same edges."""
        del rank
        return 0

    def ranker(self, embeddings: Embeddings) -> TileRanker:
        """See `ColumnRanker`."""
        return ColumnRanker(embeddings)

    def own_users(self, batch: EvaluationBatch, ranked: Tensor) -> tuple[EvaluationBatch, Tensor]:
        """Select every W-th user of a tile, as all processes have ranked the same users."""
        count, own = dist.get_world_size(), dist.get_rank()
        own_seen, own_relevant = batch.seen_rows % count == own, batch.relevant_rows % count == own
        part = EvaluationBatch(
            batch.user_ids[own::count],
            batch.seen_rows[own_seen] // count,
            batch.seen_items[own_seen],
            batch.relevant_rows[own_relevant] // count,
            batch.relevant_items[own_relevant],
        )
        return part, ranked[own::count]


def own_columns(table: Tensor) -> Tensor:
    """Columns `(N, D / W)` of this process from a table `(N, D)`."""
    return table.chunk(dist.get_world_size(), dim=1)[dist.get_rank()].contiguous()


def whole_columns(own: Tensor) -> Tensor:
    """Gather the full table `(N, D)` to the CPU of rank 0; other ranks return their own columns unchanged."""
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())] if dist.get_rank() == 0 else None
    dist.gather(own.contiguous(), parts)
    return own if parts is None else torch.cat([part.cpu() for part in parts], dim=1)


def gather_columns(own: Tensor) -> Tensor:
    """All-gather full rows `(N, D)` from the columns `(N, D / W)` of each process, without gradient."""
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own.detach().contiguous())
    return torch.cat(parts, dim=1)


def sum_of_columns(partial: Tensor) -> Tensor:
    """Sum partial results over processes; the gradient of the sum is passed on to each part."""
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
    """Ranks all items by dot products, each process computing the partial products of its columns.

    All processes rank the same users together, in tiles of items.

    Args:
        embeddings: Columns of this process for users `(U, D / W)` and items `(I, D / W)`.
        tile_size: Number of scores that are summed over processes at once.
    """

    def __init__(self, embeddings: Embeddings, tile_size: int = 2**24) -> None:
        self._embeddings = embeddings
        self._tile_size = tile_size

    def rank(self, batch: EvaluationBatch, top_k: int) -> Tensor:
        """Top-k items of each user, seen items last, ties by ascending item index: see `Ranker.rank`."""
        users = F.embedding(batch.user_ids, self._embeddings.users)
        size = max(1, self._tile_size // max(1, len(users)))
        best = torch.empty(len(users), 0, dtype=torch.long, device=users.device)
        best_scores = users.new_empty(len(users), 0)
        for first, items in enumerate(self._embeddings.items.split(size)):
            scores = sum_of_columns(users @ items.T)
            columns = batch.seen_items - first * size
            in_tile = (columns >= 0) & (columns < len(items))
            scores[batch.seen_rows[in_tile], columns[in_tile]] = -torch.inf
            ids = torch.arange(len(items), device=users.device).expand(len(users), -1) + first * size
            best_scores, best = torch.cat([best_scores, scores], 1), torch.cat([best, ids], 1)
            order = rank_items(best_scores, top_k)  # ties go to earlier columns, which hold the lower ids
            best_scores, best = best_scores.gather(1, order), best.gather(1, order)
        return best
