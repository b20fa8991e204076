"""How often the words of an entity pick it out of random candidates."""

from collections.abc import Sequence

import torch
from torch import Tensor

CANDIDATES = (10, 20, 40, 60)


def picking_accuracy(
    spoken: Tensor, written: Tensor, classes: Tensor, num_candidates: Sequence[int] = CANDIDATES
) -> dict[int, Tensor]:
    """Share of words that are nearer to their own entity's text than to those of n - 1 others drawn at random.

    With b others at least as near as the own text, out of N - 1, an entity is picked with the probability
    `prod_{j < n-1} (N - 1 - b - j) / (N - 1 - j)`: the exact expectation over the draw, not one draw.

    Args:
        spoken: Vectors of the words of N entities, `(N, E)`.
        written: Vectors of their texts, `(N, E)`.
        classes: Entities of the same text have the same number, `(N,)`; such a text is no wrong answer.
        num_candidates: Entities to choose from, the right one among them; several n.

    Returns:
        Share for each n that is not larger than N, a float64 scalar.
    """
    better, others = num_better(spoken, written, classes), len(spoken) - 1
    result = {}
    for count in num_candidates:
        if count <= len(spoken):
            draws = torch.arange(count - 1, device=better.device)
            chances = (others - better.unsqueeze(1) - draws).clamp_min(0) / (others - draws).double()
            result[count] = chances.prod(1).mean()
    return result


def num_better(queries: Tensor, keys: Tensor, classes: Tensor) -> Tensor:
    """For each query, the number of other keys that are at least as similar as its own, `(N,)`.

    A key of the same class (the same text) is no mistake and does not count.
    """
    counts = []
    for begin in range(0, len(queries), 1024):
        tile = slice(begin, begin + 1024)
        scores = queries[tile] @ keys.T
        own = (queries[tile] * keys[tile]).sum(1, keepdim=True)
        other = classes[tile].unsqueeze(1) != classes
        counts.append(((scores >= own) & other).sum(1))
    return torch.cat(counts)
