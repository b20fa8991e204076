"""Text vectors of all entities, from their texts or from a file that brought vectors."""

import sys
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.distributed import rank
from face_lightning.errors import DataError
from face_lightning.text.encoders import TextEncoder


class EntityProfiles(Protocol):
    """Texts of users and items, or vectors that take their place; what a data module has to offer."""

    user_texts: Sequence[str | None]
    item_texts: Sequence[str | None]
    user_vectors: np.ndarray | None
    item_vectors: np.ndarray | None
    user_labels: Sequence[str]
    item_labels: Sequence[str]
    domain: str


def entity_vectors(encoder: TextEncoder, profiles: EntityProfiles) -> Tensor:
    """Unit vectors of the texts of users, then items, `(U + I, E)` on the CPU; rows without text are NaN.

    Args:
        encoder: Encoder of the texts.
        profiles: Texts, or vectors in place of them.

    Raises:
        DataError: If there is no text at all, or given vectors have another width than the encoder's.
    """
    vectors = torch.cat(
        [
            _vectors(encoder, "user", profiles.user_texts, profiles.user_vectors),
            _vectors(encoder, "item", profiles.item_texts, profiles.item_vectors),
        ]
    )
    if vectors.isnan().any(1).all():
        raise DataError("profiles: expected texts of users or items, got none at all; give a reader with texts")
    return vectors


def _vectors(encoder: TextEncoder, kind: str, texts: Sequence[str | None], given: np.ndarray | None) -> Tensor:
    if given is None:
        return encoder.encode(texts, progress=sys.stderr.isatty() and rank() == 0)  # a bar would fill a log
    if given.shape[1] != encoder.width:
        raise DataError(
            f"{kind}_vectors: expected width {encoder.width} of the text encoder, got {given.shape[1]}; "
            "encode the texts with the encoder that reads the descriptors, or leave the vector files out"
        )
    return F.normalize(torch.from_numpy(given), dim=-1)
