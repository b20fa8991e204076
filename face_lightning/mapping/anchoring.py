"""Lexical anchoring: supervision of descriptors by target words chosen from an entity's text."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.hardware import fast_format
from face_lightning.losses.contrastive import log_partition_function


class LexicalTargets(NamedTuple):
    """Target words of entities: tokens `(N, W)` and probabilities `(N, W)`, which are 0 for entities without text."""

    tokens: Tensor
    probabilities: Tensor

    def rows(self, entity_ids: Tensor) -> "LexicalTargets":
        """Select the targets of the given entities."""
        return LexicalTargets(self.tokens[entity_ids], self.probabilities[entity_ids])


def lexical_anchoring(
    concepts: Tensor, codes: Tensor, targets: LexicalTargets, temperature: float, num_negatives: int | None = None
) -> Tensor:
    """Cross-entropy of each slot against the target word that is matched to it.

    `L = -mean_e sum_s p_e(w_s) log softmax_{w_s}(x_{e,s} . c_w / t)`

    Each slot is matched to a different target word, as in set prediction (see `match_words`). Maximising the
    likelihood of all targets under a mixture of the slots would let a slot spread over several targets, and its
    nearest word would then often be none of them.

    Reference:
        Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, for losses on matched sets.

    Args:
        concepts: Unit concept vectors `(B, S, d)`.
        codes: Unit codes `(V, d)`; no gradient flows to them.
        targets: Target words of the entities; entities without text are excluded from the mean.
        temperature: t > 0.
        num_negatives: Number of sampled words in the softmax denominator, at least W + 1; an entity's own targets are
            always summed exactly. A new sample, shared by all entities, is drawn in each call. All words if None or
            at least V.

    Returns:
        A scalar; 0 if no entity has text.
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
    """Match slots to words greedily: the pair with the highest score first, then the next among the rest.

    Greedy matching needs no synchronisation with a GPU; optimal matching trains no faster.

    Args:
        scores: Scores of slots and words, `(B, S, W)`.

    Returns:
        Word of each slot, `(B, S)`. Words are distinct unless S > W; unmatched slots then get their best word.
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
    """Estimate `log sum_w exp(x_{b,s} . c_w / t)` over the non-target words from a sample, `(B, S)`.

    Sampled words that are targets of an entity are excluded for it. The remaining ones are a uniform sample of its
    V - W non-target words, so their sum times (V - W) / (sample size) is unbiased.
    """
    num_rows, num_slots, dim = concepts.shape
    position = torch.full((len(codes),), -1, device=codes.device)
    position[drawn] = torch.arange(len(drawn), device=codes.device)
    excluded = position[targets]
    log_sum = log_partition_function(
        concepts.reshape(-1, dim),
        codes[drawn],
        temperature,
        fast_format(codes),
        excluded=excluded.repeat_interleave(num_slots, dim=0),
    ).view(num_rows, num_slots)
    num_others = len(drawn) - (excluded >= 0).sum(1, keepdim=True)
    return log_sum + ((len(codes) - targets.shape[1]) / num_others).log()
