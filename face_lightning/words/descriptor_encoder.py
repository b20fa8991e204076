"""Encoder of descriptors as sentences, in the prompt for users or items."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.text.sentence_encoder import SentenceEncoder


class DescriptorEncoder:
    """Encodes the words of users and items, inserted into prompt templates, as sentence vectors.

    Args:
        encoder: Frozen text encoder.
        token_embeddings: Input embeddings of the vocabulary, `(V, T)`.
        templates: Prompt templates of users and of items, with `{words}`.
        num_users: U.
        sentence_length: Number of words in the random sentences whose mean vectors are used for centering; no
            centering if None.
        separator: Text between two words in addition to white space, such as a comma.
    """

    def __init__(
        self,
        encoder: SentenceEncoder,
        token_embeddings: Tensor,
        templates: Sequence[str],
        num_users: int,
        sentence_length: int | None = None,
        separator: str = "",
    ) -> None:
        self._encoder = encoder
        self.token_embeddings = token_embeddings
        self._num_users = num_users
        self.prompts = [encoder.prompt(template) for template in templates]
        self._separator = token_embeddings.new_empty(0, token_embeddings.shape[1])  # `(C, T)`
        if separator:
            (ids,) = encoder.tokenizer(separator, add_special_tokens=False, return_tensors="pt").input_ids
            self._separator = encoder.token_embeddings(ids).to(token_embeddings)
        self.centers = None if sentence_length is None else self._measure_centers(sentence_length)

    def encode_tokens(self, tokens: Tensor, entity_ids: Tensor) -> Tensor:
        """Encode token embeddings `(B, S, T)` as sentence vectors `(B, E)`, differentiably."""
        kinds = (entity_ids >= self._num_users).long()
        vectors = self._encoder.encode_descriptors(self._insert_separators(tokens), self.prompts, kinds)
        return vectors if self.centers is None else F.normalize(vectors - self.centers[kinds], dim=1)

    @torch.no_grad()
    def encode(self, descriptors: Tensor, entity_ids: Tensor, batch_size: int = 256) -> Tensor:
        """Encode descriptors `(N, S)` as sentence vectors `(N, E)`, in batches."""
        tiles = zip(descriptors.split(batch_size), entity_ids.split(batch_size), strict=True)
        return torch.cat([self.encode_tokens(self.token_embeddings[words], ids) for words, ids in tiles])

    @torch.no_grad()
    def _measure_centers(self, sentence_length: int, num_sentences: int = 128) -> Tensor:
        """Mean vectors of sentences of random words in the prompts of users and items, `(2, E)`; deterministic."""
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randint(len(self.token_embeddings), (num_sentences, sentence_length), generator=generator)
        words = self.token_embeddings[drawn.to(self.token_embeddings.device)]
        kinds = (words.new_full((num_sentences,), kind, dtype=torch.long) for kind in range(len(self.prompts)))
        words = self._insert_separators(words)
        return torch.stack([self._encoder.encode_descriptors(words, self.prompts, kind).mean(0) for kind in kinds])

    def _insert_separators(self, tokens: Tensor) -> Tensor:
        """Insert the separator between the token embeddings of words: `(B, S, T)` to `(B, S + (S - 1) C, T)`."""
        between = self._separator.expand(*tokens.shape[:2], *self._separator.shape)
        together = torch.cat([tokens.unsqueeze(2), between], dim=2).flatten(1, 2)
        return together[:, : together.shape[1] - len(self._separator)]
