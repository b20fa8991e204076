"""Lexical anchoring: supervision of descriptors by words that together say what an entity's text says."""

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
    """Cross-entropy of each slot against the target word that is matched to it.

    `L = -mean_e sum_s p_e(w_s) log softmax_{w_s}(x_{e,s} . c_w / t)`

    Every slot has a word of its own, as in set prediction: see `match_words`. The likelihood of all targets under a
    mixture of the slots instead lets a slot spread over several targets, and the word nearest to it is then often none
    of them.

    Reference:
        Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, for losses on matched sets.

    Args:
        concepts: Unit concept vectors `(B, S, d)`.
        codes: Unit codes `(V, d)`; no gradient flows to them.
        targets: Target words of the entities; those without text are left out of the mean.
        temperature: t > 0.
        num_negatives: Words that estimate the rest of the softmax's denominator besides an entity's own targets, which
            are summed exactly. They are drawn anew in each call for all entities together; all words if null or not
            less than V, and at least W + 1.

    Returns:
        A scalar; 0 where no entity has text.
    """
    num_rows, num_slots, dim = concepts.shape
    codes, flat = codes.detach(), concepts.reshape(-1, dim)
    logits = torch.einsum("bsd,bwd->bsw", concepts, F.embedding(targets.tokens, codes)) / temperature
    if num_negatives is None or num_negatives >= len(codes):
        log_partition = log_partition_function(flat, codes, temperature, fast_format(codes)).view(num_rows, num_slots)
    else:
        drawn = torch.randperm(len(codes), device=codes.device)[: max(num_negatives, targets.tokens.shape[1] + 1)]
        others = _log_partition_of_others(concepts, codes, targets.tokens, temperature, drawn)
        log_partition = torch.logaddexp(others, logits.logsumexp(-1))
    matched = match_words(logits.detach())
    log_likelihood = logits.gather(2, matched.unsqueeze(2)).squeeze(2) - log_partition
    has_text = targets.probabilities.sum(1) > 0
    return -(targets.probabilities.gather(1, matched) * log_likelihood).sum() / has_text.sum().clamp_min(1)


def match_words(scores: Tensor) -> Tensor:
    """Which word each slot is matched to: the pair of the highest score first, then the highest of what is left.

    It is greedy, so that it needs no wait for a GPU's result; a match of the highest total score learns as fast.

    Args:
        scores: Of slots and words, `(B, S, W)`.

    Returns:
        Words `(B, S)`, no word twice unless S > W: the slots that are left then have their best one.
    """
    matched, left = scores.argmax(2), scores.clone()
    rows = torch.arange(len(scores), device=scores.device)
    for _ in range(min(scores.shape[1:])):
        best = left.flatten(1).argmax(1)
        slots, words = best // scores.shape[2], best % scores.shape[2]
        matched[rows, slots] = words
        left[rows, slots] = -torch.inf
        left[rows, :, words] = -torch.inf
    return matched


def _log_partition_of_others(
    concepts: Tensor, codes: Tensor, targets: Tensor, temperature: float, drawn: Tensor
) -> Tensor:
    """`log sum_w exp(x_{b,s} . c_w / t)` over the words that are no targets, estimated from drawn ones `(B, S)`.

    Drawn words that are targets of the entity do not count for it. The others are a uniform sample of the V - W words
    that are no targets, so that their sum times (V - W) / (number of them) is unbiased.
    """
    num_rows, num_slots, dim = concepts.shape
    place = torch.full((len(codes),), -1, device=codes.device)
    place[drawn] = torch.arange(len(drawn), device=codes.device)
    excluded = place[targets]
    log_sum = log_partition_function(
        concepts.reshape(-1, dim),
        codes[drawn],
        temperature,
        fast_format(codes),
        excluded=excluded.repeat_interleave(num_slots, dim=0),
    ).view(num_rows, num_slots)
    num_others = len(drawn) - (excluded >= 0).sum(1, keepdim=True)
    return log_sum + ((len(codes) - targets.shape[1]) / num_others).log()
