"""Target words of a text: those that together say what it says."""

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import ConfigurationError
from face_lightning.mapping.search import num_sufficient
from face_lightning.words.centering import center

_TILE = 2**24  # numbers in one block of similarities: 64 MiB


def lexical_targets(
    text_vectors: Tensor, word_vectors: Tensor, top_k: int = 16, pool: int = 32, lemmas: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Find the words that together say what each text says, as a distribution over words.

    Texts and words are centered, each by its own mean, and brought to unit length. Among the `pool` words
    nearest to a text those are chosen one by one whose sum with the words before lies nearest to it:

    `w_n = argmax_w cos(w_1 + ... + w_{n-1} + w, text)`

    Centering is what keeps a few general words from being near to every text.

    Args:
        text_vectors: Sentence vectors of N texts, `(N, E)`; rows of missing texts are NaN.
        word_vectors: Sentence vectors of the V words, `(V, E)`.
        top_k: Number of words an entity, K.
        pool: Nearest words among which they are chosen: from as many as are chosen, which takes the nearest ones
            themselves, to V, which adds words that a reader would not connect with the text: more of them, the more say
            each side of it.
        lemmas: Lemma of each word, `(V,)`, no two words of which are chosen; each word has its own if None.

    Returns:
        Rows of `word_vectors`, `(N, K)` in int64, in the order in which they were chosen, and their probabilities
        `(N, K)` in float32: 1 / K, or 0 where the text is missing.

    Raises:
        ConfigurationError: If `top_k` is not in 1..V (the number of lemmas, if given), or `pool` less than it.

    Note:
        The nearest words repeat each other ("car", "cars", "vehicle") and say one side of a text again and
        again. Measured on the texts of steam-vt with 9,480 words of all-MiniLM-L6-v2: rank correlation of the
        similarities of pairs of games with those of their texts is .53 for the 16 nearest words, .66 when
        chosen among 32, .72 among 64, and .78 among 256.
    """
    num_lemmas = len(word_vectors) if lemmas is None else len(lemmas.unique())
    if not 1 <= top_k <= num_lemmas:
        raise ConfigurationError(f"top_k: expected 1 to {num_lemmas}, the lemmas, got {top_k}; take fewer words")
    if pool < top_k:
        raise ConfigurationError(f"pool: expected at least {top_k}, the words to choose, got {pool}; 32 is usual")
    texts = center(text_vectors)
    present = texts.isfinite().all(dim=1)
    indices = pursue(texts.nan_to_num(), center(word_vectors), top_k, pool, lemmas)
    return indices, present.float()[:, None].expand(-1, top_k) / top_k


def pursue(vectors: Tensor, word_vectors: Tensor, top_k: int, pool: int, lemmas: Tensor | None = None) -> Tensor:
    """The words of `lexical_targets` for vectors `(N, E)` that are centered already, as the words are, `(N, K)`."""
    lemmas = torch.arange(len(word_vectors)) if lemmas is None else lemmas
    lemmas = lemmas.to(word_vectors.device)
    pool = min(pool, len(lemmas.unique()))
    count = num_sufficient(lemmas, pool)
    step = max(1, _TILE // max(len(word_vectors), pool * word_vectors.shape[1], count))
    chosen = []
    for tile in vectors.split(step):
        agreement, nearest = _nearest_lemmas(tile @ word_vectors.T, lemmas, pool, count)
        chosen.append(_pursue(agreement, nearest, word_vectors, top_k))
    return torch.cat(chosen)


def _nearest_lemmas(agreement: Tensor, lemmas: Tensor, pool: int, count: int) -> tuple[Tensor, Tensor]:
    """Nearest words of texts, best first, only the best one of each lemma.

    Args:
        agreement: Similarity of texts and words, `(N, V)`.
        lemmas: Lemma of each word, `(V,)`.
        pool: Words wanted.
        count: Nearest words that hold as many lemmas for certain.

    Returns:
        Similarity `(N, pool)`, and the words `(N, pool)`.
    """
    values, words = agreement.topk(count, dim=1)
    ordered, places = lemmas[words].sort(dim=1, stable=True)  # the best of each lemma comes first
    repeated = F.pad(ordered[:, 1:] == ordered[:, :-1], (1, 0))
    best = torch.zeros_like(repeated).scatter(1, places, repeated).int().argsort(dim=1, stable=True)[:, :pool]
    return values.gather(1, best), words.gather(1, best)


def _pursue(agreement: Tensor, nearest: Tensor, words: Tensor, top_k: int) -> Tensor:
    """Words `(N, K)` among the nearest ones of texts `(N, pool)`: each brings the sum of those chosen nearest."""
    candidates = words[nearest]
    likeness = candidates @ candidates.mT
    rows = torch.arange(len(nearest), device=nearest.device)
    chosen: list[Tensor] = []
    # Of the sum so far: its product with the text, with itself, and with each candidate.
    along, square, overlap = agreement.new_zeros(len(nearest)), agreement.new_zeros(len(nearest)), agreement * 0
    for _ in range(top_k):
        lengths = (square[:, None] + 2 * overlap + 1).clamp_min(1e-6).sqrt()
        best = ((along[:, None] + agreement) / lengths).argmax(1)
        chosen.append(nearest[rows, best])
        along, square = along + agreement[rows, best], square + 2 * overlap[rows, best] + 1
        overlap = overlap + likeness[rows, best]
        agreement[rows, best] = -torch.inf
    return torch.stack(chosen, dim=1)
