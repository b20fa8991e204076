"""Sentence vectors of the vocabulary's words, and their means over the words of entities."""

import copy
from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.mapping.whitening import whiten
from face_lightning.words.centering import center


class WordVectors:
    """Centered vectors of the words of the vocabulary, each encoded as a sentence.

    Args:
        words: V words.
        vectors: Their sentence vectors `(V, E)`.
        temperature: Temperature of the softmax over the nearest words of a slot.
        lemmas: Lemma of each word, `(V,)`; if None, each word is its own lemma.
    """

    def __init__(self, words: Sequence[str], vectors: Tensor, temperature: float, lemmas: Tensor | None = None) -> None:
        self.words = words
        self.lemmas = torch.arange(len(words)) if lemmas is None else lemmas
        self.vectors = center(vectors)
        self.temperature = temperature

    def whitened(self) -> Self:
        """Return a copy with whitened vectors.

        Encoder vectors share common directions, which dominate the mean of several words. Whitened vectors of unrelated
        words are nearly orthogonal, so that their mean identifies the words.
        """
        other = copy.copy(self)
        other.vectors = whiten(self.vectors.cpu(), min(self.vectors.shape)).to(self.vectors)
        return other

    def means(self, descriptors: Tensor) -> Tensor:
        """Compute the mean vector of each entity's words `(N, E)`, centered over entities, of unit length.

        Args:
            descriptors: `(N, S)`.
        """
        return center(torch.cat([self.vectors[rows].mean(1) for rows in descriptors.split(4096)]))

    def expected(self, concepts: Tensor, codes: Tensor, near: Tensor) -> Tensor:
        """Compute the mean over slots of the expected word vector, `(N, E)`.

        The expectation is over a slot's nearest words, with a softmax over inner products as in lexical anchoring.

        Args:
            concepts: `(N, S, d)`.
            codes: `(V, d)`.
            near: Nearest words of each slot, `(N, S, K)`.
        """
        logits = torch.einsum("nsd,nskd->nsk", concepts, F.embedding(near, codes)) / self.temperature
        probabilities = logits.softmax(-1) / concepts.shape[1]
        return F.embedding_bag(near.flatten(1), self.vectors, mode="sum", per_sample_weights=probabilities.flatten(1))

    def sorted_words(self, descriptors: Tensor) -> list[list[str]]:
        """Sort the words of each entity for display, by their similarity to the mean of its words.

        Args:
            descriptors: `(N, S)`, one word per slot.
        """
        ordered = []
        for rows in descriptors.to(self.vectors.device).split(1024):
            vectors = self.vectors[rows]
            agreement = torch.einsum("nse,ne->ns", vectors, vectors.mean(1))
            ordered += rows.gather(1, agreement.argsort(dim=1, descending=True, stable=True)).tolist()
        return [[self.words[token] for token in row] for row in ordered]
