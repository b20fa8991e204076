"""The mapper from embeddings to descriptors and back."""

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from face_lightning.distributed import gather_rows, rank, world_size
from face_lightning.errors import CheckpointError, ConfigurationError, check_range
from face_lightning.hardware import fast_products, short_attention
from face_lightning.mapping.projection import DisentangledProjection
from face_lightning.mapping.quantizer import Quantized, Quantizer
from face_lightning.mapping.residual_quantizer import ResidualQuantizer
from face_lightning.mapping.search import SearchBackend
from face_lightning.mapping.whitening import InputWhitening, whiten


class Mapped(NamedTuple):
    """Output of the mapper for a batch of embeddings.

    Attributes:
        concepts: Concept vectors in the quantizer's space, `(B, S, d)`.
        codes: Codebook in the quantizer's space, `(V, d)`.
        rows: Rows of the batch that are quantized and reconstructed, `(R,)`.
        quantized: Their quantization; `quantized.indices[0]` are the descriptors `(R, S)`.
        target: Normalised embeddings to reconstruct, `(R, D)`, detached.
        reconstruction: Decoder output, `(R, D)`.
    """

    concepts: Tensor
    codes: Tensor
    rows: Tensor
    quantized: Quantized
    target: Tensor
    reconstruction: Tensor


