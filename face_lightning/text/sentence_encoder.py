"""Interface of sentence encoders, and prompts with a gap for descriptors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from face_lightning.errors import ConfigurationError


@dataclass(frozen=True)
class Prompt:
    """A sentence with a gap for descriptors, as raw input embeddings.

    Attributes:
        template: The sentence; "{words}" marks the gap.
        prefix: Embeddings before the gap, including special tokens, `(P, T)`.
        suffix: Embeddings after the gap, including special tokens, `(Q, T)`.
    """

    template: str
    prefix: Tensor
    suffix: Tensor


class TokenSource(Protocol):
    """Tokenizer and raw token embeddings: those of a `SentenceEncoder`, or `VocabularyFiles` without the encoder."""

    model: str
    cache_dir: Path

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401
        """The model's tokenizer."""

    @property
    def identity(self) -> str:
        """Key of everything that the tokenizer and the embeddings depend on."""

    def token_embeddings(self, token_ids: Tensor) -> Tensor:
        """Return the raw input embeddings of `token_ids` `(N,)` as `(N, T)` in float32."""


class SentenceEncoder(ABC):
    """A frozen language model that maps texts, and prompts filled with token embeddings, to unit vectors.

    It computes without dropout, and gradients reach the token embeddings of descriptors. It is not an `nn.Module`:
    as an attribute of a `LightningModule` it is neither trained, nor set to training mode, nor saved; its owner moves
    it with `to`.

    Attributes:
        model: Name of the model, for messages.
        cache_dir: Folder of cached vocabularies and vectors.
    """

    model: str
    cache_dir: Path

    @property
    @abstractmethod
    def tokenizer(self) -> Any:  # noqa: ANN401 -- a class of transformers, which is not imported here
        """The model's tokenizer, with the interface of transformers."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Key of everything that the vectors depend on: weights, settings and tokenizer."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Dimension E of the sentence vectors."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Compute on `device` from now on."""

    @abstractmethod
    def token_embeddings(self, token_ids: Tensor) -> Tensor:
        """Return the raw input embeddings of `token_ids` `(N,)` as `(N, T)` in float32."""

    @abstractmethod
    def encode(self, texts: Sequence[str | None], batch_size: int = 64, progress: bool = False) -> Tensor:
        """Encode texts.

        Args:
            texts: N texts; None stands for a missing text.
            batch_size: Number of texts per forward pass.
            progress: Whether to show a progress bar.

        Returns:
            Unit vectors `(N, E)` in float32 on the CPU; rows of missing texts are NaN.
        """

    @abstractmethod
    def encode_descriptors(self, words: Tensor, prompts: Sequence[Prompt], prompt_ids: Tensor) -> Tensor:
        """Encode prompts filled with descriptors given as token embeddings, differentiably.

        Row n encodes the sentence prefix + words[n] + suffix of prompt `prompt_ids[n]`. With the embeddings of
        single-token words, the result equals the vector of the text with the words joined by spaces.

        Args:
            words: Token embeddings of S descriptors per row, `(N, S, T)`, on any device.
            prompts: Prompts to choose from.
            prompt_ids: Index of the prompt of each row, `(N,)`.

        Returns:
            Unit vectors `(N, E)` in float32 on the encoder's device.

        Raises:
            ConfigurationError: If the longest sentence exceeds the model's maximum length.
        """

    def prompt(self, template: str) -> Prompt:
        """Embed the parts of a sentence before and after the gap for descriptors.

        Args:
            template: Sentence with "{words}" exactly once.

        Raises:
            ConfigurationError: If "{words}" does not occur exactly once.
        """
        if template.count("{words}") != 1:
            raise ConfigurationError(
                f"template: expected the gap {{words}} exactly once, got {template!r}; mark the place of the "
                "descriptors with {words}"
            )
        before, after = template.split("{words}")
        probe = self.tokenizer("a", return_special_tokens_mask=True)
        ids, special = probe["input_ids"], probe["special_tokens_mask"]
        first, last = special.index(0), len(special) - 1 - special[::-1].index(0)

        # Tokenizers that keep spaces make the space before a word part of the word. The text after the gap is tokenized
        # after a word, because some tokenizers add a space at the beginning of a text.
        left = self._tokens(before.rstrip())
        with_word = self._tokens(f"{before.rstrip()} word")
        whole = self._tokens(f"{before.rstrip()} word{after}")
        right = whole[len(with_word) :] if whole[: len(with_word)] == with_word else self._tokens(after)
        sides = [*ids[:first], *left], [*right, *ids[last + 1 :]]
        prefix, suffix = (self.token_embeddings(torch.tensor(side, dtype=torch.long)) for side in sides)
        return Prompt(template, prefix, suffix)

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
