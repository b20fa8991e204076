"""Residual quantization over a frozen codebook with a trainable linear map."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_lightning.errors import ConfigurationError
from face_lightning.mapping.quantizer import Quantized, Quantizer
from face_lightning.mapping.search import SearchBackend, build_search, search_distinct


class ResidualQuantizer(Quantizer):
    """Quantizes vectors level by level as sums of codes `c_k = W_c c0_k` of a frozen table `c0`.

    `r_1 = z`, `k_h = argmin_k ||r_h - g_h c_k||^2`, `r_{h+1} = r_h - g_h c_{k_h}`, `z_q = sum_h g_h c_{k_h}`.
    Training the map instead of the table prevents codebook collapse (SimVQ).

    Reference:
        FACE (NeurIPS 2025); Zhu et al., "Addressing Representation Collapse in Vector Quantized Models
        with One Linear Layer" (SimVQ), 2024; Fifty et al., "Restructuring Vector Quantization with the
        Rotation Trick", ICLR 2025.

    Note:
        The paper searches by Euclidean distance among codes of any length (`similarity="l2"`, g_h = 1), which
        collapses to a few words within a hundred steps. With `cosine`, the default, inputs and codes have unit
        length, so that the nearest code has the largest inner product for any scale g_h; g_1 = 1, and g_h is learned
        for h > 1.

    Args:
        codebook: Frozen table c0, `(V, T)`.
        dim: d, width of codes and input.
        num_levels: H.
        similarity: "cosine" or "l2".
        gradient: Gradient estimator of the quantization: "straight_through" or "rotation".
        backend: Search backend.
        learn_codebook: Whether the table is trained instead of frozen (an ablation: codes then no longer represent
            their words).

    Raises:
        ConfigurationError: If `num_levels` is below 1.
    """

    def __init__(
        self,
        codebook: Tensor,
        dim: int,
        num_levels: int = 1,
        similarity: Literal["cosine", "l2"] = "cosine",
        gradient: Literal["straight_through", "rotation"] = "straight_through",
        backend: SearchBackend = "auto",
        learn_codebook: bool = False,
    ) -> None:
        super().__init__()
        if num_levels < 1:
            raise ConfigurationError(f"num_levels: expected at least 1, got {num_levels}; 1 is plain quantization")
        self.num_levels = num_levels
        self.similarity = similarity
        self.gradient = gradient
        table = codebook.detach().clone().float()
        self.codebook: Tensor
        if learn_codebook:
            self.codebook = nn.Parameter(table)
        else:
            self.register_buffer("codebook", table, persistent=False)
        self.code_transform = nn.Linear(codebook.shape[1], dim, bias=False)
        if codebook.shape[1] == dim:
            nn.init.eye_(self.code_transform.weight)
        else:
            nn.init.orthogonal_(self.code_transform.weight)
        if similarity == "cosine" and num_levels > 1:
            self.log_scales = nn.Parameter(torch.full((num_levels - 1,), 0.5).log())
        self._backend = backend
        self._search = build_search(backend)  # rebuilt when the module moves to another device
        self._search_device = torch.device("cpu")

    @property
    def num_codes(self) -> int:
        """Number of codes, V."""
        return len(self.codebook)

    def codes(self) -> Tensor:
        """Return the codebook in the search space, `(V, d)`; unit rows with cosine similarity."""
        codes: Tensor = self.code_transform(self.codebook)
        return F.normalize(codes, dim=-1) if self.similarity == "cosine" else codes

    def queries(self, inputs: Tensor) -> Tensor:
        """Map concept vectors `(..., d)` to the search space: unit rows with cosine similarity."""
        return F.normalize(inputs, dim=-1) if self.similarity == "cosine" else inputs

    def forward(self, inputs: Tensor, codes: Tensor | None = None) -> Quantized:
        """Quantize concept vectors; the S slots of a row get different lemmas in each level.

        Args:
            inputs: Concept vectors `(B, S, d)`.
            codes: Result of `codes()` to reuse; computed if None.
        """
        codes = self.codes() if codes is None else codes
        self._refresh(codes)
        queries = self.queries(inputs)
        residual, total = queries, torch.zeros_like(queries)
        indices, codebook_loss, commitment_loss = [], inputs.new_zeros(()), inputs.new_zeros(())
        for level in range(self.num_levels):
            chosen = search_distinct(self._search, self._query_vectors(residual), self.lemmas)
            scaled = F.embedding(chosen, codes) * self._scale(level)
            codebook_loss = codebook_loss + (residual.detach() - scaled).square().sum(-1).mean()
            commitment_loss = commitment_loss + (residual - scaled.detach()).square().sum(-1).mean()
            indices.append(chosen)
            total = total + scaled
            residual = residual - scaled.detach()
        quantized = self._pass_gradient(queries, total.detach())
        return Quantized(quantized, torch.stack(indices), codebook_loss, commitment_loss)

    @torch.no_grad()
    def nearest(self, inputs: Tensor, top_k: int, codes: Tensor | None = None) -> Tensor:
        """See `Quantizer`."""
        if codes is not None:
            self._refresh(codes)
        queries = self._query_vectors(self.queries(inputs))
        return self._search.search(queries.flatten(0, 1), top_k).view(*inputs.shape[:2], -1)

    def _refresh(self, codes: Tensor) -> None:
        if codes.device != self._search_device:
            self._search, self._search_device = build_search(self._backend, codes.device), codes.device
        self._search.refresh(self._index_vectors(codes))

    def _scale(self, level: int) -> Tensor | float:
        return self.log_scales[level - 1].exp() if level and self.similarity == "cosine" else 1.0

    def _index_vectors(self, codes: Tensor) -> Tensor:
        """Augment codes so that the largest inner product with `_query_vectors` has the smallest distance."""
        if self.similarity == "cosine":
            return codes
        return torch.cat([codes, -0.5 * codes.square().sum(-1, keepdim=True)], dim=-1)

    def _query_vectors(self, residual: Tensor) -> Tensor:
        if self.similarity == "cosine":
            return residual
        return F.pad(residual, (0, 1), value=1.0)

    def _pass_gradient(self, queries: Tensor, quantized: Tensor) -> Tensor:
        if self.gradient == "straight_through":
            return queries + (quantized - queries).detach()
        return _rotate(queries, quantized)


def _rotate(queries: Tensor, quantized: Tensor) -> Tensor:
    """Express `quantized` as a constant rotation and scaling of `queries`, which then also applies to the gradient."""
    q_norm = queries.detach().norm(dim=-1, keepdim=True).clamp_min(1e-6)
    k_norm = quantized.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    start, end = queries.detach() / q_norm, quantized / k_norm
    middle = F.normalize(start + end, dim=-1)
    rotated = (
        queries
        - 2 * (queries * middle).sum(-1, keepdim=True) * middle
        + 2 * (queries * start).sum(-1, keepdim=True) * end
    )
    result: Tensor = rotated * (k_norm / q_norm)
    return result
