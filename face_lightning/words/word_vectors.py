"""Sentence vectors of the vocabulary's words, and what words of entities mean together."""

import copy
from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.mapping.whitening import whiten
from face_lightning.words.centering import center


class WordVectors:
    """Vectors of all words of the vocabulary, each encoded as a sentence of its own and centered.

    Args:
        words: V words.
        vectors: Their sentence vectors `(V, E)`.
        temperature: Temperature of the softmax by which a slot weights its nearest words.
        lemmas: Lemma of each word, `(V,)`; each word has its own if None.
    """

    def __init__(self, words: Sequence[str], vectors: Tensor, temperature: float, lemmas: Tensor | None = None) -> None:
        self.words = words
        self.lemmas = torch.arange(len(words)) if lemmas is None else lemmas
        self.vectors = center(vectors)
        self.temperature = temperature

    def whitened(self) -> Self:
        """The same words with vectors of uncorrelated components of equal variance.

        The mean of several encoder vectors holds mostly what many words have in common. With whitened vectors each
        word is nearly orthogonal to those that mean something else, and the mean tells words apart.
        """
        other = copy.copy(self)
        other.vectors = whiten(self.vectors.cpu(), min(self.vectors.shape)).to(self.vectors)
        return other

    def means(self, descriptors: Tensor) -> Tensor:
        """Mean vector of the words of each entity `(N, E)`, centered over entities and of unit length.

        Args:
            descriptors: `(N, S)`.
        """
        return center(torch.cat([self.vectors[rows].mean(1) for rows in descriptors.split(4096)]))

    def expected(self, concepts: Tensor, codes: Tensor, near: Tensor) -> Tensor:
        """Mean over slots of the expected word vector, `(N, E)`.

        A slot weights its nearest words by a softmax of their inner products, as anchoring does.

        Args:
            concepts: `(N, S, d)`.
            codes: `(V, d)`.
            near: Nearest words of each slot, `(N, S, K)`.
        """
        logits = torch.einsum("nsd,nskd->nsk", concepts, F.embedding(near, codes)) / self.temperature
        probabilities = logits.softmax(-1) / concepts.shape[1]
        return F.embedding_bag(near.flatten(1), self.vectors, mode="sum", per_sample_weights=probabilities.flatten(1))

    def sorted_words(self, descriptors: Tensor) -> list[list[str]]:
        """Words of entities as they are shown: those that agree best with the mean of all of them first.

        Args:
            descriptors: `(N, S)`, one word of each slot.
        """
        ordered = []
        for rows in descriptors.to(self.vectors.device).split(1024):
            vectors = self.vectors[rows]
            agreement = torch.einsum("nse,ne->ns", vectors, vectors.mean(1))
            ordered += rows.gather(1, agreement.argsort(dim=1, descending=True, stable=True)).tolist()
        return [[self.words[token] for token in row] for row in ordered]
