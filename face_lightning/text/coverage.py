"""Quality of a codebook: coverage of the words of texts, and near-duplicates."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import torch.nn.functional as F

from face_lightning.imports import import_optional
from face_lightning.text.lexicon import IN_TEXT, base_forms, may_be_noun
from face_lightning.text.vocabulary import Codebook

_TILE = 1024
_PURPOSE = "the report of a vocabulary"


@dataclass(frozen=True)
class Coverage:
    """Coverage of the content words of texts by a codebook.

    Attributes:
        num_texts: Number of texts.
        num_words: Number of distinct content words in them.
        num_covered: Number of these that are in the codebook.
        share_of_words: Covered share of the distinct words, in `[0, 1]`; 0 if there are none.
        share_of_occurrences: Covered share of all occurrences, in `[0, 1]`; 0 if there are none.
        missing: The most frequent words that the codebook lacks, with their document frequency.
    """

    num_texts: int
    num_words: int
    num_covered: int
    share_of_words: float
    share_of_occurrences: float
    missing: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Duplicates:
    """Words of a codebook that hardly differ in meaning.

    Attributes:
        num_inflections: Words whose base form is in the codebook as well ("toys" and "toy").
        num_near: Number of pairs of words whose token embeddings are at least as similar as the threshold.
        threshold: Minimum cosine of centered token embeddings.
        pairs: The most similar pairs, with their cosine.
    """

    num_inflections: int
    num_near: int
    threshold: float
    pairs: tuple[tuple[str, str, float], ...]


def coverage(
    words: Collection[str], texts: Iterable[str | None], num_stop_words: int = 300, num_missing: int = 20
) -> Coverage:
    """Count the content words of texts that are in a codebook.

    Content words have at least three letters a-z, in any case, may be nouns or adjectives, and are not among the
    language's most frequent words.

    Args:
        words: The codebook's words.
        texts: One text per entity; None stands for a missing text.
        num_stop_words: Number of the most frequent English words that are not content words.
        num_missing: Number of missing words to return.

    Raises:
        MissingDependencyError: If wordfreq, lemminflect or textblob is not installed.
    """
    num_texts, counts = 0, Counter[str]()
    for text in texts:
        if text is not None:
            num_texts += 1
            counts.update(set(IN_TEXT.findall(text.lower())))
    stop_words = set(import_optional("wordfreq", extra="words", purpose=_PURPOSE).top_n_list("en", num_stop_words))
    content = {word: count for word, count in counts.items() if word not in stop_words and may_be_noun(word)}
    known = set(words)
    covered = [word for word in content if word in known]
    missing = sorted((word for word in content if word not in known), key=lambda word: (-content[word], word))
    occurrences = sum(content.values())
    return Coverage(
        num_texts=num_texts,
        num_words=len(content),
        num_covered=len(covered),
        share_of_words=len(covered) / len(content) if content else 0.0,
        share_of_occurrences=sum(content[word] for word in covered) / occurrences if occurrences else 0.0,
        missing=tuple((word, content[word]) for word in missing[:num_missing]),
    )


def near_duplicates(codebook: Codebook, threshold: float = 0.7, num_pairs: int = 20) -> Duplicates:
    """Find near-duplicates in a codebook, by base forms and by token embeddings.

    Args:
        codebook: V words.
        threshold: Minimum cosine of centered token embeddings of near-duplicates; all V x V pairs are compared,
            tile by tile.
        num_pairs: Number of pairs to return.

    Raises:
        MissingDependencyError: If lemminflect is not installed.
    """
    known = set(codebook.words)
    inflections = sum(bool((base_forms(word) - {word}) & known) for word in codebook.words)
    table = F.normalize(codebook.token_embeddings - codebook.token_embeddings.mean(0), dim=1)
    found: list[tuple[float, int, int]] = []
    count = 0
    for start in range(0, len(table), _TILE):
        cosine = (table[start : start + _TILE] @ table.T).triu(start + 1)
        rows, columns = (cosine >= threshold).nonzero(as_tuple=True)
        count += len(rows)
        values = cosine[rows, columns]
        best = values.topk(min(num_pairs, len(values))).indices
        found += zip(values[best].tolist(), (rows[best] + start).tolist(), columns[best].tolist(), strict=True)
    found.sort(reverse=True)
    pairs = tuple((codebook.words[i], codebook.words[j], round(value, 4)) for value, i, j in found[:num_pairs])
    return Duplicates(num_inflections=inflections, num_near=count, threshold=threshold, pairs=pairs)
