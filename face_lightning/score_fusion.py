"""Fusion of two models: low-rank embeddings whose scores approximate the sum of the scores of both."""

import torch
from torch import Tensor

from face_lightning.structures import Embeddings


def mean_square(embeddings: Embeddings) -> Tensor:
    """Mean squared score over all pairs of users and items, a float64 scalar on the CPU."""
    users, items = (_gram(table) for table in embeddings)
    return (users * items).sum() / (len(embeddings.users) * len(embeddings.items))


def fuse_scores(embeddings: Embeddings, other: Embeddings, share: float) -> Embeddings:
    """Embeddings of dimension D whose scores best approximate the sum of two models' scores.

    The scores of `other` are scaled to `share` times the root mean square of those of `embeddings`. The sum, of rank
    D + E, is truncated to its D largest singular values (Eckart & Young, 1936), through Gram matrices, so no matrix of
    users x items is formed. The factors are unique up to a rotation; the one closest to `embeddings` is returned
    (orthogonal Procrustes), so that modules trained on these still apply.

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
    values, nonzero = values[:dim], values[:dim] > 1e-12 * values[0]
    inverse = torch.where(nonzero, values.clamp_min(torch.finfo(torch.float64).tiny).rsqrt(), 0.0)
    # With M = R_users R_items = L S R^T, the users' factors A R_users^-1 L S^1/2 equal A R_items R S^-1/2, which needs
    # no inverse of R_users.
    maps = roots[1] @ right[:dim].T * inverse, roots[0] @ left[:, :dim] * inverse
    tables = [table @ factors.to(table) for table, factors in zip(joined, maps, strict=True)]
    overlap = sum(new.T @ old for new, old in zip(tables, embeddings, strict=True))
    svd = torch.linalg.svd(torch.as_tensor(overlap).cpu().double())
    rotation = svd.U @ svd.Vh
    return Embeddings(*(table @ rotation.to(table) for table in tables))


def _gram(table: Tensor) -> Tensor:
    """`T^T T` in float64, on the CPU, as not every device supports it."""
    return (table.T @ table).cpu().double()


def _root(gram: Tensor) -> Tensor:
    """Symmetric square root of a positive semidefinite matrix."""
    eigenvalues, eigenvectors = torch.linalg.eigh(gram)
    root: Tensor = eigenvectors * eigenvalues.clamp_min(0).sqrt() @ eigenvectors.T
    return root
