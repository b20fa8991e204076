"""Which words a text speaks of."""

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import ConfigurationError

_TILE = 2**24  # numbers in one block of similarities: 64 MiB


def lexical_targets(
    text_vectors: Tensor,
    word_vectors: Tensor,
    top_k: int = 32,
    temperature: float = 0.05,
    max_similarity: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Find the words that each entity's text speaks of, as a distribution over words.

    Texts and words are centred, each by its own mean, and brought to unit length; an entity's words are
    the `top_k` most similar ones, with the probabilities `softmax(cosine / temperature)`. Centring is what
    keeps a few general words from being near to every text.

    Args:
        text_vectors: Sentence vectors of N texts, `(N, E)`; rows of missing texts are NaN.
        word_vectors: Sentence vectors of the V words, `(V, E)`.
        top_k: Number of words an entity, K.
        temperature: Divisor of the similarities; small values favour the nearest words.
        max_similarity: Cosine above which a word repeats a nearer word of the same entity ("crimes",
            "criminal" beside "crime") and is passed over for the next one among the 2 K nearest; 1 keeps
            all.

    Returns:
        Rows of `word_vectors`, `(N, K)` in int64, most similar first, and their probabilities `(N, K)` in
        float32. A missing text has probability zero for every word. So have repeated words, which come
        last where the 2 K nearest do not hold K others.

    Raises:
        ConfigurationError: If `top_k` is not in 1..V, or `temperature` or `max_similarity` not positive.

    Note:
        Measured on the film summaries of MovieLens-100K with 9,474 words of all-MiniLM-L6-v2: 16 words a
        film without centring pick their film from all 1,681 in 72 % of cases and use 2,857 words, with
        centring in 90 % and 6,812 words; 2 of the 16 are inflections of others. `max_similarity=0.6` leaves
        none of these and picks the film in 94 %. Marginal relevance reached 99 %, but with words that
        no reader would connect with the film.
    """
    if not 1 <= top_k <= len(word_vectors):
        raise ConfigurationError(
            f"top_k: expected 1 to {len(word_vectors)}, the number of words, got {top_k}; take fewer words"
        )
    for name, value in {"temperature": temperature, "max_similarity": max_similarity}.items():
        if value <= 0:
            raise ConfigurationError(f"{name}: expected a positive number, got {value}; take the default")
    words = F.normalize(word_vectors - word_vectors.mean(0), dim=1)
    texts, present = _centred_texts(text_vectors)
    pool = top_k if max_similarity >= 1 else min(2 * top_k, len(words))
    step = max(1, _TILE // max(len(words), pool * words.shape[1]))
    tiles = [_nearest(tile, words, top_k, pool, max_similarity) for tile in texts.split(step)]
    indices, cosine = (torch.cat(parts) for parts in zip(*tiles, strict=True))
    return indices, torch.softmax(cosine / temperature, dim=1, dtype=torch.float32) * present[:, None]


def _centred_texts(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit vectors of texts around their mean, zeros for the missing ones, and which are there, `(N,)`."""
    present = vectors.isfinite().all(dim=1)
    mean = vectors[present].mean(0) if bool(present.any()) else 0.0
    return F.normalize(torch.where(present[:, None], vectors - mean, 0.0), dim=1), present


def _nearest(texts: Tensor, words: Tensor, top_k: int, pool: int, max_similarity: float) -> tuple[Tensor, Tensor]:
    """Return the words of a tile of texts and their cosines, `(N, K)`; that of a repeated word is -infinity."""
    cosine, nearest = (texts @ words.T).topk(pool, dim=1)
    if pool == top_k:
        return nearest, cosine
    repeated = _repeated(words[nearest], max_similarity)
    order = torch.argsort(repeated.long(), dim=1, stable=True)[:, :top_k]
    return nearest.gather(1, order), cosine.masked_fill(repeated, -torch.inf).gather(1, order)


def _repeated(words: Tensor, max_similarity: float) -> Tensor:
    """Mark in each row of words `(N, P, E)` those too similar to an earlier one that is kept, `(N, P)`."""
    alike = (words @ words.mT > max_similarity).tril(-1).float()
    kept = torch.ones(words.shape[:2], device=words.device)
    for place in range(1, words.shape[1]):
        kept[:, place] = 1 - (alike[:, place] * kept).amax(dim=1)
    return kept == 0
