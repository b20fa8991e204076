"""The mapper as a program that torch runs without this package."""

from pathlib import Path

import torch
from torch import Tensor, nn

from face_lightning.mapping.mapper import TokenMapper
from face_lightning.mapping.residual_quantizer import ResidualQuantizer


class DescriptorProgram(nn.Module):
    """Descriptors of embeddings, by operations that `torch.export` can trace.

    Slots choose in turn among the words whose lemma no slot before them took, as `search_distinct` does.

    Args:
        mapper: Mapper in evaluation mode, with a `ResidualQuantizer`.
    """

    def __init__(self, mapper: TokenMapper) -> None:
        super().__init__()
        self.mapper = mapper
        codes = mapper.quantizer.codes().detach()
        assert isinstance(mapper.quantizer, ResidualQuantizer), "other quantizers choose words in other ways"
        offsets = 0.5 * codes.square().sum(1)  # the nearest code has the largest product less half its square
        self.codes: Tensor
        self.offsets: Tensor
        self.lemmas: Tensor
        lemmas = mapper.quantizer.lemmas
        self.register_buffer("lemmas", torch.arange(len(codes)) if lemmas is None else lemmas)
        self.num_lemmas = int(self.lemmas.max()) + 1
        self.register_buffer("codes", codes)
        self.register_buffer("offsets", offsets * (mapper.quantizer.similarity == "l2"))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Words `(B, S)`, as lines of `words.txt` from 0, of embeddings `(B, D)`."""
        scores = self.mapper.encode(embeddings) @ self.codes.T - self.offsets
        taken = torch.zeros(scores.shape[0], self.num_lemmas, dtype=torch.bool)
        chosen = []
        for slot in range(scores.shape[1]):
            best = scores[:, slot].masked_fill(taken[:, self.lemmas], -torch.inf).argmax(1, keepdim=True)
            taken = taken.scatter(1, self.lemmas[best], True)
            chosen.append(best)
        return torch.cat(chosen, 1)


def can_export(mapper: TokenMapper) -> bool:
    """Whether the mapper chooses words in the way that the program does."""
    return isinstance(mapper.quantizer, ResidualQuantizer)


def write_program(mapper: TokenMapper, embedding_dim: int, path: Path) -> None:
    """Write the program for any number of embeddings, on the CPU.

    Args:
        mapper: Mapper in evaluation mode.
        embedding_dim: D.
        path: File to write, `.pt2`.
    """
    example = torch.randn(3, embedding_dim, generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        program = torch.export.export(DescriptorProgram(mapper), (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
