"""User-item graph and its symmetric propagation."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

EDGE_TYPE = ("user", "interacts", "item")


class InteractionGraph:
    """Bipartite graph of training interactions.

    The interactions are stored in a torch-geometric `HeteroData` (`data`): `edge_index` `(2, N)` of the edge type
    user-interacts-item and `edge_weight` `(N,)` = 1 / sqrt(deg(u) deg(i)). The symmetric adjacency over `U + I` nodes
    in CSR form, which propagation uses, is built on first use and cached on the graph's device. All are dense tensors,
    as sparse tensors as buffers break DDP.

    Args:
        data: Graph from `build_graph`.
    """

    def __init__(self, data: HeteroData) -> None:
        self.data = data
        self._csr: tuple[Tensor, Tensor, Tensor] | None = None
        self._values: Tensor | None = None

    @property
    def num_users(self) -> int:
        """Number of users, U."""
        return int(self.data["user"].num_nodes)

    @property
    def num_items(self) -> int:
        """Number of items, I."""
        return int(self.data["item"].num_nodes)

    @property
    def num_interactions(self) -> int:
        """Number of training interactions, N."""
        return int(self.edge_index.shape[1])

    @property
    def edge_index(self) -> Tensor:
        """User ids and item ids of the interactions, `(2, N)`, sorted by user, then item."""
        index: Tensor = self.data[EDGE_TYPE].edge_index
        return index

    @property
    def edge_weight(self) -> Tensor:
        """Symmetric normalisation 1 / sqrt(deg(u) deg(i)), `(N,)` float32."""
        weight: Tensor = self.data[EDGE_TYPE].edge_weight
        return weight

    @property
    def device(self) -> torch.device:
        """Device of the edges."""
        return self.edge_index.device

    def to(self, device: torch.device | str) -> InteractionGraph:
        """Copy the graph to `device`; returns the graph itself if it is already there."""
        if self.device == torch.device(device):
            return self
        return InteractionGraph(self.data.clone().to(device))

    def item_degrees(self) -> Tensor:
        """Number of training interactions of each item, `(I,)` int64."""
        return torch.bincount(self.edge_index[1], minlength=self.num_items)

    def _adjacency(self) -> tuple[Tensor, Tensor, Tensor]:
        """Symmetric adjacency in CSR form: row pointers, columns, and the index of the interaction of each entry."""
        if self._csr is None:
            users, items = self.edge_index
            num_nodes = self.num_users + self.num_items
            rows = torch.cat([users, items + self.num_users])
            columns = torch.cat([items + self.num_users, users])
            order = torch.argsort(rows * num_nodes + columns)
            crow = torch.zeros(num_nodes + 1, dtype=torch.int64, device=rows.device)
            crow[1:] = torch.bincount(rows, minlength=num_nodes).cumsum(0)
            edge = torch.arange(self.num_interactions, device=rows.device).repeat(2)[order]
            narrow = torch.int32 if rows.numel() < 2**31 else torch.int64
            self._csr = crow.to(narrow), columns[order].to(narrow), edge
        return self._csr

    def _matrix(self, edge_weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Symmetric adjacency in CSR form: row pointers, columns, and weights, by default the normalised ones."""
        crow, columns, edge = self._adjacency()
        if edge_weight is not None:
            return crow, columns, edge_weight[edge]
        if self._values is None:
            self._values = self.edge_weight[edge]
        return crow, columns, self._values

    def propagate(self, nodes: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """One step of symmetric propagation, `A @ nodes`, in float32 even under autocast.

        Args:
            nodes: Features of users, then items, `(U + I, D)`.
            edge_weight: Weight of each interaction `(N,)`, without gradient; the normalised weights if None.

        Returns:
            Propagated features `(U + I, D)`.
        """
        crow, columns, values = self._matrix(edge_weight)
        product: Tensor = _SymmetricProduct.apply(  # type: ignore[no-untyped-call]
            crow, columns, values, nodes.float()
        )
        return product

    @torch.no_grad()
    def propagate_to(self, rows: Tensor, nodes: Tensor) -> Tensor:
        """Compute selected rows of `propagate(nodes)`, at the cost of their interactions alone, without gradient.

        Args:
            rows: Indices of the nodes, users before items, `(N,)`.
            nodes: Features of users, then items, `(U + I, D)`.

        Returns:
            Propagated features of those nodes, `(N, D)`.
        """
        crow, columns, values = self._matrix(None)
        begins = crow[rows]
        counts = crow[rows + 1] - begins
        ends = F.pad(counts.cumsum(0), (1, 0))
        entries = torch.arange(int(ends[-1]), device=rows.device)
        entries += torch.repeat_interleave(begins - ends[:-1], counts)
        return _csr_product(ends.to(columns.dtype), columns[entries], values[entries], nodes.float())

    def propagate_sum(
        self, nodes: Tensor, num_steps: int, edge_weight: Tensor | None = None, first: Tensor | None = None
    ) -> Tensor:
        """Sum of the features and all their propagations, `(1 + A + A^2 + ... + A^L) @ nodes`.

        Forward and backward are computed by Horner's rule, `y <- nodes + A y`, which needs one buffer per step and
        saves none for the backward pass.

        Args:
            nodes: Features of users, then items, `(U + I, D)`.
            num_steps: L >= 0.
            edge_weight: See `propagate`.
            first: `propagate(nodes, edge_weight)`, `(U + I, D)`, if it is already known; saves one product.

        Returns:
            `(U + I, D)`.
        """
        crow, columns, values = self._matrix(edge_weight)
        total: Tensor = _SymmetricSum.apply(  # type: ignore[no-untyped-call]
            crow, columns, values, nodes.float(), num_steps, first
        )
        return total

    def dropped_weights(self, keep: float) -> Tensor:
        """Edge dropout: normalised weights where each interaction is kept with probability `keep`, and 0 otherwise.

        Both directions of an interaction are kept or dropped together, and kept weights are scaled by
        1 / `keep`, so that propagation is unbiased. No index tensor is rebuilt.

        Args:
            keep: Probability of keeping an interaction, in (0, 1].
        """
        mask = torch.rand(self.num_interactions, device=self.device) < keep
        return self.edge_weight * mask / keep


def build_graph(train: sp.csr_array) -> InteractionGraph:
    """Build the graph of the training interactions.

    Args:
        train: Binary matrix `(U, I)` in CSR form with sorted column indices.
    """
    num_users, num_items = train.shape
    users = np.repeat(np.arange(num_users), np.diff(train.indptr))
    edge_index = torch.from_numpy(np.stack([users, train.indices]).astype(np.int64))
    degrees = [torch.bincount(edge_index[side], minlength=train.shape[side]) for side in (0, 1)]
    inverse_root = [degree.clamp_min(1).double().rsqrt() for degree in degrees]
    data = HeteroData()
    data["user"].num_nodes = num_users
    data["item"].num_nodes = num_items
    data[EDGE_TYPE].edge_index = edge_index
    data[EDGE_TYPE].edge_weight = (inverse_root[0][edge_index[0]] * inverse_root[1][edge_index[1]]).float()
    return InteractionGraph(data)


class _SymmetricProduct(torch.autograd.Function):
    """Product of a symmetric CSR matrix with dense features.

    The backward pass is the same product, as the matrix equals its transpose. Autograd through sparse tensors would
    build and sort a transposed copy.
    """

    @staticmethod
    def forward(ctx: Any, crow: Tensor, columns: Tensor, values: Tensor, nodes: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(crow, columns, values)
        return _csr_product(crow, columns, values, nodes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, Tensor]:  # noqa: ANN401
        crow, columns, values = ctx.saved_tensors
        return None, None, None, _csr_product(crow, columns, values, gradients[0].contiguous())


class _SymmetricSum(torch.autograd.Function):
    """Sum of the powers of a symmetric CSR matrix, from the 0th on, times dense features; also equals its transpose."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        crow: Tensor,
        columns: Tensor,
        values: Tensor,
        nodes: Tensor,
        num_steps: int,
        first: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(crow, columns, values)
        ctx.num_steps = num_steps
        return _power_sum(crow, columns, values, nodes, num_steps, first)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, Tensor, None, None]:  # noqa: ANN401
        crow, columns, values = ctx.saved_tensors
        total = _power_sum(crow, columns, values, gradients[0].contiguous(), ctx.num_steps, None)
        return None, None, None, total, None, None


def _power_sum(
    crow: Tensor, columns: Tensor, values: Tensor, nodes: Tensor, num_steps: int, first: Tensor | None
) -> Tensor:
    if num_steps == 0:
        return nodes.clone()
    total = _csr_product(crow, columns, values, nodes).add_(nodes) if first is None else nodes + first
    for _ in range(1, num_steps):
        total = _csr_product(crow, columns, values, total).add_(nodes)
    return total


def _csr_product(crow: Tensor, columns: Tensor, values: Tensor, nodes: Tensor) -> Tensor:
    """Product of a CSR matrix and a dense one; on the CPU by `embedding_bag`, three times as fast as MKL's kernel."""
    if nodes.device.type == "cpu" and nodes.dtype == torch.float32:
        return F.embedding_bag(columns, nodes, crow, mode="sum", per_sample_weights=values, include_last_offset=True)
    size = (len(crow) - 1, len(nodes))
    with torch.autocast(device_type=nodes.device.type, enabled=False):  # also in the backward pass
        matrix = torch.sparse_csr_tensor(crow, columns, values, size=size, check_invariants=False)
        return matrix @ nodes
