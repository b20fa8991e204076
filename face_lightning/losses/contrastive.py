"""Contrastive losses as functions of tensors."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.hardware import fast_format

_PADDING = 128  # rows of bfloat16 matrices are padded to a multiple of this


def info_nce(
    queries: Tensor,
    keys: Tensor,
    temperature: float,
    mask: Tensor | None = None,
    symmetric: bool = False,
    positives: Tensor | None = None,
) -> Tensor:
    """InfoNCE: cross-entropy of each query's positive key among all keys.

    `L = -mean_n log( exp(q_n . k_{p_n} / t) / sum_m exp(q_n . k_m / t) )`

    Reference:
        van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018.

    Args:
        queries: Unit vectors `(N, E)`; the loss is 0 if N is 0.
        keys: Unit vectors `(M, E)`.
        temperature: t > 0.
        mask: Pairs `(N, M)` to exclude from the negatives (True = excluded), such as rows of identical texts.
            Positives are never excluded.
        symmetric: Whether to average with the loss of keys against queries; `positives` must then be a permutation.
        positives: Row of `keys` that is the positive of each query, `(N,)`; row n for query n if None.
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
    """InfoNCE of each query with all keys, computed in tiles.

    `L = -mean_n [ clamp(q_n . k_{p_n} / t, -limit, limit) - log sum_m exp(q_n . k_m / t) ]`

    With `bounded`, products are computed in bfloat16 if the device has it in hardware.

    Args:
        queries: `(N, D)`; the loss is 0 if N is 0.
        keys: `(M, D)`.
        positives: Row of `keys` that is the positive of each query, `(N,)`.
        temperature: t > 0.
        share: Factor on the loss: this process's share of the queries of all processes.
        limit: Absolute value at which the positive logit is clamped.
        excluded: Keys to exclude from the negatives of each query, `(N, X)`, padded with -1; never its positive.
        bounded: Whether all products lie in [-1, 1], as for unit vectors. The rounding error of bfloat16 grows with
            the products, so unbounded ones are computed in the dtype of the queries.
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
    """Compute `log sum_m exp(q . k_m / t)` for each query, `(N,)`, in tiles of bounded memory.

    Args:
        queries: `(N, D)`.
        keys: `(M, D)`.
        temperature: t > 0.
        number_format: Dtype of the matrix products, regardless of autocast; sums use the dtype of the queries, which
            is the default.
        tile_size: Maximum number of scores held at once; 2^22 in float32 are 16 MiB.
        kept_size: Maximum number of softmax weights `(N, M)` kept for the backward pass; 2^25 in bfloat16 are 64 MiB.
            If there are more, the backward pass recomputes them tile by tile.
        excluded: Keys to exclude from the sum of each query, `(N, X)` with X < M, padded with -1.
    """
    dtype = number_format or queries.dtype
    result: Tensor = _LogPartition.apply(  # type: ignore[no-untyped-call]
        queries, keys, temperature, dtype, tile_size, kept_size, excluded
    )
    return result


class _LogPartition(torch.autograd.Function):
    """Tiled log-sum-exp with a custom gradient.

    The gradient of a query is the expected key under its softmax, so the forward pass computes it along with the
    result. The gradient of the keys depends on the gradient of the result and takes a second pass over the tiles, for
    which the softmax weights are kept unless they are too large.
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
        padded_queries, padded_keys = _cast_and_pad(queries / temperature, dtype), _cast_and_pad(keys, dtype)
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
                scores = _compute_scores(padded_queries[tile], padded_keys, len(keys), queries.dtype)
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
        scaled = _cast_and_pad(queries * scale, padded_keys.dtype)
        with torch.autocast(queries.device.type, enabled=False):
            for index, begin in enumerate(range(0, len(scaled), ctx.rows)):
                tile = slice(begin, begin + ctx.rows)
                if kept:
                    weights = kept[index]
                else:
                    scores = _compute_scores(padded_queries[tile], padded_keys, ctx.num_keys, queries.dtype)
                    if ctx.excluded is not None:
                        _exclude(scores, ctx.excluded[tile])
                    weights = scores.sub_(log_partition[tile, None]).exp_().to(padded_keys.dtype)
                to_keys += weights.T @ scaled[tile]
        return to_queries, to_keys[: ctx.num_keys], *(None,) * 5


def unit_vectors(vectors: Tensor) -> Tensor:
    """Normalise rows of `(N, D)` to unit length: `F.normalize` with a backward pass that is three times cheaper."""
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


def _cast_and_pad(vectors: Tensor, number_format: torch.dtype) -> Tensor:
    """Cast vectors and zero-pad them to a multiple of 128 rows; return them unchanged if they have the dtype already.

    oneDNN compiles and caches a kernel for each shape of a bfloat16 product. Without padding, the varying number of
    unique nodes per batch would fill gigabytes with kernels.
    """
    if vectors.dtype == number_format:
        return vectors
    return F.pad(vectors.to(number_format), (0, 0, 0, -len(vectors) % _PADDING))


def _compute_scores(queries: Tensor, keys: Tensor, num_keys: int, number_format: torch.dtype) -> Tensor:
    """Compute scores of padded queries and keys; the padding after the first `num_keys` keys scores -inf."""
    scores = (queries @ keys.T).to(number_format)
    scores[:, num_keys:] = -torch.inf
    return scores


def _exclude(scores: Tensor, excluded: Tensor) -> None:
    """Set the scores `(N, M)` of excluded keys `(<= N, X)`, padded with -1, to -inf in place."""
    rows, columns = (excluded >= 0).nonzero(as_tuple=True)
    scores[rows, excluded[rows, columns]] = -torch.inf
