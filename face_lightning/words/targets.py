"""Target words of texts: sets of words whose mean vector is near the text vector."""

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.errors import ConfigurationError
from face_lightning.mapping.search import num_sufficient
from face_lightning.words.centering import center

_TILE = 2**24  # similarities computed at once: 64 MiB


def lexical_targets(
    text_vectors: Tensor, word_vectors: Tensor, top_k: int = 16, pool: int = 32, lemmas: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Choose for each text words whose summed vector approximates the text vector, as a distribution over words.

    Texts and words are each centered by their own mean and normalised; without centering, a few general words would
    be near every text. From the `pool` words nearest to a text, words are chosen greedily (as in matching pursuit):

    `w_n = argmax_w cos(w_1 + ... + w_{n-1} + w, text)`

    Args:
        text_vectors: Sentence vectors of N texts, `(N, E)`; rows of missing texts are NaN.
        word_vectors: Sentence vectors of the V words, `(V, E)`.
        top_k: Number of words per text, K.
        pool: Number of nearest words to choose from, K to V. K takes the nearest words themselves; larger pools cover
            more aspects of a text, but include words that readers would not associate with it.
        lemmas: Lemma of each word, `(V,)`; chosen words have different lemmas. If None, each word is its own lemma.

    Returns:
        Rows of `word_vectors`, `(N, K)` in int64, in the order in which they were chosen, and their probabilities
        `(N, K)` in float32: 1 / K, or 0 for missing texts.

    Raises:
        ConfigurationError: If `top_k` is not in 1..V (the number of lemmas, if given), or `pool` is less than `top_k`.

    Note:
        The nearest words are near-synonyms ("car", "cars", "vehicle") and cover only one aspect of a text. On the texts
        of steam-vt with 9,480 words of all-MiniLM-L6-v2, the rank correlation between pairwise similarities of games by
        their words and by their texts is .53 for the 16 nearest words, .66 for words chosen from 32, .72 from 64, and
        .78 from 256.
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
    """Choose words `(N, K)` as `lexical_targets` does, given vectors `(N, E)` and words that are already centered."""
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
    """Find the nearest words of texts, best first, with only the best word of each lemma.

    Args:
        agreement: Similarity of texts and words, `(N, V)`.
        lemmas: Lemma of each word, `(V,)`.
        pool: Number of words to return.
        count: Number of nearest words that is certain to contain `pool` lemmas.

    Returns:
        Similarities `(N, pool)` and words `(N, pool)`.
    """
    values, words = agreement.topk(count, dim=1)
    ordered, positions = lemmas[words].sort(dim=1, stable=True)  # stable: the best word of each lemma comes first
    repeated = F.pad(ordered[:, 1:] == ordered[:, :-1], (1, 0))
    best = torch.zeros_like(repeated).scatter(1, positions, repeated).int().argsort(dim=1, stable=True)[:, :pool]
    return values.gather(1, best), words.gather(1, best)


def _pursue(agreement: Tensor, nearest: Tensor, words: Tensor, top_k: int) -> Tensor:
    """Choose words `(N, K)` greedily from the nearest ones `(N, pool)`, maximising the cosine of sum and text."""
    candidates = words[nearest]
    similarities = candidates @ candidates.mT
    rows = torch.arange(len(nearest), device=nearest.device)
    chosen: list[Tensor] = []
    # Inner products of the current sum with the text, with itself, and with each candidate.
    along, square, overlap = agreement.new_zeros(len(nearest)), agreement.new_zeros(len(nearest)), agreement * 0
    for _ in range(top_k):
        lengths = (square[:, None] + 2 * overlap + 1).clamp_min(1e-6).sqrt()
        best = ((along[:, None] + agreement) / lengths).argmax(1)
        chosen.append(nearest[rows, best])
        along, square = along + agreement[rows, best], square + 2 * overlap[rows, best] + 1
        overlap = overlap + similarities[rows, best]
        agreement[rows, best] = -torch.inf
    return torch.stack(chosen, dim=1)
