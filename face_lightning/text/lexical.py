"""Geometry of words: a whitened codebook, and which words a text speaks of."""

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import ConfigurationError

_TILE = 2**24  # numbers in one block of similarities: 64 MiB


def whiten(token_embeddings: Tensor, dim: int) -> Tensor:
    """Turn token embeddings into well-spread unit vectors.

    The common mean is taken away, the `dim` leading principal directions are scaled to equal variance, and
    rows are brought to unit length. Computed in float64 with a fixed sign, so that it is the same
    everywhere: the largest component of each direction is positive.

    Args:
        token_embeddings: `(V, T)`.
        dim: Number of directions to keep.

    Returns:
        `(V, dim)` in float32.

    Raises:
        ConfigurationError: If `dim` is not in 1..min(V, T).
    """
    limit = min(token_embeddings.shape)
    if not 1 <= dim <= limit:
        shape = tuple(token_embeddings.shape)
        raise ConfigurationError(
            f"dim: expected 1 to {limit} for a table of shape {shape}, got {dim}; take a smaller one"
        )
    centred = token_embeddings.double() - token_embeddings.double().mean(0)
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    variances, directions = variances.flip(0)[:dim], directions.flip(1)[:, :dim]
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    directions = directions * torch.sign(largest)
    # Directions in which nothing varies hold rounding errors only: they stay zero.
    varied = variances > variances[0] * 1e-12
    scales = torch.where(varied, variances.clamp_min(torch.finfo(torch.float64).tiny).rsqrt(), 0.0)
    return F.normalize(centred @ (directions * scales), dim=1).float()


def lexical_targets(
    text_vectors: Tensor, word_vectors: Tensor, top_k: int = 32, temperature: float = 0.05
) -> tuple[Tensor, Tensor]:
    """Find the words that each entity's text speaks of, as a distribution over words.

    Texts and words are centred, each by its own mean, and brought to unit length; an entity's words are
    the `top_k` most similar ones, with the probabilities `softmax(cosine / temperature)`.

    Args:
        text_vectors: Sentence vectors of N texts, `(N, E)`; rows of missing texts are NaN.
        word_vectors: Sentence vectors of the V words, `(V, E)`.
        top_k: Number of words an entity, K.
        temperature: Divisor of the similarities; small values favour the nearest words.

    Returns:
        Rows of `word_vectors`, `(N, K)` in int64, most similar first, and their probabilities `(N, K)` in
        float32. A missing text has probability zero for every word.

    Raises:
        ConfigurationError: If `top_k` is not in 1..V or `temperature` is not positive.
    """
    if not 1 <= top_k <= len(word_vectors):
        raise ConfigurationError(
            f"top_k: expected 1 to {len(word_vectors)}, the number of words, got {top_k}; take fewer words"
        )
    if temperature <= 0:
        raise ConfigurationError(f"temperature: expected a positive number, got {temperature}; try 0.05")
    words = F.normalize(word_vectors - word_vectors.mean(0), dim=1)
    present = text_vectors.isfinite().all(dim=1)
    mean = text_vectors[present].mean(0) if bool(present.any()) else 0.0
    texts = F.normalize(torch.where(present[:, None], text_vectors - mean, 0.0), dim=1)
    indices = torch.empty(len(texts), top_k, dtype=torch.long, device=texts.device)
    probabilities = torch.empty(len(texts), top_k, dtype=torch.float32, device=texts.device)
    step = max(1, _TILE // len(words))
    for start in range(0, len(texts), step):
        rows = slice(start, start + step)
        similarity, indices[rows] = (texts[rows] @ words.T).topk(top_k, dim=1)
        probabilities[rows] = torch.softmax(similarity / temperature, dim=1)
    return indices, probabilities * present[:, None]