class TokenMapper(nn.Module):
    """Vector-quantized autoencoder of embeddings whose codebook is a table of token embeddings.

    Disentangled projection, transformer encoder, residual quantization, transformer decoder.

    Reference:
        FACE (NeurIPS 2025), arXiv 2510.15729.

    Note:
        Four defaults differ from the paper, whose form (`normalize_input=False, whiten_input=False,
        normalize_codebook=False, similarity="l2"`) collapses to a handful of words: embeddings are layer-normalised
        (without parameters); they are whitened with the statistics of `fit_input`, and reconstructed in that space;
        token embeddings are centered, whitened to `concept_dim` dimensions and scaled to unit length; search is by
        cosine similarity. In addition a wide hidden layer precedes the projection, which gives the mapper the
        capacity to fit every entity; the transformers' feed-forward layers have 512 instead of 2048 units; there is
        no dropout. Evaluation is in float32.

    Args:
        token_embeddings: Frozen input embeddings of the vocabulary, `(V, T)`.
        embedding_dim: D.
        num_descriptors: S.
        concept_dim: d.
        hidden_dim: Units of a hidden layer before the projection; 0 for none, as in the paper.
        num_levels: Number of levels of the residual quantization, H.
        num_layers: Number of transformer layers in the encoder and in the decoder; 0 for none.
        num_heads: Number of attention heads.
        feedforward_dim: Width of the transformers' feed-forward layers.
        dropout: Dropout probability in the transformers.
        shared_projection: Whether all slots share one projection (an ablation).
        normalize_input: Whether embeddings are layer-normalised.
        whiten_input: Whether they are then whitened and normalised again; see `InputWhitening`.
        normalize_codebook: Whether token embeddings are centered, whitened and scaled to unit length.
        similarity: Similarity of the token search, "cosine" or "l2".
        gradient: Gradient estimator of the quantizer, "straight_through" or "rotation".
        search: Backend of the token search.
        precision: "auto" trains the projection and the transformers in bfloat16 if the device supports it; "float32"
            never does, so that results agree between machines and numbers of processes up to rounding.
        codebook: Codebook table: frozen embeddings of the "tokens"; or, as ablations, frozen "random" vectors, or
            "learned" vectors initialised with the token embeddings.
        quantizer: Builds the quantizer from the codebook table `(V, T)` and d; if null, a `ResidualQuantizer` with
            the arguments above (`num_levels`, `similarity`, `gradient`, `search`, `codebook`).

    Raises:
        ConfigurationError: If there are more descriptors than words, or more concept dimensions than the
            codebook can be whitened to.
    """

    def __init__(
        self,
        token_embeddings: Tensor,
        embedding_dim: int,
        num_descriptors: int = 16,
        concept_dim: int = 256,
        hidden_dim: int = 2048,
        num_levels: int = 1,
        num_layers: int = 1,
        num_heads: int = 1,
        feedforward_dim: int = 512,
        dropout: float = 0.0,
        shared_projection: bool = False,
        normalize_input: bool = True,
        whiten_input: bool = True,
        normalize_codebook: bool = True,
        similarity: Literal["cosine", "l2"] = "cosine",
        gradient: Literal["straight_through", "rotation"] = "straight_through",
        search: SearchBackend = "auto",
        precision: Literal["auto", "float32"] = "auto",
        codebook: Literal["tokens", "random", "learned"] = "tokens",
        quantizer: Callable[[Tensor, int], Quantizer] | None = None,
    ) -> None:
        super().__init__()
        max_dim = min(token_embeddings.shape) if normalize_codebook else None
        _check_sizes(len(token_embeddings), max_dim, num_descriptors, concept_dim, num_heads)
        check_range("num_layers", num_layers, least=0, most=64, usual="1")
        check_range("hidden_dim", hidden_dim, least=0, usual="2048, or 0 for none,")
        check_range("num_levels", num_levels, least=1, most=64, usual="1")
        check_range("dropout", dropout, least=0, most=1, usual="0")
        self.num_descriptors = num_descriptors
        self.precision = precision
        self.normalize_input = normalize_input
        self.whitening = InputWhitening(embedding_dim) if whiten_input else None
        table = token_embeddings
        if codebook == "random":
            table = torch.randn(table.shape, generator=torch.Generator().manual_seed(1))
        if normalize_codebook:
            table = whiten(table, concept_dim)
        hidden = nn.Sequential(nn.Linear(embedding_dim, hidden_dim), nn.GELU()) if hidden_dim else nn.Identity()
        width = hidden_dim or embedding_dim
        self.projection = nn.Sequential(
            hidden, DisentangledProjection(width, concept_dim, num_descriptors, shared_projection)
        )
        self.encoder = _transformer(num_layers, concept_dim, num_heads, feedforward_dim, dropout)
        self.quantizer: Quantizer = (
            ResidualQuantizer(table, concept_dim, num_levels, similarity, gradient, search, codebook == "learned")
            if quantizer is None
            else quantizer(table, concept_dim)
        )
        self.decoder = _transformer(num_layers, concept_dim, num_heads, feedforward_dim, dropout)
        self.output = nn.Linear(num_descriptors * concept_dim, embedding_dim)
        # The codebook is not saved, only its digest: with another vocabulary the trained weights are meaningless.
        self.codebook_digest: Tensor
        self.register_buffer("codebook_digest", _digest(token_embeddings))
        self.register_load_state_dict_pre_hook(_check_digest)  # type: ignore[no-untyped-call]

    def fit_input(self, embeddings: Iterable[Tensor]) -> None:
        """Fit the input whitening to the embeddings of all entities, in tiles `(N, D)`, unless already fitted.

        Embeddings are layer-normalised first, so that words do not depend on their scale.
        """
        if self.whitening is not None and not self.whitening.fitted:
            self.whitening.fit(self._layer_norm(tile) for tile in embeddings)

    def distinguish(self, lemmas: Tensor) -> None:
        """Set the lemmas of the words: no entity gets two words of the same lemma.

        Args:
            lemmas: Lemma of each word, `(V,)`.

        Raises:
            ConfigurationError: If there are fewer lemmas than descriptors.
        """
        num_lemmas = len(lemmas.unique())
        if num_lemmas < self.num_descriptors:
            raise ConfigurationError(
                f"num_descriptors: expected at most {num_lemmas}, the lemmas of the vocabulary, as they do not repeat, "
                f"got {self.num_descriptors}; choose fewer descriptors or a larger vocabulary"
            )
        self.quantizer.lemmas = lemmas

    def encode(self, embeddings: Tensor) -> Tensor:
        """Encode embeddings `(B, D)` as concept vectors `(B, S, d)` in the quantizer's space."""
        normalized = self._normalize(embeddings)
        with self._autocast(normalized), short_attention(normalized):
            encoded: Tensor = self.encoder(self.projection(normalized))
        return self.quantizer.queries(encoded.to(normalized.dtype))

    def decode(self, quantized: Tensor) -> Tensor:
        """Decode quantized concept vectors `(B, S, d)` to embeddings `(B, D)` in the normalised space."""
        with self._autocast(quantized), short_attention(quantized):
            output: Tensor = self.output(self.decoder(quantized).flatten(1))
        return output.to(quantized.dtype)

    def forward(self, embeddings: Tensor, rows: Tensor | None = None) -> Mapped:
        """Encode embeddings `(B, D)`, and quantize and reconstruct all of them or those at `rows` `(R,)`."""
        concepts = self.encode(embeddings)
        codes = self.quantizer.codes()
        rows = torch.arange(len(embeddings), device=embeddings.device) if rows is None else rows
        quantized = self.quantizer(concepts[rows], codes)
        target = self._normalize(embeddings[rows]).detach()
        return Mapped(concepts, codes, rows, quantized, target, self.decode(quantized.quantized))

    def describe(self, embeddings: Iterable[Tensor]) -> Tensor:
        """Compute descriptors `(B, S)`, as rows of the codebook, of embeddings given in tiles; see `map_tiles`."""
        return self.map_tiles(embeddings, lambda concepts, codes: self.quantizer(concepts, codes).indices[0])

    @torch.no_grad()
    def map_tiles(self, embeddings: Iterable[Tensor], fn: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Apply a function to the concept vectors of embeddings given in tiles `(N, D)`; a collective operation.

        Args:
            embeddings: The same tiles on all processes, which share the work.
            fn: Maps concept vectors `(N, S, d)` and codes `(V, d)` to one row per embedding.

        Returns:
            These rows `(B, ...)`, in the order of the embeddings.
        """
        codes = self.quantizer.codes()
        parts, counts = [], []
        for index, tile in enumerate(embeddings):
            counts.append(len(tile))
            if index % world_size() == rank():
                parts.append(fn(self.encode(tile), codes))
        if not parts:  # fewer tiles than processes: contribute an empty tensor of the same shape as the others'
            parts.append(fn(self.encode(tile[:1]), codes)[:0])
        gathered = gather_rows(torch.cat(parts))
        tiles = torch.arange(sum(counts)).split(counts)
        positions = torch.cat([rows for first in range(world_size()) for rows in tiles[first :: world_size()]])
        return gathered[positions.argsort().to(gathered.device)]

    def _normalize(self, embeddings: Tensor) -> Tensor:
        normalized = self._layer_norm(embeddings)
        return normalized if self.whitening is None else self._layer_norm(self.whitening(normalized))

    def _autocast(self, vectors: Tensor) -> contextlib.AbstractContextManager[object]:
        """Context of matrix products: the fastest precision in training if allowed, float32 in evaluation."""
        fast = self.training and self.precision == "auto"
        return fast_products(vectors) if fast else contextlib.nullcontext()

    def _layer_norm(self, embeddings: Tensor) -> Tensor:
        return F.layer_norm(embeddings, embeddings.shape[-1:]) if self.normalize_input else embeddings


def _check_sizes(num_codes: int, max_dim: int | None, num_descriptors: int, concept_dim: int, num_heads: int) -> None:
    """Check the number of descriptors against the vocabulary, and the width against codebook rank and heads."""
    if not 1 <= num_descriptors <= num_codes:
        raise ConfigurationError(
            f"num_descriptors: expected 1 to {num_codes} (the vocabulary's size, as words do not repeat), "
            f"got {num_descriptors}; choose fewer descriptors or a larger vocabulary"
        )
    if max_dim is not None and concept_dim > max_dim:
        raise ConfigurationError(
            f"concept_dim: expected at most {max_dim} (rank of the codebook), got {concept_dim}; lower it, or set "
            "normalize_codebook to false"
        )
    check_range("concept_dim", concept_dim, least=1, usual="128 to 256")
    if num_heads < 1 or concept_dim % num_heads:
        raise ConfigurationError(
            f"num_heads: expected a divisor of {concept_dim} (concept_dim), got {num_heads}; 1 always fits"
        )


def _digest(token_embeddings: Tensor) -> Tensor:
    """SHA-256 of the token embeddings as four int64 numbers."""
    digest = hashlib.sha256(token_embeddings.detach().cpu().float().contiguous().numpy().tobytes()).digest()
    return torch.from_numpy(np.frombuffer(digest, dtype="<i8").astype(np.int64))


def _check_digest(mapper: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    stored, own = state.get(prefix + "codebook_digest"), mapper.codebook_digest
    if stored is not None and isinstance(own, Tensor) and not torch.equal(stored.cpu(), own.cpu()):
        raise CheckpointError(
            "mapper: the checkpoint was trained on another vocabulary than the one configured here; use the same text "
            "encoder, word list, blocklist and catalogue texts as that run, or train stage 2 again"
        )


def _transformer(num_layers: int, dim: int, num_heads: int, feedforward_dim: int, dropout: float) -> nn.Module:
    if num_layers == 0:
        return nn.Identity()
    layer = nn.TransformerEncoderLayer(dim, num_heads, feedforward_dim, dropout, batch_first=True)
    return nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
