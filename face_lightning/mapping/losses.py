"""Loss terms of the mapper."""

from torch import Tensor

from face_lightning.mapping.anchoring import LexicalTargets, lexical_anchoring
from face_lightning.mapping.mapper import Mapped


def mapping_losses(
    mapped: Mapped, targets: LexicalTargets | None, temperature: float, num_negatives: int | None = None
) -> dict[str, Tensor]:
    """Compute the unweighted reconstruction, quantization and anchoring losses of mapped entities by name.

    `reconstruction = mean ||e^ - e||^2 / D` in the normalised space; `codebook` and `commitment` are the quantizer's
    losses; `anchoring` is `lexical_anchoring`.

    Args:
        mapped: Mapper's output for the entities.
        targets: Target words of the entities; no anchoring loss if None.
        temperature: Temperature of the anchoring loss.
        num_negatives: Number of sampled words in the anchoring loss's denominator; all words if None.
    """
    losses = {
        "reconstruction": (mapped.reconstruction - mapped.target).square().mean(),
        "codebook": mapped.quantized.codebook_loss,
        "commitment": mapped.quantized.commitment_loss,
    }
    if targets is not None:
        losses["anchoring"] = lexical_anchoring(mapped.concepts, mapped.codes, targets, temperature, num_negatives)
    return losses
