"""Texts of all users and items and their sentence vectors."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.distributed import rank
from face_lightning.errors import DataError
from face_lightning.text.sentence_encoder import SentenceEncoder
from face_lightning.words.centering import center


class EntityProfiles(Protocol):
    """Texts of users and items, or precomputed vectors, as provided by a data module."""

    user_texts: Sequence[str | None]
    item_texts: Sequence[str | None]
    user_vectors: np.ndarray | None
    item_vectors: np.ndarray | None
    user_labels: Sequence[str]
    item_labels: Sequence[str]
    domain: str


@dataclass(frozen=True)
class EntityTexts:
    """Texts of all entities, users first, with their vectors on the device of a stage.

    Attributes:
        num_users: U.
        labels: Display name of each entity, U + I.
        texts: Text of each entity, U + I; None if it has none.
        vectors: Unit vectors `(U + I, E)`; zeros for entities without text.
        present: Mask of entities with text, `(U + I,)`.
        classes: Class of each entity's text, the same for identical texts, `(U + I,)`.
    """

    num_users: int
    labels: Sequence[str]
    texts: Sequence[str | None]
    vectors: Tensor
    present: Tensor
    classes: Tensor


def collect_texts(profiles: EntityProfiles, vectors: Tensor, device: torch.device | str, centered: bool) -> EntityTexts:
    """Combine texts, labels and vectors of all entities.

    Args:
        profiles: Texts and labels.
        vectors: Result of `text_vectors` for the profiles.
        device: Device of the tensors.
        centered: Whether to center the vectors, those of users and items separately.
    """
    num_users = len(profiles.user_texts)
    present = ~vectors.isnan().any(1)
    if centered:
        vectors = torch.cat([center(kind) for kind in vectors.split([num_users, len(vectors) - num_users])])
    vectors = vectors.nan_to_num().to(device)
    return EntityTexts(
        num_users=num_users,
        labels=[*profiles.user_labels, *profiles.item_labels],
        texts=[*profiles.user_texts, *profiles.item_texts],
        vectors=vectors,
        present=present.to(device),
        classes=torch.unique(vectors, dim=0, return_inverse=True)[1],
    )


def text_vectors(encoder: SentenceEncoder, profiles: EntityProfiles) -> Tensor:
    """Encode the texts of users, then items.

    Args:
        encoder: Encoder of the texts.
        profiles: Texts, or precomputed vectors.

    Returns:
        Unit vectors `(U + I, E)` on the CPU; rows without text are NaN.

    Raises:
        DataError: If there is no text at all, or the width of precomputed vectors is not that of the encoder.
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


def _vectors(encoder: SentenceEncoder, kind: str, texts: Sequence[str | None], given: np.ndarray | None) -> Tensor:
    if given is None:
        return encoder.encode(texts, progress=sys.stderr.isatty() and rank() == 0)  # no progress bar in log files
    if given.shape[1] != encoder.width:
        raise DataError(
            f"{kind}_vectors: expected width {encoder.width} of the text encoder, got {given.shape[1]}; "
            "encode the texts with the encoder that reads the descriptors, or leave the vector files out"
        )
    return F.normalize(torch.from_numpy(given), dim=-1)
