"""SimGCL: LightGCN with a contrast between two randomly perturbed views of the graph's nodes."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.backbones.lightgcn import LightGCN
from face_lightning.distributed import gather_unique, own_rows
from face_lightning.graph import InteractionGraph
from face_lightning.losses import contrast_with_all
from face_lightning.types import Embeddings, TrainingBatch


class SimGCL(LightGCN):
    """Adds noise of fixed length to every propagated layer, twice, and contrasts the two results.

    `E'_{l+1} = A E'_l + eps * sign(A E'_l) * d`, d a random direction in the positive orthant;
    `L = w (InfoNCE(users) + InfoNCE(items))` over the users and items of a batch.

    Reference:
        Yu et al., "Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for
        Recommendation", SIGIR 2022.

    Note:
        Noise is a constant to the gradient and propagation is linear, so a view is the clean embedding
        plus a constant: one backward pass through the graph serves the ranking loss and both views.

    Args:
        num_users: U.
        num_items: I.
        embedding_dim: D.
        num_layers: Propagation steps, L >= 1.
        contrast_weight: Weight w of the contrast.
        temperature: Temperature of the contrast.
        noise_scale: Length eps of the noise that a node gets in each layer.
        negatives: What a node is contrasted with: "all" nodes of its kind, as in the RLMRec and FACE
            code, or those of the "batch", as in the SimGCL paper.
        combine: Whether layers are summed or averaged.
    """

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
        combine: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__(num_users, num_items, embedding_dim, num_layers, keep_edges=1.0, combine=combine)
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.noise_scale = noise_scale
        self.negatives = negatives

    def auxiliary_losses(
        self, batch: TrainingBatch, embeddings: Embeddings, graph: InteractionGraph
    ) -> dict[str, Tensor]:
        """`contrast` of the batch's users and of its items between two perturbed views."""
        views = [self._noise(embeddings, graph) for _ in range(2)]
        terms = []
        for ids, table, first, second in zip((batch.user_ids, batch.positive_ids), embeddings, *views, strict=True):
            unique = gather_unique(ids)
            own = own_rows(unique)[0]
            queries = F.embedding(own, table) + F.embedding(own, first)
            terms.append(self.contrast(unique, queries, table + second))
        return {"contrast": self.contrast_weight * torch.stack(terms).sum()}

    def contrast(self, ids: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """InfoNCE between two views of one kind of nodes.

        Args:
            ids: Nodes that are contrasted, each once over all processes, `(N,)`.
            queries: First view of those that this process works on.
            keys: Second view of all nodes of the kind, `(M, D)`.
        """
        own, share = own_rows(ids)
        if self.negatives == "batch":
            keys, own = F.embedding(ids, keys), own_rows(torch.arange(len(ids), device=ids.device))[0]
        return contrast_with_all(F.normalize(queries, dim=1), F.normalize(keys, dim=1), own, self.temperature, share)

    @torch.no_grad()
    def _noise(self, embeddings: Embeddings, graph: InteractionGraph) -> Embeddings:
        """What perturbing every layer adds to the embeddings."""
        layer: Tensor = self.tables.weight
        total = layer.clone()
        for _ in range(self.num_layers):
            layer = perturb(graph.propagate(layer), self.noise_scale)
            total += layer
        perturbed = self.split(self.combined(total))
        return Embeddings(*(part.sub_(clean) for part, clean in zip(perturbed, embeddings, strict=True)))


def perturb(nodes: Tensor, scale: float) -> Tensor:
    """`nodes` `(N, D)` moved by `scale` in a random direction of the orthant that each lies in."""
    noise = _uniform_bytes(nodes)
    noise.mul_(scale / noise.norm(dim=1, keepdim=True)).copysign_(nodes.detach())
    return noise.add_(nodes)


def _uniform_bytes(like: Tensor) -> Tensor:
    """Uniform numbers in (0, 256) in steps of one, as many as in `like`: eight for each random integer drawn."""
    draws = torch.empty(-(-like.numel() // 8), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    return draws.view(torch.uint8)[: like.numel()].view(like.shape).to(like.dtype).add_(0.5)
