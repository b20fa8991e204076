"""Lexical anchoring: words that together say what an entity's summary says, as targets for its descriptors."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.hardware import fast_format
from face_lightning.losses.contrastive import log_partition_function


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
    fast = fast_format(codes)
    if num_negatives is None or num_negatives >= len(codes):
        log_partition = log_partition_function(flat, codes, temperature, fast).view(num_rows, num_slots)
    else:
        drawn = torch.randperm(len(codes), device=codes.device)[:num_negatives]
        sampled = log_partition_function(flat, codes[drawn], temperature, fast).view(num_rows, num_slots)
        others = sampled + math.log(len(codes) / num_negatives)
        log_partition = torch.logaddexp(others, logits.logsumexp(-1))
    log_mixture = torch.logsumexp(logits - log_partition.unsqueeze(-1), dim=1) - math.log(num_slots)
    has_text = targets.probabilities.sum(1) > 0
    return -(targets.probabilities * log_mixture).sum() / has_text.sum().clamp_min(1)
