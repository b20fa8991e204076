"""Disentangled projection of one embedding into several concept vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DisentangledProjection(nn.Module):
    """One affine map per descriptor slot: `x_s = W_s e + b_s` for s = 1..S.

    Each `W_s` `(d, D)` is initialised with orthonormal rows (columns if d > D), each bias with zeros. All slots are
    computed in one matrix product, without copying the weights.

    Reference:
        FACE (NeurIPS 2025), section on disentangled projection.

    Note:
        The paper's code initialises the (S, D, d) tensor as one flattened matrix and draws biases from N(0, 1), so
        that biases make up 99 % of the concept vectors. Here each slot is orthogonal.

    Args:
        input_dim: D.
        output_dim: d.
        num_slots: S.
        shared: Whether all slots share one map (an ablation); slots then differ only by their biases, which are
            initialised with small random values.
    """

    def __init__(self, input_dim: int, output_dim: int, num_slots: int, shared: bool = False) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.weight = nn.Parameter(torch.empty(1 if shared else num_slots, output_dim, input_dim))
        self.bias = nn.Parameter(torch.zeros(num_slots, output_dim))
        for slot in self.weight.data:
            nn.init.orthogonal_(slot)
        if shared:
            nn.init.normal_(self.bias, std=0.1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Project embeddings `(B, D)` to concept vectors `(B, S, d)`."""
        projected: Tensor = F.linear(embeddings, self.weight.flatten(0, 1)).unflatten(1, self.weight.shape[:2])
        return projected + self.bias
