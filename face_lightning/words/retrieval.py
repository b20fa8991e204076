"""Retrieval test: how often the words of an entity identify it among random candidates."""

from collections.abc import Sequence

import torch
from torch import Tensor

from face_lightning.words.descriptor_encoder import DescriptorEncoder
from face_lightning.words.entity_texts import EntityTexts

CANDIDATES = (10, 20, 40, 60)


def measure_retrieval(
    descriptors: Tensor,
    encoder: DescriptorEncoder,
    texts: EntityTexts,
    limit: int,
    num_candidates: Sequence[int] = CANDIDATES,
) -> dict[str, Tensor]:
    """Measure how often words are most similar to the text of their own entity among random candidates.

    Args:
        descriptors: Descriptors of all entities `(U + I, S)`.
        encoder: Encoder of descriptors.
        texts: Texts of all entities.
        limit: Maximum number of users, and of items, in the test.
        num_candidates: Values of n, the number of candidates including the correct one.

    Returns:
        `retrieval_users@n` and `retrieval_items@n`, for each n up to the number of entities with text.
    """
    result: dict[str, Tensor] = {}
    for kind, members in retrieval_members(texts, limit).items():
        if len(members) >= min(num_candidates):
            vectors = encoder.encode(descriptors[members], members)
            accuracies = picking_accuracy(vectors, texts.vectors[members], texts.classes[members], num_candidates)
            result |= {f"retrieval_{kind}@{count}": accuracy for count, accuracy in accuracies.items()}
    return result


def retrieval_members(texts: EntityTexts, limit: int) -> dict[str, Tensor]:
    """Select the `users` and `items` with text for the retrieval test, evenly spaced if there are more than `limit`."""
    ids = torch.arange(len(texts.present), device=texts.present.device)
    found = {}
    for kind, members in (("users", ids[: texts.num_users]), ("items", ids[texts.num_users :])):
        members = members[texts.present[members]]
        found[kind] = members[:: max(1, -(-len(members) // limit))]
    return found


def picking_accuracy(
    descriptor_vectors: Tensor, text_vectors: Tensor, classes: Tensor, num_candidates: Sequence[int] = CANDIDATES
) -> dict[int, Tensor]:
    """Share of entities whose words are nearer to their own text than to those of n - 1 others drawn at random.

    If b of the other N - 1 texts are at least as near as an entity's own, its probability of being picked is
    `prod_{j < n-1} (N - 1 - b - j) / (N - 1 - j)`, so the result is the exact expectation over draws.

    Args:
        descriptor_vectors: Vectors of the words of N entities, `(N, E)`.
        text_vectors: Vectors of their texts, `(N, E)`.
        classes: Class of each entity's text, the same for identical texts, `(N,)`; an identical text is not an error.
        num_candidates: Values of n, the number of candidates including the correct one.

    Returns:
        Share for each n up to N, a float64 scalar.
    """
    better, others = num_better(descriptor_vectors, text_vectors, classes), len(descriptor_vectors) - 1
    result = {}
    for count in num_candidates:
        if count <= len(descriptor_vectors):
            draws = torch.arange(count - 1, device=better.device)
            chances = (others - better.unsqueeze(1) - draws).clamp_min(0) / (others - draws).double()
            result[count] = chances.prod(1).mean()
    return result


def num_better(queries: Tensor, keys: Tensor, classes: Tensor) -> Tensor:
    """Count for each query the keys that are at least as similar as its own, `(N,)`, except those of its class."""
    counts = []
    for begin in range(0, len(queries), 1024):
        tile = slice(begin, begin + 1024)
        scores = queries[tile] @ keys.T
        own = (queries[tile] * keys[tile]).sum(1, keepdim=True)
        other = classes[tile].unsqueeze(1) != classes
        counts.append(((scores >= own) & other).sum(1))
    return torch.cat(counts)
