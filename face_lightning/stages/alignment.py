"""Stage 3: align words with texts through the frozen encoder, jointly with the recommender."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from face_lightning.distributed import gather_rows, world_size
from face_lightning.errors import check_range
from face_lightning.losses import AlignmentLoss, InfoNCEAlignment, TextRegularizer
from face_lightning.mapping.mapper import Mapped
from face_lightning.mapping.tokens import NUM_NEAR, TokenGradient, tokens_with_gradient
from face_lightning.search_space import Between, OneOf, SearchSpace
from face_lightning.stages.describing import DescribingStage, draw_rows
from face_lightning.structures import Embeddings, TrainingBatch

_SHIFT = "alignment/shift"  # mean vector of descriptors minus that of texts


class AlignmentStage(DescribingStage):
    """All losses jointly: recommendation, mapping, and the contrast of words with texts.

    Reference:
        FACE (NeurIPS 2025), stage 3.

    Note:
        The encoder reads true token embeddings; an entity that occurs twice, or two entities of the same text, are
        never each other's negatives; the contrast runs over a sample of unique entities per step; lexical anchoring
        stays on. Next to it the contrast changes neither recall nor words, so that recipes set `alignment_weight` to 0,
        and no entity goes through the encoder. What the paper expects of the mapper's gradient for the recommender is
        done directly besides: grounding contrasts the backbone's embedding of each user and item of a batch with what
        its words mean, the mean of the encoder's vectors of the words alone, as RLMRec-Con does with texts. A slot
        means its nearest words, weighted by its softmax: the word that is shown says less than the mapper knows
        (`benchmarks.grounding`). These are the words that the stage starts with, and they stay fixed: words that follow
        the embeddings that follow the words would only repeat what the recommender knows already.

    Args:
        alignment_loss: Builds the loss of descriptors against texts.
        aligned_per_step: Maximum number of entities of a step that go through the encoder, of those that are
            quantized; null for all of them.
        mapping_weight: Factor on the weights of all mapping terms, mu.
        alignment_weight: Weight of the alignment loss, lambda; at 0 it is not computed.
        token_gradient: How the gradient reaches the concepts behind the chosen words.
        grounding: Builds a loss between embeddings and the meaning of their words, from the widths of
            embeddings and word vectors; null for none, as the paper.
        grounding_words: Nearest words of a slot that make up its meaning.
        mapper_lr_factor: Learning rate of the mapper, as a share of the optimizer's.
        backbone_gradient: Share of the gradient of the mapper's losses that reaches the backbone: all of it, as
            in the paper, or less, since those losses are many times the recommender's and would dominate it; at 0
            words reach the backbone by grounding alone.
        **kwargs: Arguments of `DescribingStage` and `Stage`.

    Raises:
        ConfigurationError: If a number of entities or words is not positive, or `backbone_gradient` is not in 0..1.
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
        self._grounding_vectors: Tensor | None = None  # what embeddings are grounded in, `(U + I, E)`
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
        """The mapper, the backbone, and the grounding where there is one."""
        groups = super().parameter_groups()
        if self.grounding is not None:
            groups.append({"params": list(self.grounding.parameters()), "name": "grounding"})
        return groups

    def lr_factors(self) -> dict[str, float]:
        """Learning rates of parameter groups as shares of the optimizer's."""
        return super().lr_factors() | {"mapper": self.mapper_lr_factor}

    def begin(self, embeddings: Embeddings) -> None:
        """Ground embeddings in the words that they start with; a resumed run restores the same vectors."""
        super().begin(embeddings)
        if self.grounding is not None:
            if self._grounding_vectors is None:
                self._grounding_vectors = self.expected_word_vectors(embeddings, self.grounding_words).half()
            self._grounding_vectors = self._grounding_vectors.to(self.device, torch.float32)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the grounding vectors besides what every stage with words saves."""
        super().on_save_checkpoint(checkpoint)
        if self._grounding_vectors is not None:
            checkpoint["grounding_vectors"] = self._grounding_vectors.half().cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the grounding vectors."""
        super().on_load_checkpoint(checkpoint)
        self._grounding_vectors = checkpoint.get("grounding_vectors")

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """All loss terms of the step; `alignment/accuracy` and `alignment/modality_gap` are logged besides."""
        losses, embeddings = self.recommendation_losses(batch)
        entity_ids = batch.entity_ids.sort().values
        mapped, terms = self.map_entities(self._shielded(embeddings.gather(entity_ids)), entity_ids)
        losses |= {name: batch.entity_share * loss for name, loss in terms.items()}
        if self.grounding is not None:
            assert self._grounding_vectors is not None, "on_train_start comes first"
            everyone = torch.ones(len(self._grounding_vectors), dtype=torch.bool, device=self.device)
            losses["grounding"] = self.grounding.loss(batch, embeddings, self._grounding_vectors, everyone)
        if self.loss_weights["alignment"] > 0:
            losses["alignment"] = self._alignment(mapped, entity_ids, batch.entity_share > 0)
        return losses

    def _shielded(self, entities: Tensor) -> Tensor:
        """Embeddings whose gradient reaches the backbone in the share that `backbone_gradient` allows."""
        if self.backbone_gradient == 0:
            return entities.detach()
        if entities.requires_grad:
            entities.register_hook(lambda gradient: self.backbone_gradient * gradient)
        return entities

    def _alignment(self, mapped: Mapped, entity_ids: Tensor, has_entities: bool) -> Tensor:
        """Loss of descriptors of this process against the texts of all processes."""
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
        """Sentence vectors `(N, E)` of the descriptors of some of the quantized entities, with their gradient."""
        concepts, indices = mapped.concepts[mapped.rows[quantized]], mapped.quantized.indices[0][quantized]
        if not len(entity_ids):  # nothing of its own, but the other processes wait for it
            return concepts.sum() * self.space.texts.vectors[entity_ids]
        near = self.mapper.quantizer.nearest(concepts, NUM_NEAR) if self.token_gradient == "soft" else None
        table = self.space.descriptors.token_embeddings
        tokens = tokens_with_gradient(concepts, indices, mapped.codes, table, self.token_gradient, near)
        return self.space.descriptors.encode_tokens(tokens, entity_ids)

    @torch.no_grad()
    def log_alignment(
        self, descriptor_vectors: Tensor, text_vectors: Tensor, classes: Tensor, positives: Tensor
    ) -> None:
        """Accumulate how often descriptors are nearest to their own text, or an equal one, and how far they are.

        Args:
            descriptor_vectors: `(N, E)`.
            text_vectors: `(M, E)`.
            classes: Equal for equal texts, `(M,)`.
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
        """Besides what every stage logs, the modality gap.

        It is the distance of the mean vector of the epoch's descriptor sentences from that of the same
        entities' texts: unit vectors may lie in different places, however well they are ordered.

        Reference:
            Liang et al., "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
            Representation Learning", NeurIPS 2022.
        """
        values = super().epoch_values()
        if _SHIFT in values:
            values["alignment/modality_gap"] = values.pop(_SHIFT).norm()
        return values
