"""Words of a run as a report shows them: the most used ones, shared sets, and samples from best to worst."""

import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F

from face_lightning.text.vocabulary import Codebook

_CANDIDATES = 1000  # texts of the same kind that words are compared with
_TILE = 1024
_LETTERS = re.compile(r"[a-z]+")


class WordCount(NamedTuple):
    """A word and the share of all users or items that have it."""

    word: str
    num_entities: int
    share: float


class Sample(NamedTuple):
    """An entity with its words.

    Attributes:
        kind: "user" or "item".
        id: Original id.
        label: What a person calls it.
        text: Its text; empty without one.
        words: Its words, those first that agree best with all of them.
        margin: Cosine of its words with its text, minus the largest with another text; NaN where that is unknown.
    """

    kind: str
    id: str
    label: str
    text: str
    words: list[str]
    margin: float


def count_words(descriptors: pa.Table, kind: str) -> list[WordCount]:
    """Words of all users or items, the most used first, words of the same count in alphabetical order."""
    words = descriptors.filter(pc.equal(descriptors["kind"], kind))["words"]
    counted = pc.value_counts(pc.list_flatten(words).combine_chunks())
    pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    ordered = sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
    return [WordCount(word, count, count / len(words)) for word, count in ordered]


def shared_sets(descriptors: pa.Table, kind: str, most: int = 5) -> list[tuple[list[str], list[str]]]:
    """Sets of words that several users or items have, and their labels; the largest such groups first."""
    rows = descriptors.filter(pc.equal(descriptors["kind"], kind))
    owners: dict[tuple[str, ...], list[str]] = {}
    for words, label in zip(rows["words"].to_pylist(), rows["label"].to_pylist(), strict=True):
        owners.setdefault(tuple(sorted(words)), []).append(label)
    shared = [(list(words), labels) for words, labels in owners.items() if len(labels) > 1]
    return sorted(shared, key=lambda pair: -len(pair[1]))[:most]


def draw_samples(
    descriptors: pa.Table, kind: str, codebook: Codebook | None, number: int = 6
) -> dict[str, list[Sample]]:
    """Users or items by how well their words tell their text from others: the best, a random sample, and the worst.

    Words and texts are compared by the mean of their words' token embeddings, which needs no encoder; words of a text
    that are not in the vocabulary do not count.

    Args:
        descriptors: Table of all words, as a run leaves it.
        kind: "user" or "item".
        codebook: Vocabulary of the run; without one there is a random sample alone.
        number: Entities of each sample.
    """
    rows = descriptors.filter(pc.equal(descriptors["kind"], kind))
    margins = np.full(len(rows), np.nan) if codebook is None else text_margins(rows, codebook)
    known = np.flatnonzero(np.isfinite(margins))
    ordered = known[np.argsort(-margins[known], kind="stable")]
    drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:number])
    chosen = {"best": ordered[:number], "random": drawn, "worst": ordered[max(number, len(ordered) - number) :][::-1]}
    return {name: _samples(rows, places, margins) for name, places in chosen.items() if len(places)}


def text_margins(rows: pa.Table, codebook: Codebook) -> np.ndarray:
    """How much nearer the words of each entity are to its text than to any other `(N,)`; NaN where there is no text."""
    numbers = {word: number for number, word in enumerate(codebook.words)}
    tokens = F.normalize(codebook.token_embeddings - codebook.token_embeddings.mean(0), dim=1)
    described, written = (
        [[numbers[word] for word in words if word in numbers] for words in column]
        for column in (
            rows["words"].to_pylist(),
            [_LETTERS.findall((text or "").lower()) for text in rows["text"].to_pylist()],
        )
    )
    queries, texts = _mean_directions(described, tokens), _mean_directions(written, tokens)
    present = torch.tensor([bool(words) for words in written], dtype=torch.bool)
    places = torch.arange(len(rows))[present]
    candidates = places[:: max(1, -(-len(places) // _CANDIDATES))]
    margins = np.full(len(rows), np.nan)
    if len(candidates) < 2:
        return margins
    for tile in places.split(_TILE):
        cosines = queries[tile] @ texts[candidates].T
        cosines[tile[:, None] == candidates] = -torch.inf
        own = (queries[tile] * texts[tile]).sum(1)
        margins[tile.numpy()] = (own - cosines.amax(1)).numpy()
    return margins


def _mean_directions(words: list[list[int]], tokens: torch.Tensor) -> torch.Tensor:
    """Unit vector of the mean of each list's tokens `(N, T)`."""
    ends = torch.tensor([0, *map(len, words)]).cumsum(0)[:-1]
    flat = torch.tensor([number for numbers in words for number in numbers], dtype=torch.long)
    return F.normalize(F.embedding_bag(flat, tokens, ends, mode="mean"), dim=1)


def _samples(rows: Any, places: np.ndarray, margins: np.ndarray) -> list[Sample]:  # noqa: ANN401
    taken = rows.take(pa.array(places)).to_pylist()
    return [
        Sample(row["kind"], row["id"], row["label"], row["text"] or "", row["words"], float(margins[place]))
        for row, place in zip(taken, places, strict=True)
    ]
