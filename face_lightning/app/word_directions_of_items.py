"""Directions of words in the space of embeddings, from the items that have them."""

from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from torch import Tensor


class WordDirectionsOfItems:
    """The direction of a word is the mean embedding of the items that have it, minus that of all items.

    A direction is scaled so that its inner products with all items have standard deviation 1.

    Args:
        items: Embeddings of items `(I, D)`.
        words: Words of each item, an Arrow array of lists `(I,)`.
    """

    def __init__(self, items: Tensor, words: Any) -> None:  # noqa: ANN401
        self._items, self._mean = items, items.mean(0)
        centered = items - self._mean
        self._covariance = centered.T @ centered / len(items)
        codes = pc.list_flatten(words).dictionary_encode()
        self._numbers = {word: number for number, word in enumerate(codes.dictionary.to_pylist())}
        numbers = codes.indices.to_numpy()
        owners = pc.list_parent_indices(words).to_numpy()
        order = np.argsort(numbers, kind="stable")
        self._owners = owners[order]
        self._starts = np.searchsorted(numbers[order], np.arange(len(self._numbers) + 1))

    def __contains__(self, word: str) -> bool:
        return word in self._numbers

    def direction(self, word: str) -> Tensor:
        """Direction `(D,)` of a word that an item has."""
        number = self._numbers[word]
        rows = self._owners[self._starts[number] : self._starts[number + 1]]
        return self._scaled(self._items[torch.from_numpy(rows)].mean(0) - self._mean)

    def edit(self, query: Tensor, weights: dict[str, int], strength: float) -> Tensor:
        """Blend of a query `(D,)` and words, with the spread of the query's scores.

        Args:
            query: Embedding of a user; zeros for nobody.
            weights: Weight of each word, negative for less of it.
            strength: Share of the words, from 0 to 1.
        """
        towards = sum((weight * self.direction(word) for word, weight in weights.items()), torch.zeros_like(query))
        if not query.any():
            return towards
        return (1 - strength) * query + strength * self._spread(query) * self._scaled(towards)

    def _scaled(self, direction: Tensor) -> Tensor:
        return direction / self._spread(direction).clamp_min(1e-12)

    def _spread(self, direction: Tensor) -> Tensor:
        return (direction @ self._covariance @ direction).clamp_min(0).sqrt()
