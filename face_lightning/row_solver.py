"""Exact, batched weighted least squares for rows of a factorisation; the cost depends on a row's interactions."""

import torch
import torch.nn.functional as F
from torch import Tensor


class RowSolver:
    """Solves for rows x of one side's table, given the table Y `(M, D)` of the other side.

    The row of an entity with interactions O minimises

    `sum_{i in O} (x . y_i - t_i)^2 + w sum_i (x . y_i)^2 + l ||x||^2`

    where targets t default to 1. The second sum depends on the Gram matrix `Y^T Y` alone, which is the same for all
    rows, and diagonal in the basis of its eigenvectors. By the Woodbury identity, the solution in this basis is
    `x = H^-1 Y_O^T (1 + Y_O H^-1 Y_O^T)^-1 t_O` with `H = w diag(eigenvalues) + l`: a linear system of size |O|, or of
    size D where that is smaller.

    Reference:
        Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008.

    Args:
        table: Y.
        unobserved_weight: w >= 0.
        targets: t, one for each row of Y, `(M,)`; 1 if None.
    """

    def __init__(self, table: Tensor, unobserved_weight: float, targets: Tensor | None = None) -> None:
        table = table.detach().float()
        with torch.autocast(table.device.type, enabled=False):
            gram = (table.T @ table).cpu().double()  # on the CPU, as not every device supports float64
            eigenvalues, eigenvectors = torch.linalg.eigh(gram)
            self._eigenvectors = eigenvectors.to(table)
            self._rotated = F.pad(table @ self._eigenvectors, (0, 0, 0, 1))  # padding ids select the last row, of zeros
        targets = table.new_ones(len(table)) if targets is None else targets.to(table)
        self._targets = F.pad(targets, (0, 1))
        self._diagonal = (unobserved_weight * eigenvalues.clamp_min(0)).to(table)

    def solve(self, column_ids: Tensor, lengths: Tensor, regularization: Tensor) -> Tensor:
        """Solve for a batch of rows `(B, D)`.

        Args:
            column_ids: Row of Y for each interaction, `(B, N)`, padded after `lengths`.
            lengths: Number of interactions of each row, `(B,)`; a row without any is 0.
            regularization: l > 0, `(B,)`.
        """
        num_columns = column_ids.shape[1]
        if not column_ids.numel():
            return torch.zeros(len(column_ids), self._rotated.shape[1], device=column_ids.device)
        present = torch.arange(num_columns, device=lengths.device) < lengths.unsqueeze(1)
        with torch.autocast(self._rotated.device.type, enabled=False):
            scale = (self._diagonal + regularization.unsqueeze(1)).rsqrt()  # H^-1/2
            padded = column_ids.where(present, len(self._rotated) - 1)
            columns = F.embedding(padded, self._rotated).mul_(scale.unsqueeze(1))
            wide = num_columns > columns.shape[2]
            system = columns.mT @ columns if wide else columns @ columns.mT
            system.diagonal(dim1=1, dim2=2).add_(1)
            targets = self._targets[padded].unsqueeze(2)
            factor = torch.linalg.cholesky(system)
            # Vectors are the left factors, as batched products of row vectors and matrices are several times faster.
            if wide:
                rows = torch.cholesky_solve((targets.mT @ columns).mT, factor).mT
            else:
                rows = torch.cholesky_solve(targets, factor).mT @ columns
            solved: Tensor = rows.squeeze(1).mul_(scale) @ self._eigenvectors.T
        return solved
