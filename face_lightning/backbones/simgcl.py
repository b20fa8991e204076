"""SimGCL: LightGCN with a contrastive loss between two randomly perturbed views of the nodes."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.backbones.lightgcn import LightGCN
from face_lightning.distributed import gather_unique, own_rows
from face_lightning.graph import InteractionGraph
from face_lightning.losses.contrastive import contrast_with_all, unit_vectors
from face_lightning.search_space import Between, OneOf, SearchSpace
from face_lightning.structures import Embeddings, TrainingBatch

_LOWEST_BITS = 0x0101010101010101  # of eight bytes


class SimGCL(LightGCN):
    """Contrasts two views of the nodes, each with random noise of fixed length added to every propagated layer.

    `E'_{l+1} = A E'_l + eps * sign(A E'_l) * d` with d a random unit vector in the positive orthant;
    `L = w (InfoNCE(users) + InfoNCE(items))` over the users and items of a batch.

    Reference:
        Yu et al., "Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for
        Recommendation", SIGIR 2022.

    Note:
        The noise carries no gradient and propagation is linear, so the gradient of a view is that of the clean
        embedding: one backward pass through the graph serves the ranking loss and both views.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
        num_layers: Propagation steps, L >= 1.
        contrast_weight: Weight w of the contrastive loss.
        temperature: Temperature of the contrastive loss.
        noise_scale: Length eps of the noise added to a node in each layer.
        negatives: Negatives of a user (or item): "all" users (or items), as in the RLMRec and FACE code, or those of
            the "batch", as in the SimGCL paper.
        max_contrasted: Maximum number of users, and of items, per step in the contrastive loss, chosen evenly from
            those of the batch; null for all. Bounds the loss's cost with large batches.
        combine: Whether layers are summed or averaged.
    """

    columns_are_independent: ClassVar[bool] = False  # the contrastive loss compares whole rows
    search_space: ClassVar[SearchSpace] = {
        "num_layers": OneOf((1, 2, 3)),
        "contrast_weight": Between(0.01, 0.5),
        "temperature": Between(0.1, 0.5),
        "noise_scale": Between(0.05, 1.0),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int = 256,
        num_layers: int = 3,
        contrast_weight: float = 0.1,
        temperature: float = 0.2,
        noise_scale: float = 0.9,
        negatives: Literal["all", "batch"] = "all",
        max_contrasted: int | None = None,
        combine: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__(num_users, num_items, embedding_dim, num_layers, keep_edges=1.0, combine=combine)
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.noise_scale = noise_scale
        self.negatives = negatives
        self.max_contrasted = max_contrasted
        self._layers: tuple[Tensor, Tensor] | None = None

    def forward(self, graph: InteractionGraph) -> Embeddings:
        """Compute the propagated embeddings of users `(U, D)` and items `(I, D)`; keep two layers for the views."""
        if not self.training:
            return super().forward(graph)
        table = self.tables.weight.detach()  # a text regulariser may have masked it
        self._layers = table, graph.propagate(table)
        total = graph.propagate_sum(self.tables.weight, self.num_layers, first=self._layers[1])
        return self.split(self.combined(total))

    def auxiliary_losses(
        self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph
    ) -> dict[str, Tensor]:
        """Compute `contrast` between two perturbed views of the batch's users and of its items."""
        layers, self._layers = self._layers, None
        assert layers is not None, "forward comes first, in training mode"
        unique = [gather_unique(ids, self.max_contrasted) for ids in (batch.user_ids, batch.positive_ids)]
        own = [own_rows(ids)[0] for ids in unique]
        with torch.no_grad():
            first = self._perturbed_view(
                graph, layers[0], layers[1].clone(), torch.cat([own[0], own[1] + self.num_users])
            )
            second = self.split(self._perturbed_view(graph, *layers))
        terms = []
        sides = zip(unique, own, first.split([len(one) for one in own]), second, embeddings, strict=True)
        for ids, rows, queries, keys, table in sides:
            queries = with_gradient_of(queries, F.embedding(rows, table))
            terms.append(self.contrast(ids, queries, with_gradient_of(keys, table)))
        return {"contrast": self.contrast_weight * torch.stack(terms).sum()}

    def contrast(self, ids: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """Compute InfoNCE between two views of the users, or of the items.

        Args:
            ids: Unique ids that all processes contrast together, `(N,)`.
            queries: First view of this process's share of them.
            keys: Second view of all users, or all items, `(M, D)`.
        """
        own, share = own_rows(ids)
        if self.negatives == "batch":
            keys, own = F.embedding(ids, keys), own_rows(torch.arange(len(ids), device=ids.device))[0]
        return contrast_with_all(unit_vectors(queries), unit_vectors(keys), own, self.temperature, share)

    def _perturbed_view(
        self, graph: InteractionGraph, table: Tensor, layer: Tensor, rows: Tensor | None = None
    ) -> Tensor:
        """Compute one perturbed view of the nodes.

        Args:
            graph: Graph to propagate on.
            table: Layer 0, `(U + I, D)`.
            layer: Clean first layer `(U + I, D)`; perturbed in place.
            rows: Nodes to return; all if None. The last layer is computed only for these nodes.
        """
        total = _rows_of(table, rows) + _rows_of(perturb_(layer, self.noise_scale), rows)
        for step in range(2, self.num_layers + 1):
            if rows is not None and step == self.num_layers:
                total += perturb_(graph.propagate_to(rows, layer), self.noise_scale)
                break
            layer = perturb_(graph.propagate(layer), self.noise_scale)
            total += _rows_of(layer, rows)
        return self.combined(total)


def perturb(nodes: Tensor, scale: float) -> Tensor:
    """Shift each of the `nodes` `(N, D)` by length `scale` in a random direction within its orthant."""
    return perturb_(nodes.clone(), scale)


def perturb_(nodes: Tensor, scale: float) -> Tensor:
    """In-place version of `perturb`."""
    direction = _uniform_bytes(nodes)
    length = scale / direction.norm(dim=1, keepdim=True)
    return nodes.addcmul_(direction.copysign_(nodes.detach()), length)


def _rows_of(layer: Tensor, rows: Tensor | None) -> Tensor:
    return layer if rows is None else F.embedding(rows, layer)


def with_gradient_of(values: Tensor, source: Tensor) -> Tensor:
    """Return `values`, with their gradient passed to `source` of the same shape."""
    result: Tensor = _Substitution.apply(values, source)  # type: ignore[no-untyped-call]
    return result


class _Substitution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, source: Tensor) -> Tensor:  # noqa: ANN401
        del ctx, source
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:  # noqa: ANN401
        del ctx
        return None, gradients[0]


def _uniform_bytes(like: Tensor) -> Tensor:
    """Draw uniform odd numbers below 256, never 0, in the shape of `like`: eight per random 64-bit integer."""
    draws = torch.empty(-(-like.numel() // 8), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    draws.bitwise_or_(_LOWEST_BITS)
    return draws.view(torch.uint8)[: like.numel()].view(like.shape).to(like.dtype)
