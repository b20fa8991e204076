"""Alignment losses between the descriptors and the texts of entities."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from face_lightning.distributed import gather_rows
from face_lightning.errors import check_range
from face_lightning.losses.contrastive import info_nce


class AlignmentLoss(nn.Module, ABC):
    """Base class of losses that align sentence vectors of descriptors with those of their texts; one file each."""

    @abstractmethod
    def forward(self, descriptor_vectors: Tensor, text_vectors: Tensor, positives: Tensor, same_text: Tensor) -> Tensor:
        """Return the mean loss over this process's entities, a scalar; without entities, a differentiable 0.

        Args:
            descriptor_vectors: Unit vectors of this process's descriptors, `(N, E)`.
            text_vectors: Unit vectors of the texts of all processes' entities, `(M, E)`.
            positives: Row of `text_vectors` that belongs to each descriptor, `(N,)`.
            same_text: Mask of pairs with identical texts `(N, M)`, which are not used as negatives.
        """


class InfoNCEAlignment(AlignmentLoss):
    """InfoNCE of descriptors with the texts of a batch; see `info_nce`.

    Reference:
        FACE (NeurIPS 2025), L_align.

    Args:
        temperature: Temperature tau.
        symmetric: Whether to average with the InfoNCE of texts with descriptors.

    Raises:
        ConfigurationError: If the temperature is not positive.
    """

    def __init__(self, temperature: float = 0.05, symmetric: bool = False) -> None:
        super().__init__()
        check_range("temperature", temperature, above=0, usual="0.05")
        self.temperature = temperature
        self.symmetric = symmetric

    def forward(self, descriptor_vectors: Tensor, text_vectors: Tensor, positives: Tensor, same_text: Tensor) -> Tensor:
        """See `AlignmentLoss`."""
        loss = info_nce(descriptor_vectors, text_vectors, self.temperature, same_text, positives=positives)
        if not self.symmetric:
            return loss
        own, others = text_vectors[positives], gather_rows(descriptor_vectors)
        return (loss + info_nce(own, others, self.temperature, same_text, positives=positives)) / 2
