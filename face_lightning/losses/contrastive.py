"""Contrastive losses: tensors in, a scalar out. No module, no weight, no logging."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.hardware import fast_format

_PADDING = 128


def info_nce(
    queries: Tensor,
    keys: Tensor,
    temperature: float,
    mask: Tensor | None = None,
    symmetric: bool = False,
    positives: Tensor | None = None,
) -> Tensor:
    """Contrast of each row of `queries` with its own row of `keys` against all other rows.

    `L = -mean_n log( exp(q_n . k_{p_n} / t) / sum_m exp(q_n . k_m / t) )`

    Reference:
        van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018.

    Args:
        queries: Unit vectors `(N, E)`; the loss of none is 0.
        keys: Unit vectors `(M, E)`.
        temperature: t > 0.
        mask: Pairs `(N, M)` that must not count as negatives (True = left out), such as two rows of the
            same text. A query's own key is never left out.
        symmetric: Whether to average with the contrast of keys against queries; `positives` is a permutation then.
        positives: Row of `keys` that belongs to each query, `(N,)`; row n to query n where left out.
    """
    logits = queries @ keys.T / temperature
    rows = torch.arange(len(queries), device=logits.device)
    if positives is None:
        positives = rows
    if mask is not None:
        mask = mask.clone()
        mask[rows, positives] = False
        logits = logits.masked_fill(mask, -torch.inf)
    loss = F.cross_entropy(logits, positives, reduction="sum") / max(1, len(queries))
    return (loss + F.cross_entropy(logits.T, positives.argsort())) / 2 if symmetric else loss


def contrast_with_all(
    queries: Tensor,
    keys: Tensor,
    positives: Tensor,
    temperature: float,
    share: float = 1.0,
    limit: float = math.inf,
    excluded: Tensor | None = None,
    bounded: bool = True,
) -> Tensor:
    """Contrast of each query with its own key against every key there is, in tiles.

    `L = -mean_n [ clamp(q_n . k_{p_n} / t, -limit, limit) - log sum_m exp(q_n . k_m / t) ]`

    Bounded products are computed in bfloat16 where the device has it in hardware.

    Args:
        queries: `(N, D)`; the loss of none is 0.
        keys: `(M, D)`.
        positives: Row of `keys` that belongs to each query, `(N,)`.
        temperature: t > 0.
        share: Factor of the loss: this process's share of the queries of all processes.
        limit: Size of a pair's agreement beyond which it neither earns nor costs more.
        excluded: Keys that are no negatives of each query, `(N, X)`, padded with -1; never its own key.
        bounded: Whether all products are within [-1, 1], as those of unit vectors are. The rounding of bfloat16 grows
            with them, so others keep the queries' format.
    """
    agreement = ((queries * F.embedding(positives, keys)).sum(-1) / temperature).clamp(-limit, limit)
    number_format = fast_format(queries) if bounded else queries.dtype
    partition = log_partition_function(queries, keys, temperature, number_format, excluded=excluded)
    total = (partition - agreement).sum()
    return total * (share / max(1, len(queries)))


def log_partition_function(
    queries: Tensor,
    keys: Tensor,
    temperature: float,
    number_format: torch.dtype | None = None,
    tile_size: int = 2**22,
    kept_size: int = 2**25,
    excluded: Tensor | None = None,
) -> Tensor:
    """`log sum_m exp(q . k_m / t)` for every query, `(N,)`, without ever holding more scores than stated.

    Args:
        queries: `(N, D)`.
        keys: `(M, D)`.
        temperature: t > 0.
        number_format: Format that products are computed in, whatever autocast says; sums stay in that of the
            queries, which is the default.
        tile_size: Scores held at once, in numbers; 2^22 in float32 are 16 MiB.
        kept_size: Weights `(N, M)` held for the way back, in numbers; 2^25 in bfloat16 are 64 MiB. Where there are
            more, the way back computes them again, tile by tile.
        excluded: Keys that are left out of the sum of each query, `(N, X)` with X < M, padded with -1.
    """
    dtype = number_format or queries.dtype
    result: Tensor = _LogPartition.apply(  # type: ignore[no-untyped-call]
        queries, keys, temperature, dtype, tile_size, kept_size, excluded
    )
    return result


class _LogPartition(torch.autograd.Function):
    """The gradient to a query is the expected key under its softmax, so one pass over tiles gives both.

    The gradient to the keys needs the gradient of the result, and with it a second pass over the tiles; their weights
    are kept for it, unless they are too many.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        queries: Tensor,
        keys: Tensor,
        temperature: float,
        dtype: torch.dtype,
        tile_size: int,
        kept_size: int,
        excluded: Tensor | None,
    ) -> Tensor:
        padded_queries, padded_keys = _rounded(queries / temperature, dtype), _rounded(keys, dtype)
        rows = max(1, tile_size // len(keys))
        if rows > _PADDING:
            rows -= rows % _PADDING
        log_partition = queries.new_empty(len(padded_queries))
        expected = queries.new_empty(padded_queries.shape)
        keep = ctx.needs_input_grad[1] and len(padded_queries) * len(padded_keys) <= kept_size
        kept = []
        with torch.autocast(queries.device.type, enabled=False):
            for begin in range(0, len(padded_queries), rows):
                tile = slice(begin, begin + rows)
                scores = _products(padded_queries[tile], padded_keys, len(keys), queries.dtype)
                any_key = scores.new_zeros(len(scores), 1, dtype=torch.long)
                if excluded is not None:
                    _exclude(scores, excluded[tile])
                    any_key = (scores[:, : excluded.shape[1] + 1] > -torch.inf).int().argmax(1, keepdim=True)
                logarithms = scores.log_softmax(1)
                log_partition[tile] = (scores.gather(1, any_key) - logarithms.gather(1, any_key)).squeeze(1)
                weights = logarithms.exp_().to(dtype)
                expected[tile] = weights @ padded_keys
                if keep:
                    kept.append(weights)
        ctx.save_for_backward(queries, padded_queries, padded_keys, expected[: len(queries)], log_partition, *kept)
        ctx.excluded = excluded
        ctx.temperature, ctx.rows, ctx.num_keys = temperature, rows, len(keys)
        return log_partition[: len(queries)].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        queries, padded_queries, padded_keys, expected, log_partition, *kept = ctx.saved_tensors
        scale = gradients[0].unsqueeze(1) / ctx.temperature
        to_queries = expected * scale if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_queries, *(None,) * 6
        to_keys = queries.new_zeros(padded_keys.shape)
        scaled = _rounded(queries * scale, padded_keys.dtype)
        with torch.autocast(queries.device.type, enabled=False):
            for number, begin in enumerate(range(0, len(scaled), ctx.rows)):
                tile = slice(begin, begin + ctx.rows)
                if kept:
                    weights = kept[number]
                else:
                    scores = _products(padded_queries[tile], padded_keys, ctx.num_keys, queries.dtype)
                    if ctx.excluded is not None:
                        _exclude(scores, ctx.excluded[tile])
                    weights = scores.sub_(log_partition[tile, None]).exp_().to(padded_keys.dtype)
                to_keys += weights.T @ scaled[tile]
        return to_queries, to_keys[: ctx.num_keys], *(None,) * 5


def unit_vectors(vectors: Tensor) -> Tensor:
    """Rows of `(N, D)` divided by their lengths; `F.normalize` with a gradient of three passes instead of nine."""
    result: Tensor = _UnitVectors.apply(vectors)  # type: ignore[no-untyped-call]
    return result


class _UnitVectors(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:  # noqa: ANN401
        lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True).clamp_min_(1e-12)
        unit: Tensor = vectors / lengths
        ctx.save_for_backward(unit, lengths)
        return unit

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        unit, lengths = ctx.saved_tensors
        along = torch.linalg.vecdot(gradients[0], unit).unsqueeze(1)
        gradient: Tensor = torch.addcmul(gradients[0], unit, along, value=-1).div_(lengths)
        return gradient


def _rounded(vectors: Tensor, number_format: torch.dtype) -> Tensor:
    """Vectors in another format, zeros behind them up to a multiple of 128 rows; themselves in their own.

    oneDNN prepares code for every shape of a bfloat16 product that it meets, and keeps it: as many shapes as
    there are numbers of unique nodes in a batch would fill gigabytes.
    """
    if vectors.dtype == number_format:
        return vectors
    return F.pad(vectors.to(number_format), (0, 0, 0, -len(vectors) % _PADDING))


def _products(queries: Tensor, keys: Tensor, num_keys: int, number_format: torch.dtype) -> Tensor:
    """Scores of `queries` and `keys` that `_rounded` made; keys after the first `num_keys` are out of the running."""
    scores = (queries @ keys.T).to(number_format)
    scores[:, num_keys:] = -torch.inf
    return scores


def _exclude(scores: Tensor, excluded: Tensor) -> None:
    """Put the scores `(N, M)` of excluded keys `(<= N, X)`, padded with -1, out of the running, in place."""
    rows, places = (excluded >= 0).nonzero(as_tuple=True)
    scores[rows, excluded[rows, places]] = -torch.inf
