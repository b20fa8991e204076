"""The sum of two models' scores as embeddings of the width of the first."""

import torch
from torch import Tensor

from face_lightning.structures import Embeddings


def mean_square(embeddings: Embeddings) -> Tensor:
    """Mean squared score over all pairs of users and items, a float64 scalar on the CPU."""
    users, items = (_gram(table) for table in embeddings)
    return (users * items).sum() / (len(embeddings.users) * len(embeddings.items))


def fuse_scores(embeddings: Embeddings, other: Embeddings, share: float) -> Embeddings:
    """Embeddings whose scores are nearest to the sum of two models' scores, of the width D of the first.

    The scores of `other` are scaled to `share` times the root mean square of those of `embeddings`. The sum, of rank
    D + E, is truncated to its D largest singular values (Eckart & Young, 1936), through Gram matrices: no matrix of
    users by items is formed. Of all factors of the result, which differ by a rotation, those nearest to `embeddings`
    are returned (orthogonal Procrustes), so that what was learnt on these still fits.

    Args:
        embeddings: Users `(U, D)` and items `(I, D)`.
        other: Users `(U, E)` and items `(I, E)`.
        share: Size of the scores of `other` relative to those of `embeddings`.
    """
    dim = embeddings.users.shape[1]
    scale = float(mean_square(embeddings) / mean_square(other).clamp_min(torch.finfo(torch.float64).tiny))
    weight = share**0.5 * scale**0.25  # on both sides
    joined = [torch.cat([one, weight * two], 1) for one, two in zip(embeddings, other, strict=True)]
    roots = [_root(_gram(table)) for table in joined]
    left, values, right = torch.linalg.svd(roots[0] @ roots[1])
    values, kept = values[:dim], values[:dim] > 1e-12 * values[0]
    inverse = torch.where(kept, values.clamp_min(torch.finfo(torch.float64).tiny).rsqrt(), 0.0)
    # With M = R_users R_items = L S R^T, users' factors are A R_users^-1 L S^1/2 = A R_items R S^-1/2, without inverse.
    maps = roots[1] @ right[:dim].T * inverse, roots[0] @ left[:, :dim] * inverse
    tables = [table @ factors.to(table) for table, factors in zip(joined, maps, strict=True)]
    overlap = sum(new.T @ old for new, old in zip(tables, embeddings, strict=True))
    turn = torch.linalg.svd(torch.as_tensor(overlap).cpu().double())
    rotation = turn[0] @ turn[2]
    return Embeddings(*(table @ rotation.to(table) for table in tables))


def _gram(table: Tensor) -> Tensor:
    """`T^T T` in float64 on the CPU: not every device has that precision."""
    return (table.T @ table).cpu().double()


def _root(gram: Tensor) -> Tensor:
    """Symmetric square root of a positive semidefinite matrix."""
    eigenvalues, eigenvectors = torch.linalg.eigh(gram)
    root: Tensor = eigenvectors * eigenvalues.clamp_min(0).sqrt() @ eigenvectors.T
    return root
