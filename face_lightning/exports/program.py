"""Export of the mapper as a program that torch runs without this package."""

from pathlib import Path

import torch
from torch import Tensor, nn

from face_lightning.mapping.mapper import TokenMapper
from face_lightning.mapping.residual_quantizer import ResidualQuantizer


class DescriptorProgram(nn.Module):
    """Maps embeddings to descriptors, by operations that `torch.export` can trace.

    Slots choose their words one after the other, without lemmas that earlier slots have chosen, like `search_distinct`.

    Args:
        mapper: Mapper in evaluation mode, with a `ResidualQuantizer`.
    """

    def __init__(self, mapper: TokenMapper) -> None:
        super().__init__()
        self.mapper = mapper
        codes = mapper.quantizer.codes().detach()
        assert isinstance(mapper.quantizer, ResidualQuantizer), "other quantizers choose words differently"
        offsets = 0.5 * codes.square().sum(1)  # the nearest code maximises the inner product minus half its square norm
        self.codes: Tensor
        self.offsets: Tensor
        self.lemmas: Tensor
        lemmas = mapper.quantizer.lemmas
        self.register_buffer("lemmas", torch.arange(len(codes)) if lemmas is None else lemmas)
        self.num_lemmas = int(self.lemmas.max()) + 1
        self.register_buffer("codes", codes)
        self.register_buffer("offsets", offsets * (mapper.quantizer.similarity == "l2"))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map embeddings `(B, D)` to words `(B, S)`, given as line numbers of `words.txt`, from 0."""
        scores = self.mapper.encode(embeddings) @ self.codes.T - self.offsets
        taken = torch.zeros(scores.shape[0], self.num_lemmas, dtype=torch.bool)
        words = []
        for slot in range(scores.shape[1]):
            best = scores[:, slot].masked_fill(taken[:, self.lemmas], -torch.inf).argmax(1, keepdim=True)
            taken = taken.scatter(1, self.lemmas[best], True)
            words.append(best)
        return torch.cat(words, 1)


def can_export(mapper: TokenMapper) -> bool:
    """Whether `DescriptorProgram` supports the mapper's quantizer."""
    return isinstance(mapper.quantizer, ResidualQuantizer)


def write_program(mapper: TokenMapper, embedding_dim: int, path: Path) -> None:
    """Write the program of a mapper for the CPU, with a dynamic batch size.

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
