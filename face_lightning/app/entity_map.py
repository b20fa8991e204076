"""Items and words in the plane: t-SNE of the most popular items, the others and the words between them."""

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
_TRIED_WORDS, _FEWEST_ITEMS = 400, 4
_WIDEST = 0.15  # median distance of a word's items from their median, as a share of the map
_CLEARANCE = np.array([0.13, 0.045])  # of the place of a word to others, likewise


class EntityMap(NamedTuple):
    """Places in the plane.

    Attributes:
        rows: Rows of the items shown, the most popular first, `(N,)`.
        places: Their places `(N, 2)`.
        words: Words shown.
        word_places: Their places `(W, 2)`.
    """

    rows: np.ndarray
    places: np.ndarray
    words: list[str]
    word_places: np.ndarray


def draw_map(items: Tensor, popularity: np.ndarray, words: Any, vocabulary: list[str]) -> EntityMap:  # noqa: ANN401
    """Place the most popular items, and the most used words.

    Landmarks are placed by t-SNE of cosines; every other item is placed at the mean of its nearest landmarks, and a
    word at the median of the items that have it, if these lie together.

    Args:
        items: Embeddings of items `(I, D)`.
        popularity: Number of interactions of each item `(I,)`.
        words: Words of each item, an Arrow array of lists `(I,)`; None for a run without.
        vocabulary: Words in use, the most used first.

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
    known = torch.from_numpy(tsne.fit_transform(landmarks.double().numpy())).float()
    places = [known]
    for tile in directions[NUM_LANDMARKS:].split(_TILE):
        cosines, nearest = (tile @ landmarks.T).topk(min(_NEAREST, len(landmarks)), dim=1)
        places.append((known[nearest] * torch.softmax(10 * cosines, 1).unsqueeze(2)).sum(1))
    shown = torch.cat(places).numpy()
    if words is None:
        return EntityMap(rows, shown, [], np.empty((0, 2)))
    return EntityMap(rows, shown, *_place_words(shown, words.take(rows), vocabulary))


def _place_words(places: np.ndarray, words: Any, vocabulary: list[str]) -> tuple[list[str], np.ndarray]:  # noqa: ANN401
    """The most used words whose items lie together, each far enough from those before, and their places."""
    flat, owners = pc.list_flatten(words), pc.list_parent_indices(words).to_numpy()
    size = np.ptp(places, axis=0)
    chosen: list[str] = []
    medians: list[np.ndarray] = []
    for word in vocabulary[:_TRIED_WORDS]:
        members = places[owners[pc.equal(flat, word).to_numpy(zero_copy_only=False)]]
        if len(members) < _FEWEST_ITEMS:
            continue
        median = np.median(members, axis=0)
        spread = np.median(np.abs(members - median) / size, axis=0).max()
        distances = np.abs(np.array(medians).reshape(-1, 2) - median) / size
        if spread < _WIDEST and not (distances < _CLEARANCE).all(axis=1).any():
            chosen.append(word)
            medians.append(median)
        if len(chosen) == NUM_WORDS:
            break
    return chosen, np.array(medians).reshape(-1, 2)
