"""Statistics and samples of a run's words: the most frequent words, shared sets, the best and worst entities."""

import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F

from face_lightning.text.vocabulary import Codebook

_NUM_CANDIDATES = 1000  # texts of the same kind that words are compared with
_TILE = 1024
_LETTERS = re.compile(r"[a-z]+")


class WordCount(NamedTuple):
    """A word, and the number and share of users or items that have it."""

    word: str
    num_entities: int
    share: float


class Sample(NamedTuple):
    """An entity with its text and words.

    Attributes:
        kind: "user" or "item".
        id: Original id.
        label: Name for display.
        text: Text of the entity; empty if there is none.
        words: Words of the entity, those closest to their common meaning first.
        margin: Cosine similarity of the words to the entity's text, minus the largest to another text; NaN if unknown.
    """

    kind: str
    id: str
    label: str
    text: str
    words: list[str]
    margin: float


def count_words(descriptors: pa.Table, kind: str) -> list[WordCount]:
    """Count the words of all users or items; the most frequent first, ties in alphabetical order."""
    words = descriptors.filter(pc.equal(descriptors["kind"], kind))["words"]
    counts = pc.value_counts(pc.list_flatten(words).combine_chunks())
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    ordered = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return [WordCount(word, count, count / len(words)) for word, count in ordered]


def shared_sets(descriptors: pa.Table, kind: str, most: int = 5) -> list[tuple[list[str], list[str]]]:
    """Sets of words that several users or items share, with the labels of these; the largest groups first."""
    rows = descriptors.filter(pc.equal(descriptors["kind"], kind))
    owners: dict[tuple[str, ...], list[str]] = {}
    for words, label in zip(rows["words"].to_pylist(), rows["label"].to_pylist(), strict=True):
        owners.setdefault(tuple(sorted(words)), []).append(label)
    shared = [(list(words), labels) for words, labels in owners.items() if len(labels) > 1]
    return sorted(shared, key=lambda pair: -len(pair[1]))[:most]


def draw_samples(
    descriptors: pa.Table, kind: str, codebook: Codebook | None, number: int = 6
) -> dict[str, list[Sample]]:
    """Sample users or items by how well their words match their own text: the best, random ones, and the worst.

    Words and texts are compared by the means of their token embeddings, which needs no text encoder; words of a text
    that are not in the vocabulary are ignored.

    Args:
        descriptors: Table of all words, as in `descriptors.parquet`.
        kind: "user" or "item".
        codebook: Vocabulary of the run; if None, there is only a random sample.
        number: Number of entities in each sample.
    """
    rows = descriptors.filter(pc.equal(descriptors["kind"], kind))
    margins = np.full(len(rows), np.nan) if codebook is None else text_margins(rows, codebook)
    known = np.flatnonzero(np.isfinite(margins))
    ordered = known[np.argsort(-margins[known], kind="stable")]
    random = np.sort(np.random.default_rng(0).permutation(len(rows))[:number])
    samples = {"best": ordered[:number], "random": random, "worst": ordered[max(number, len(ordered) - number) :][::-1]}
    return {name: _samples(rows, indices, margins) for name, indices in samples.items() if len(indices)}


def text_margins(rows: pa.Table, codebook: Codebook) -> np.ndarray:
    """Similarity of each entity's words to its text, minus the largest to another text, `(N,)`; NaN without a text."""
    word_ids = {word: index for index, word in enumerate(codebook.words)}
    tokens = F.normalize(codebook.token_embeddings - codebook.token_embeddings.mean(0), dim=1)
    entity_words, text_words = (
        [[word_ids[word] for word in words if word in word_ids] for words in column]
        for column in (
            rows["words"].to_pylist(),
            [_LETTERS.findall((text or "").lower()) for text in rows["text"].to_pylist()],
        )
    )
    queries, texts = _mean_directions(entity_words, tokens), _mean_directions(text_words, tokens)
    has_text = torch.tensor([bool(words) for words in text_words], dtype=torch.bool)
    indices = torch.arange(len(rows))[has_text]
    candidates = indices[:: max(1, -(-len(indices) // _NUM_CANDIDATES))]
    margins = np.full(len(rows), np.nan)
    if len(candidates) < 2:
        return margins
    for tile in indices.split(_TILE):
        cosines = queries[tile] @ texts[candidates].T
        cosines[tile[:, None] == candidates] = -torch.inf
        own = (queries[tile] * texts[tile]).sum(1)
        margins[tile.numpy()] = (own - cosines.amax(1)).numpy()
    return margins


def _mean_directions(words: list[list[int]], tokens: torch.Tensor) -> torch.Tensor:
    """Mean token embedding of each list of words, normalised to unit length, `(N, T)`."""
    offsets = torch.tensor([0, *map(len, words)]).cumsum(0)[:-1]
    flat = torch.tensor([word_id for word_ids in words for word_id in word_ids], dtype=torch.long)
    return F.normalize(F.embedding_bag(flat, tokens, offsets, mode="mean"), dim=1)


def _samples(rows: Any, indices: np.ndarray, margins: np.ndarray) -> list[Sample]:  # noqa: ANN401
    selected = rows.take(pa.array(indices)).to_pylist()
    return [
        Sample(row["kind"], row["id"], row["label"], row["text"] or "", row["words"], float(margins[index]))
        for row, index in zip(selected, indices, strict=True)
    ]
