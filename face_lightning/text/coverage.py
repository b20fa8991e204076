"""What a codebook can say: the texts' words that it has, and its words that say the same twice."""

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
    """How many of the texts' content words a codebook has.

    Attributes:
        num_texts: Texts that were read.
        num_words: Different content words in them.
        num_covered: Those that the codebook has.
        share_of_words: Covered part of the different words, in `[0, 1]`; 0 without any.
        share_of_occurrences: Covered part of all occurrences, in `[0, 1]`; 0 without any.
        missing: The most frequent words that the codebook lacks, with the number of texts they stand in.
    """

    num_texts: int
    num_words: int
    num_covered: int
    share_of_words: float
    share_of_occurrences: float
    missing: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Duplicates:
    """Words of a codebook that hardly differ.

    Attributes:
        num_inflections: Words whose base form is a word of the codebook too ("toys" beside "toy").
        num_near: Pairs of words with token embeddings more similar than the threshold.
        threshold: Least cosine of centred token embeddings.
        pairs: The most similar pairs, with their cosine.
    """

    num_inflections: int
    num_near: int
    threshold: float
    pairs: tuple[tuple[str, str, float], ...]


def coverage(
    words: Collection[str], texts: Iterable[str | None], num_stop_words: int = 300, num_missing: int = 20
) -> Coverage:
    """Count the content words of texts that are words of a codebook.

    Content words are the words of at least three letters a-z, whatever their case, that may be nouns or
    adjectives and are not among the language's most frequent words.

    Args:
        words: The codebook's words.
        texts: One text per entity; None stands for a text that is missing.
        num_stop_words: How many of the most frequent English words are no content words.
        num_missing: How many missing words to name.

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
    """Find the words of a codebook that hardly differ, by their base form and by their token embeddings.

    Args:
        codebook: V words.
        threshold: Cosine of centred token embeddings from which two words are near; all V x V pairs are
            looked at, a tile at a time.
        num_pairs: How many of the pairs to name.

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
