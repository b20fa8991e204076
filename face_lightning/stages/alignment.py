"""Stage 3: align descriptors with entity texts through the frozen encoder while training the recommender."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from face_lightning.distributed import gather_rows, world_size
from face_lightning.errors import ConfigurationError, check_range
from face_lightning.losses import AlignmentLoss, InfoNCEAlignment, TextRegularizer
from face_lightning.mapping.mapper import Mapped
from face_lightning.mapping.tokens import NUM_NEAR, TokenGradient, tokens_with_gradient
from face_lightning.search_space import Between, OneOf, SearchSpace
from face_lightning.stages.describing import DescribingStage, draw_rows
from face_lightning.structures import Embeddings, TrainingBatch

_SHIFT = "alignment/shift"  # mean vector of descriptors minus that of texts


class AlignmentStage(DescribingStage):
    """Trains backbone and mapper jointly on the recommendation, mapping and alignment losses.

    The alignment loss is contrastive: each entity's descriptors, encoded as a sentence, are pulled towards the
    encoding of the entity's text.

    Grounding, if configured, contrasts the backbone's embedding of each user and item in a batch with a fixed
    meaning vector of its words, as RLMRec-Con does with texts. A slot's meaning is the softmax-weighted mean of its
    nearest word vectors, which carries more information than the single chosen word (`benchmarks.grounding`).
    Meanings are computed once, from the embeddings at the start of the stage: if they followed the embeddings, they
    would only repeat what the recommender already knows.

    Reference:
        FACE (NeurIPS 2025), stage 3.

    Note:
        Differences from the paper: the encoder reads true token embeddings; occurrences of the same entity, and
        entities with identical texts, are never used as negatives of each other; the contrastive loss uses a sample
        of unique entities per step; lexical anchoring stays on. With anchoring, the alignment loss changes neither
        recall nor words, so the recipes set `alignment_weight` to 0 and skip the encoder; grounding carries
        semantics to the recommender instead of the mapper's gradient.

    Args:
        alignment_loss: Builds the loss between descriptors and texts.
        aligned_per_step: Maximum number of quantized entities per step that are encoded for the alignment loss; null
            for all of them.
        mapping_weight: Factor on the weights of all mapping terms, mu.
        alignment_weight: Weight of the alignment loss, lambda; at 0 it is not computed.
        token_gradient: How gradients pass from the chosen words to the concept vectors.
        grounding: Builds the grounding loss from the widths of embeddings and word vectors; null for none, as in the
            paper.
        grounding_words: Number of nearest words per slot that make up its meaning.
        mapper_lr_factor: Factor on the optimizer's learning rate for the mapper.
        backbone_gradient: Factor on the gradient that the mapper's losses send into the backbone: 1 as in the paper,
            or less, because these losses are many times the ranking loss and would dominate it. At 0 only grounding
            brings words to the backbone.
        **kwargs: Arguments of `DescribingStage` and `Stage`.

    Raises:
        ConfigurationError: If a number of entities or words is not positive, `backbone_gradient` is not in 0..1, or the
            grounding loss masks entities.
    """

    name: ClassVar[str] = "alignment"
    search_space: ClassVar[SearchSpace] = {
        "optimizer.init_args.lr": Between(1e-4, 5e-3),
        "l2_weight": Between(1e-5, 1.0),
        "backbone_gradient": OneOf((0.0, 0.03, 0.1)),
    }

    def __init__(
        self,
        *,
        alignment_loss: Callable[[], AlignmentLoss] = InfoNCEAlignment,
        aligned_per_step: int | None = 64,
        mapping_weight: float = 1.0,
        alignment_weight: float = 0.02,
        token_gradient: TokenGradient = "soft",
        grounding: Callable[[int, int], TextRegularizer] | None = None,
        grounding_words: int = 16,
        mapper_lr_factor: float = 1.0,
        backbone_gradient: float = 0.03,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        if aligned_per_step is not None:
            check_range("aligned_per_step", aligned_per_step, least=1, usual="64")
        check_range("grounding_words", grounding_words, least=1, usual="16")
        check_range("backbone_gradient", backbone_gradient, least=0, most=1, usual="0.03, or 1 as in the paper,")
        super().__init__(**kwargs)
        self.alignment_loss = alignment_loss()
        self.mapper_lr_factor = mapper_lr_factor
        self.backbone_gradient = backbone_gradient
        self.grounding_words = grounding_words
        self.grounding = grounding(self.backbone.embedding_dim, self.words.encoder.width) if grounding else None
        if self.grounding is not None and self.grounding.masks_entities:
            raise ConfigurationError(
                f"grounding: expected a loss that does not mask entities, got {type(self.grounding).__name__}; use "
                "ContrastiveText"
            )
        self._grounding_vectors: Tensor | None = None  # meaning vectors of all entities, `(U + I, E)`
        self.aligned_per_step = aligned_per_step
        self.token_gradient = token_gradient
        self.loss_weights = {
            name: weight * (1.0 if name == "l2" else mapping_weight) for name, weight in self.loss_weights.items()
        }
        self.loss_weights |= {
            "alignment": alignment_weight,
            "grounding": self.grounding.weight if self.grounding else 0.0,
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the mapper, the backbone and, if configured, the grounding loss."""
        groups = super().parameter_groups()
        if self.grounding is not None:
            groups.append({"params": list(self.grounding.parameters()), "name": "grounding"})
        return groups

    def lr_factors(self) -> dict[str, float]:
        """Learning rate factor of each parameter group."""
        return super().lr_factors() | {"mapper": self.mapper_lr_factor}

    def begin(self, embeddings: Embeddings) -> None:
        """Compute the grounding vectors from the initial embeddings, unless a checkpoint has restored them."""
        super().begin(embeddings)
        if self.grounding is not None:
            if self._grounding_vectors is None:
                self._grounding_vectors = self.expected_word_vectors(embeddings, self.grounding_words).half()
            self._grounding_vectors = self._grounding_vectors.to(self.device, torch.float32)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the grounding vectors in addition to the base class's state."""
        super().on_save_checkpoint(checkpoint)
        if self._grounding_vectors is not None:
            checkpoint["grounding_vectors"] = self._grounding_vectors.half().cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the grounding vectors."""
        super().on_load_checkpoint(checkpoint)
        self._grounding_vectors = checkpoint.get("grounding_vectors")

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return all loss terms of the batch; updates the logged `alignment/accuracy` and `alignment/modality_gap`."""
        losses, embeddings = self.recommendation_losses(batch)
        entity_ids = batch.entity_ids.sort().values
        mapped, terms = self.map_entities(self._scale_gradient(embeddings.gather(entity_ids)), entity_ids)
        losses |= {name: batch.entity_share * loss for name, loss in terms.items()}
        if self.grounding is not None:
            assert self._grounding_vectors is not None, "on_train_start comes first"
            present = torch.ones(len(self._grounding_vectors), dtype=torch.bool, device=self.device)
            losses["grounding"] = self.grounding.loss(batch, embeddings, self._grounding_vectors, present)
        if self.loss_weights["alignment"] > 0:
            losses["alignment"] = self._compute_alignment_loss(mapped, entity_ids, batch.entity_share > 0)
        return losses

    def _scale_gradient(self, entities: Tensor) -> Tensor:
        """Return the embeddings unchanged, with their gradient scaled by `backbone_gradient`."""
        if self.backbone_gradient == 0:
            return entities.detach()
        if entities.requires_grad:
            entities.register_hook(lambda gradient: self.backbone_gradient * gradient)
        return entities

    def _compute_alignment_loss(self, mapped: Mapped, entity_ids: Tensor, has_entities: bool) -> Tensor:
        """Contrast the descriptors of this process with the texts of all processes; a collective operation."""
        texts, quantized_ids = self.space.texts, entity_ids[mapped.rows]
        quantized = draw_rows(texts.present[quantized_ids].nonzero().squeeze(1), self.aligned_per_step)
        if not has_entities:
            quantized = quantized[:0]
        own_ids = quantized_ids[quantized]
        descriptor_vectors = self._descriptor_vectors(mapped, quantized, own_ids)
        all_ids = gather_rows(own_ids)
        positives = (own_ids.unsqueeze(1) == all_ids).int().argmax(1)
        classes, vectors = texts.classes[all_ids], texts.vectors[all_ids]
        self.log_alignment(descriptor_vectors, vectors, classes, positives)
        same_text = classes[positives].unsqueeze(1) == classes
        loss: Tensor = self.alignment_loss(descriptor_vectors, vectors, positives, same_text)
        return loss * (len(own_ids) * world_size() / max(1, len(all_ids)))

    def _descriptor_vectors(self, mapped: Mapped, quantized: Tensor, entity_ids: Tensor) -> Tensor:
        """Encode the descriptors of the given quantized entities as sentence vectors `(N, E)`, differentiably."""
        concepts, indices = mapped.concepts[mapped.rows[quantized]], mapped.quantized.indices[0][quantized]
        if not len(entity_ids):  # the result must still require grad: other processes wait in the collectives
            return concepts.sum() * self.space.texts.vectors[entity_ids]
        near = self.mapper.quantizer.nearest(concepts, NUM_NEAR) if self.token_gradient == "soft" else None
        table = self.space.descriptors.token_embeddings
        tokens = tokens_with_gradient(concepts, indices, mapped.codes, table, self.token_gradient, near)
        return self.space.descriptors.encode_tokens(tokens, entity_ids)

    @torch.no_grad()
    def log_alignment(
        self, descriptor_vectors: Tensor, text_vectors: Tensor, classes: Tensor, positives: Tensor
    ) -> None:
        """Accumulate retrieval accuracy and the mean shift between descriptors and their texts.

        Accuracy is the share of descriptors whose nearest text is their own or one identical to it.

        Args:
            descriptor_vectors: `(N, E)`.
            text_vectors: `(M, E)`.
            classes: Class of each text, the same for identical texts, `(M,)`.
            positives: Row of `text_vectors` that belongs to each descriptor, `(N,)`.
        """
        accuracy = descriptor_vectors.new_zeros(())
        shift = descriptor_vectors.new_zeros(descriptor_vectors.shape[1])
        if len(descriptor_vectors):
            nearest = (descriptor_vectors @ text_vectors.T).argmax(1)
            accuracy = (classes[nearest] == classes[positives]).float().mean()
            shift = (descriptor_vectors - text_vectors[positives]).mean(0)
        self.epoch_means.update({"alignment/accuracy": accuracy}, len(descriptor_vectors))
        self.epoch_means.update({_SHIFT: shift}, len(descriptor_vectors))

    def epoch_values(self) -> dict[str, Tensor]:
        """Return the base class's values and the modality gap.

        The gap is the distance between the mean vector of the epoch's descriptor sentences and the mean vector of
        the same entities' texts. Two sets of unit vectors can match pairwise and still occupy different regions.

        Reference:
            Liang et al., "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
            Representation Learning", NeurIPS 2022.
        """
        values = super().epoch_values()
        if _SHIFT in values:
            values["alignment/modality_gap"] = values.pop(_SHIFT).norm()
        return values
