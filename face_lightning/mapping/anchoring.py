"""Lexical anchoring: words near an entity's summary as soft targets for its descriptors."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class LexicalTargets(NamedTuple):
    """Target words of entities: tokens `(N, W)` and probabilities `(N, W)`, zero where there is no text."""

    tokens: Tensor
    probabilities: Tensor

    def rows(self, entity_ids: Tensor) -> "LexicalTargets":
        """Targets of some entities."""
        return LexicalTargets(self.tokens[entity_ids], self.probabilities[entity_ids])


def lexical_anchoring(
    concepts: Tensor, codes: Tensor, targets: LexicalTargets, temperature: float, num_negatives: int | None = None
) -> Tensor:
    """Cross-entropy of an entity's target words against the mixture of its slots' word distributions.

    `L = -mean_e sum_w p_e(w) log( 1/S sum_s softmax_w(x_{e,s} . c_w / t) )`

    Args:
        concepts: Unit concept vectors `(B, S, d)`.
        codes: Unit codes `(V, d)`; no gradient flows to them.
        targets: Target words of the entities; those without text are left out of the mean.
        temperature: t > 0.
        num_negatives: Words that estimate the softmax's denominator besides an entity's own targets, drawn
            anew in each call for all entities together; all words if null or not less than V.

    Returns:
        A scalar; 0 where no entity has text.
    """
    num_rows, num_slots, dim = concepts.shape
    codes, flat = codes.detach(), concepts.reshape(-1, dim)
    logits = torch.einsum("bsd,bwd->bsw", concepts, F.embedding(targets.tokens, codes)) / temperature
    if num_negatives is None or num_negatives >= len(codes):
        log_partition = log_partition_function(flat, codes, temperature).view(num_rows, num_slots)
    else:
        drawn = torch.randperm(len(codes), device=codes.device)[:num_negatives]
        sampled = log_partition_function(flat, codes[drawn], temperature).view(num_rows, num_slots)
        others = sampled + math.log(len(codes) / num_negatives)
        log_partition = torch.logaddexp(others, logits.logsumexp(-1))
    log_mixture = torch.logsumexp(logits - log_partition.unsqueeze(-1), dim=1) - math.log(num_slots)
    has_text = targets.probabilities.sum(1) > 0
    return -(targets.probabilities * log_mixture).sum() / has_text.sum().clamp_min(1)


def log_partition_function(queries: Tensor, codes: Tensor, temperature: float, tile_size: int = 2**21) -> Tensor:
    """`log sum_v exp(q . c_v / t)` for every query, `(N,)`, with a gradient to the queries alone.

    The gradient, the expected code under the softmax over t, is gathered in the forward pass, tile by
    tile, so that `(N, V)` scores are never held: a tile of them stays in the processor's cache.

    Args:
        queries: `(N, d)`.
        codes: `(V, d)`.
        temperature: t > 0.
        tile_size: Scores held at once, in numbers; 2^21 are 8 MiB.
    """
    result: Tensor = _LogPartition.apply(queries, codes, temperature, tile_size)  # type: ignore[no-untyped-call]
    return result


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, codes: Tensor, temperature: float, tile_size: int) -> Tensor:  # noqa: ANN401
        rows = max(1, tile_size // len(codes))
        log_partition = queries.new_empty(len(queries))
        expected = torch.empty_like(queries)
        for begin in range(0, len(queries), rows):
            tile = slice(begin, begin + rows)
            scores = (queries[tile] @ codes.T).div_(temperature)
            top = scores.max(dim=1, keepdim=True).values
            weights = scores.sub_(top).exp_()
            total = weights.sum(dim=1, keepdim=True)
            log_partition[tile] = (top + total.log()).squeeze(1)
            expected[tile] = (weights @ codes).div_(total)
        ctx.save_for_backward(expected)
        ctx.temperature = temperature
        return log_partition

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (expected,) = ctx.saved_tensors
        return expected * (gradients[0].unsqueeze(1) / ctx.temperature), None, None, None
