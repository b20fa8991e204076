"""A run without training: generated embeddings, and items that users have seen."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from face_lightning.runs.inference import write_data, write_embeddings
from face_lightning.structures import Embeddings

SEEN = 20  # items per user


def generate(num_rows: int, dim: int, seed: int) -> Tensor:
    """Gaussian rows `(num_rows, dim)` with variances that fall as 1 / rank."""
    scales = torch.arange(1, dim + 1).rsqrt()
    return torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(seed)) * scales


def write_run(folder: Path, num_users: int, num_items: int, dim: int) -> Path:
    """Write the files of a finished run that inference needs."""
    folder.mkdir(parents=True)
    items = np.random.default_rng(0).integers(num_items, size=(num_users, SEEN), dtype=np.int32)
    indices = np.sort(items, axis=1).ravel()
    ones, starts = np.ones(len(indices), np.float32), np.arange(0, len(indices) + 1, SEEN)
    train = csr_array((ones, indices, starts), shape=(num_users, num_items))
    train.sum_duplicates()
    empty: Any = csr_array((num_users, num_items), dtype=np.float32)
    write_data(folder, [train, empty, empty], (np.arange(num_users), np.arange(num_items)), None, "generated")
    write_embeddings(folder, Embeddings(generate(num_users, dim, 1), generate(num_items, dim, 2)), "generated")
    return folder
