"""How often the words of an entity pick it out of random candidates."""

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
    """How often words pick their own entity out of random candidates of its kind, by the similarity to its text.

    Args:
        descriptors: Descriptors of all entities `(U + I, S)`.
        encoder: Encoder of descriptors.
        texts: Texts of all entities.
        limit: Maximum number of users, and of items, that take part.
        num_candidates: Entities to choose from, the right one among them; several n.

    Returns:
        `retrieval_users@n` and `retrieval_items@n`, where there are enough entities with text.
    """
    result: dict[str, Tensor] = {}
    for kind, members in retrieval_members(texts, limit).items():
        if len(members) >= min(num_candidates):
            vectors = encoder.encode(descriptors[members], members)
            picked = picking_accuracy(vectors, texts.vectors[members], texts.classes[members], num_candidates)
            result |= {f"retrieval_{kind}@{count}": share for count, share in picked.items()}
    return result


def retrieval_members(texts: EntityTexts, limit: int) -> dict[str, Tensor]:
    """Ids of the `users` and `items` with text that take part in the retrieval test, evenly spaced if they are many."""
    ids = torch.arange(len(texts.present), device=texts.present.device)
    found = {}
    for kind, members in (("users", ids[: texts.num_users]), ("items", ids[texts.num_users :])):
        members = members[texts.present[members]]
        found[kind] = members[:: max(1, -(-len(members) // limit))]
    return found


def picking_accuracy(
    descriptor_vectors: Tensor, text_vectors: Tensor, classes: Tensor, num_candidates: Sequence[int] = CANDIDATES
) -> dict[int, Tensor]:
    """Share of words that are nearer to their own entity's text than to those of n - 1 others drawn at random.

    With b others at least as near as the own text, out of N - 1, an entity is picked with the probability
    `prod_{j < n-1} (N - 1 - b - j) / (N - 1 - j)`: the exact expectation over the draw, not one draw.

    Args:
        descriptor_vectors: Vectors of the words of N entities, `(N, E)`.
        text_vectors: Vectors of their texts, `(N, E)`.
        classes: Entities of the same text have the same number, `(N,)`; such a text is no wrong answer.
        num_candidates: Entities to choose from, the right one among them; several n.

    Returns:
        Share for each n that is not larger than N, a float64 scalar.
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
