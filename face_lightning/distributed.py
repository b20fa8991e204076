"""Collective operations on rows. In a single process every function returns its input."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Number of processes in the group; 1 if training is not distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Index of this process in the group."""
    return dist.get_rank() if world_size() > 1 else 0


def own_rows(rows: Tensor) -> tuple[Tensor, float]:
    """Select the rows of this process from `rows`, which are the same on all processes.

    Returns:
        Every world_size-th row `(N, ...)`, and the share of this process: N divided by its mean over processes. The
        mean over the selected rows times the share, averaged over processes, is the mean over all rows.
    """
    if world_size() == 1:
        return rows, 1.0
    own = rows[rank() :: world_size()]
    return own, len(own) * world_size() / max(1, len(rows))


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows of all processes by rank; gradients flow back to the process that holds a row.

    Args:
        rows: `(N, ...)`; only N may differ between processes.
    """
    if world_size() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


def gather_unique(ids: Tensor, most: int | None = None) -> Tensor:
    """Unique ids of all processes, ascending, `(N,)`; the same on all processes.

    Args:
        ids: Ids of this process.
        most: Maximum number of ids; if there are more, evenly spaced ones are selected, starting at an offset that
            depends on the ids.
    """
    unique: Tensor = ids.unique()
    if world_size() > 1:
        unique = gather_rows(unique).unique()
    if most is None or len(unique) <= most:
        return unique
    positions = torch.arange(most, device=ids.device) * len(unique) // most + unique.sum()
    selected: Tensor = unique[(positions % len(unique)).sort().values]
    return selected


def average(values: Tensor) -> Tensor:
    """Mean over processes of `values`, which is not modified."""
    if world_size() == 1:
        return values
    total = values.clone()
    dist.all_reduce(total)
    return total / world_size()


def largest(number: int, device: torch.device | None = None) -> int:
    """Maximum of `number` over processes."""
    if world_size() == 1:
        return number
    numbers = torch.tensor([number], device=device)
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    return int(numbers.item())


class _GatherRows(torch.autograd.Function):
    """All-gather of tensors with different lengths, by padding; the gradient is summed over processes."""

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
