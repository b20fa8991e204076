"""What every quantizer over a vocabulary provides."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Quantized(NamedTuple):
    """Result of a quantization.

    Attributes:
        quantized: What stands for the input, with the gradient passed to it, `(B, S, d)`.
        indices: Tokens of every level, `(H, B, S)`; level 0 holds the descriptors.
        codebook_loss: Distance of codes from fixed inputs; moves the codes.
        commitment_loss: Distance of inputs from fixed codes; moves the encoder.
    """

    quantized: Tensor
    indices: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor


class Quantizer(nn.Module, ABC):
    """Replaces concept vectors by codes of the vocabulary's words. A quantizer is one file.

    No two words of one lemma are chosen among the S slots of an entity.

    Attributes:
        lemmas: Lemma of each word, `(V,)`, which `TokenMapper.distinguish` sets; None where each word has its own.
    """

    lemmas: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("lemmas", None, persistent=False)

    @property
    @abstractmethod
    def num_codes(self) -> int:
        """V."""

    @abstractmethod
    def codes(self) -> Tensor:
        """The codebook as the search sees it, `(V, d)`."""

    @abstractmethod
    def queries(self, inputs: Tensor) -> Tensor:
        """Concept vectors `(..., d)` as the search sees them."""

    @abstractmethod
    def forward(self, inputs: Tensor, codes: Tensor | None = None) -> Quantized:
        """Quantize concept vectors `(B, S, d)`; `codes` are those of `codes()`, where the caller has them."""

    @abstractmethod
    def nearest(self, inputs: Tensor, top_k: int, codes: Tensor | None = None) -> Tensor:
        """Tokens `(B, S, K)` nearest to concept vectors, best first, among these codes or the last ones."""
