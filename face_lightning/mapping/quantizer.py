"""Interface of quantizers over a vocabulary."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Quantized(NamedTuple):
    """Result of a quantization.

    Attributes:
        quantized: Quantized vectors, differentiable in the input, `(B, S, d)`.
        indices: Tokens of each level, `(H, B, S)`; level 0 holds the descriptors.
        codebook_loss: Squared distance between codes and detached inputs; trains the codes.
        commitment_loss: Squared distance between inputs and detached codes; trains the encoder.
    """

    quantized: Tensor
    indices: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class Quantizer(nn.Module, ABC):
    """Base class of quantizers, which replace concept vectors by codes of vocabulary words; one file each.

    The S slots of an entity get words of different lemmas.

    Attributes:
        lemmas: Lemma of each word, `(V,)`, set by `TokenMapper.distinguish`; if None, each word is its own lemma.
    """

    lemmas: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lemmas", None, persistent=False)

    @property
    @abstractmethod
    def num_codes(self) -> int:
        """Number of codes, V."""

    @abstractmethod
    def codes(self) -> Tensor:
        """Return the codebook in the search space, `(V, d)`."""

    @abstractmethod
    def queries(self, inputs: Tensor) -> Tensor:
        """Map concept vectors `(..., d)` to the search space."""

    @abstractmethod
    def forward(self, inputs: Tensor, codes: Tensor | None = None) -> Quantized:
        """Quantize concept vectors `(B, S, d)`; pass `codes` to reuse a result of `codes()`."""

    @abstractmethod
    def nearest(self, inputs: Tensor, top_k: int, codes: Tensor | None = None) -> Tensor:
        """Find the tokens nearest to concept vectors `(B, S, d)`.

        Args:
            inputs: Concept vectors `(B, S, d)`.
            top_k: Number of tokens per slot, K.
            codes: Codes to search; those of the last call if None.

        Returns:
            Tokens `(B, S, K)`, best first.
        """
