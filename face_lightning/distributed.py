"""Collectives over rows. In a single process every function returns its input."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process among them."""
    return dist.get_rank() if world_size() > 1 else 0


def own_rows(rows: Tensor) -> tuple[Tensor, float]:
    """The rows that this process works on, of `rows` that all processes know, and its share.

    Returns:
        Every world_size-th row `(N, ...)`, and N in units of the mean over processes: a mean over the own
        rows times the share, averaged over processes, is the mean over all rows.
    """
    if world_size() == 1:
        return rows, 1.0
    own = rows[rank() :: world_size()]
    return own, len(own) * world_size() / max(1, len(rows))


def gather_rows(rows: Tensor) -> Tensor:
    """Rows of all processes, those of rank 0 first; gradients flow back to the process that holds a row.

    Args:
        rows: `(N, ...)`; N may differ between processes, other dimensions not.
    """
    if world_size() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def gather_unique(ids: Tensor, most: int | None = None) -> Tensor:
    """All ids that any process holds, each once, ascending, `(N,)`; the same on all processes.

    Args:
        ids: Ids of this process.
        most: If there are more, as many are chosen at even distances, from a start that depends on the ids.
    """
    unique: Tensor = ids.unique()
    if world_size() > 1:
        unique = gather_rows(unique).unique()
    if most is None or len(unique) <= most:
        return unique
    places = torch.arange(most, device=ids.device) * len(unique) // most + unique.sum()
    chosen: Tensor = unique[(places % len(unique)).sort().values]
    return chosen


def average(values: Tensor) -> Tensor:
    """Mean over processes of `values`, which is not modified."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def largest(number: int, device: torch.device | None = None) -> int:
    """The largest `number` of all processes; a collective operation."""
    if world_size() == 1:
        return number
    numbers = torch.tensor([number], device=device)
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    return int(numbers.item())


class _GatherRows(torch.autograd.Function):
    """An all-gather of unequal lengths by way of padding, whose gradient is summed over processes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ANN401
        lengths = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(world_size())]
        dist.all_gather(lengths, torch.tensor([len(rows)], device=rows.device))
        counts = [int(length) for length in lengths]
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        first = sum(counts[: rank()])
        ctx.own = slice(first, first + len(rows))
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total[ctx.own]
