"""Two-dimensional map of items and words, by t-SNE of the most popular items."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.imports import import_optional

NUM_LANDMARKS = 1000
MOST_SHOWN = 5000
NUM_WORDS = 40
_NEAREST = 5
_TILE = 4096
_NUM_TRIED_WORDS, _MIN_ITEMS = 400, 4
_MAX_SPREAD = 0.15  # median distance of a word's items from their median, as a share of the map's size
_MIN_DISTANCE = np.array([0.13, 0.045])  # between words in x or y, as a share of the map's size


class EntityMap(NamedTuple):
    """Positions of items and words on the map.

    Attributes:
        rows: Rows of the items shown, the most popular first, `(N,)`.
        places: Positions of the items `(N, 2)`.
        words: W words shown.
        word_places: Positions of the words `(W, 2)`.
    """

    rows: np.ndarray
    places: np.ndarray
    words: list[str]
    word_places: np.ndarray


def draw_map(items: Tensor, popularity: np.ndarray, words: Any, vocabulary: list[str]) -> EntityMap:  # noqa: ANN401
    """Lay out the most popular items and the most frequent words.

    The most popular items, the landmarks, are laid out by t-SNE with cosine distances. Every other item is placed at
    the weighted mean of its nearest landmarks, and a word at the median of the items that have it, unless these are
    too spread out.

    Args:
        items: Embeddings of items `(I, D)`.
        popularity: Number of interactions of each item `(I,)`.
        words: Words of each item, an Arrow array of lists `(I,)`; None if the run has no words.
        vocabulary: Words in use, the most frequent first.

    Raises:
        MissingDependencyError: If scikit-learn is not installed.
    """
    manifold = import_optional("sklearn.manifold", extra="app", purpose="the map of face app")
    rows = np.argsort(-popularity, kind="stable")[:MOST_SHOWN]
    directions = F.normalize(items[torch.from_numpy(rows)].cpu(), dim=1)
    landmarks = directions[:NUM_LANDMARKS]
    if len(landmarks) < 4:
        return EntityMap(rows, directions[:, :2].numpy(), [], np.empty((0, 2)))
    perplexity = min(30.0, (len(landmarks) - 1) / 3)
    tsne = manifold.TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=0, max_iter=500)
    landmark_places = torch.from_numpy(tsne.fit_transform(landmarks.double().numpy())).float()
    tiles = [landmark_places]
    for tile in directions[NUM_LANDMARKS:].split(_TILE):
        cosines, nearest = (tile @ landmarks.T).topk(min(_NEAREST, len(landmarks)), dim=1)
        tiles.append((landmark_places[nearest] * torch.softmax(10 * cosines, 1).unsqueeze(2)).sum(1))
    places = torch.cat(tiles).numpy()
    if words is None:
        return EntityMap(rows, places, [], np.empty((0, 2)))
    return EntityMap(rows, places, *_place_words(places, words.take(rows), vocabulary))


def _place_words(places: np.ndarray, words: Any, vocabulary: list[str]) -> tuple[list[str], np.ndarray]:  # noqa: ANN401
    """Select frequent words whose items lie close together, at a distance from more frequent ones, and place them."""
    flat, owners = pc.list_flatten(words), pc.list_parent_indices(words).to_numpy()
    size = np.ptp(places, axis=0)
    selected: list[str] = []
    medians: list[np.ndarray] = []
    for word in vocabulary[:_NUM_TRIED_WORDS]:
        members = places[owners[pc.equal(flat, word).to_numpy(zero_copy_only=False)]]
        if len(members) < _MIN_ITEMS:
            continue
        median = np.median(members, axis=0)
        spread = np.median(np.abs(members - median) / size, axis=0).max()
        distances = np.abs(np.array(medians).reshape(-1, 2) - median) / size
        if spread < _MAX_SPREAD and not (distances < _MIN_DISTANCE).all(axis=1).any():
            selected.append(word)
            medians.append(median)
        if len(selected) == NUM_WORDS:
            break
    return selected, np.array(medians).reshape(-1, 2)
