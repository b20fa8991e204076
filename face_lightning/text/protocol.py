"""What the rest of the package needs of a language model, whatever is inside."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """A sentence with a gap for descriptors, as raw input embeddings.

    Attributes:
        template: The sentence; "{words}" marks the gap.
        prefix: What stands before the gap, special tokens included, `(P, T)`.
        suffix: What stands behind it, special tokens included, `(Q, T)`.
    """

    template: str
    prefix: Tensor
    suffix: Tensor


class TokenSource(Protocol):
    """Tokenizer and raw token embeddings of a model: a `TextEncoder`, or `VocabularyFiles` without its encoder."""

    model: str
    cache_dir: Path

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401
        """The model's tokenizer."""

    @property
    def identity(self) -> str:
        """Key of all that tokenizer and embeddings depend on."""

    def token_embeddings(self, token_ids: Tensor) -> Tensor:
        """Return the raw input embeddings of `token_ids` `(N,)` as `(N, T)` in float32."""


class SentenceEncoder(TokenSource, Protocol):
    """What mapping and alignment need of a text encoder, whatever is inside.

    Texts, and sentences with a gap that token embeddings fill, become vectors of unit length in one space.
    The encoder is frozen and computes without dropout; gradients reach the token embeddings.
    """

    @property
    def width(self) -> int:
        """Size E of the sentence vectors."""

    @property
    def token_dim(self) -> int:
        """Size T of the raw token embeddings."""

    def to(self, device: torch.device | str) -> Self:
        """Compute on `device` from now on."""

    def encode(self, texts: Sequence[str | None], batch_size: int = 64, progress: bool = False) -> Tensor:
        """Turn N texts into `(N, E)`; rows of missing texts are NaN."""

    def prompt(self, template: str) -> Prompt:
        """Split a sentence at its gap "{words}"."""

    def encode_descriptors(self, words: Tensor, prompts: Sequence[Prompt], prompt_ids: Tensor) -> Tensor:
        """Encode sentences around token embeddings `(N, S, T)` as `(N, E)`, keeping their gradient."""
