"""Stage 3: align words with texts through the frozen encoder, jointly with the recommender."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from face_lightning.distributed import gather_rows, world_size
from face_lightning.errors import check_range
from face_lightning.losses.contrastive import info_nce
from face_lightning.losses.text import ContrastiveText
from face_lightning.mapping.tokens import NUM_NEAR, TokenGradient, tokens_with_gradient
from face_lightning.stages.describing import DescribingStage, draw_rows
from face_lightning.structures import Embeddings, TrainingBatch
from face_lightning.words.space import gather_entities

_SHIFT = "alignment/shift"  # mean of words' vectors minus that of texts'


class AlignmentStage(DescribingStage):
    """All losses jointly: recommendation, mapping, and the contrast of words with texts.

    Reference:
        FACE (NeurIPS 2025), stage 3.

    Note:
        The encoder reads true token embeddings; an entity that occurs twice, or two entities of the same
        text, are never each other's negatives; the contrast runs over a sample of unique entities per
        step; lexical anchoring stays on, without which the encoder's gradient destroys the words. What the
        paper hopes the mapper's gradient will do for the recommender is done directly besides: grounding
        contrasts the backbone's embedding of each user and item of a batch with what its words mean, the
        mean of the encoder's vectors of the words alone, as RLMRec-Con does with texts. A slot means the words
        near to it, in the measure in which it expects them: the one that is shown tells less than the mapper
        knows (`benchmarks.grounding`). These are the words that the stage starts with, and rest: words that
        follow the embeddings that follow the words would only repeat what the recommender believes already.

    Args:
        aligned_per_step: Entities of a step that go through the encoder, at most, of those that are quantized; null
            for all of them.
        mapping_weight: Factor on the weights of all mapping terms, mu.
        alignment_weight: Weight of the contrast, lambda.
        temperature: Temperature of the contrast, tau.
        symmetric: Whether to contrast texts with words as well.
        token_gradient: How the gradient reaches the concepts behind the chosen words.
        grounding: Builds the contrast of embeddings with the meaning of their words, from the widths of
            embeddings and word vectors; null for none, as the paper.
        grounding_words: Words of a slot that take part in its meaning, the nearest ones.
        mapper_lr_factor: Learning rate of the mapper, as a share of the optimizer's.
        backbone_gradient: Share of the gradient of the mapper's losses that reaches the backbone: all of it, as
            in the paper, or less, as those losses are many times the recommender's and would rule it; at 0 the
            backbone hears of words by grounding alone.
        **kwargs: Arguments of `DescribingStage` and `Stage`.

    Raises:
        ConfigurationError: If the temperature or a number of entities or words is not positive, or
            `backbone_gradient` is not in 0..1.
    """

    name: ClassVar[str] = "alignment"

    def __init__(
        self,
        *,
        aligned_per_step: int | None = 64,
        mapping_weight: float = 1.0,
        alignment_weight: float = 0.02,
        temperature: float = 0.05,
        symmetric: bool = False,
        token_gradient: TokenGradient = "soft",
        grounding: Callable[[int, int], ContrastiveText] | None = None,
        grounding_words: int = 16,
        mapper_lr_factor: float = 1.0,
        backbone_gradient: float = 0.03,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        check_range("temperature", temperature, above=0, usual="0.05")
        if aligned_per_step is not None:
            check_range("aligned_per_step", aligned_per_step, least=1, usual="64")
        check_range("grounding_words", grounding_words, least=1, usual="16")
        check_range("backbone_gradient", backbone_gradient, least=0, most=1, usual="0.03, or 1 as in the paper,")
        super().__init__(**kwargs)
        self.mapper_lr_factor = mapper_lr_factor
        self.backbone_gradient = backbone_gradient
        self._meanings: Tensor | None = None  # what embeddings are grounded in
        self.grounding_words = grounding_words
        self.grounding = grounding(self.backbone.embedding_dim, self.words.encoder.width) if grounding else None
        self.aligned_per_step = aligned_per_step
        self.temperature = temperature
        self.symmetric = symmetric
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
        """Let the embeddings be grounded in the words that they start with; a resume takes up the same."""
        super().begin(embeddings)
        if self.grounding is not None:
            if self._meanings is None:
                self._meanings = self.meanings(embeddings, self.grounding_words).half()
            self._meanings = self._meanings.to(self.device, torch.float32)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what embeddings are grounded in, besides what every stage with words does."""
        super().on_save_checkpoint(checkpoint)
        if self._meanings is not None:
            checkpoint["meanings"] = self._meanings.half().cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        super().on_load_checkpoint(checkpoint)
        self._meanings = checkpoint.get("meanings")

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """All loss terms of the step; `alignment/accuracy` and `alignment/modality_gap` are logged besides."""
        losses, embeddings = self.recommendation_losses(batch)
        entity_ids = batch.entity_ids.sort().values
        entities = gather_entities(embeddings, entity_ids)
        if self.backbone_gradient == 0:
            entities = entities.detach()
        elif entities.requires_grad:
            entities.register_hook(lambda gradient: self.backbone_gradient * gradient)
        mapped = self.mapper(entities, self.reconstructed_rows(len(entities)))
        own = self.words.losses(mapped, entity_ids, self.loss_weights["anchoring"] > 0)
        losses |= {name: batch.entity_share * loss for name, loss in own.items()}
        if self.grounding is not None:
            assert self._meanings is not None, "on_train_start comes first"
            everyone = torch.ones(len(self._meanings), dtype=torch.bool, device=self.device)
            losses["grounding"] = self.grounding.loss(batch, embeddings, self._meanings, everyone)
        if self.loss_weights["alignment"] > 0:
            quantized = self._aligned_rows(entity_ids[mapped.rows]) if batch.entity_share else entity_ids[:0]
            rows = mapped.rows[quantized]
            losses["alignment"] = self._alignment(
                mapped.concepts[rows], mapped.quantized.indices[0][quantized], mapped.codes, entity_ids[rows]
            )
        return losses

    def _aligned_rows(self, entity_ids: Tensor) -> Tensor:
        return draw_rows(self.words.present[entity_ids].nonzero().squeeze(1), self.aligned_per_step)

    def _alignment(self, concepts: Tensor, tokens: Tensor, codes: Tensor, entity_ids: Tensor) -> Tensor:
        """Contrast of this process's words with the texts of all processes."""
        if len(entity_ids):
            near = self.mapper.quantizer.nearest(concepts, NUM_NEAR) if self.token_gradient == "soft" else None
            table = self.words.token_embeddings
            words = tokens_with_gradient(concepts, tokens, codes, table, self.token_gradient, near)
            spoken = self.words.encode_words(words, entity_ids)
        else:  # nothing of its own, but others wait for it to take part
            spoken = concepts.sum() * self.words.vectors[entity_ids]
        all_ids = gather_rows(entity_ids)
        positives = (entity_ids.unsqueeze(1) == all_ids).int().argmax(1)
        written, classes = self.words.vectors[all_ids], self.words.classes[all_ids]
        same_text = classes[positives].unsqueeze(1) == classes
        self._observe(spoken, written, classes, positives)
        loss = info_nce(spoken, written, self.temperature, same_text, positives=positives)
        if self.symmetric:
            own, others = written[positives], gather_rows(spoken)
            loss = (loss + info_nce(own, others, self.temperature, same_text, positives=positives)) / 2
        return loss * (len(entity_ids) * world_size() / max(1, len(all_ids)))

    @torch.no_grad()
    def _observe(self, spoken: Tensor, written: Tensor, classes: Tensor, positives: Tensor) -> None:
        """How often words are nearest to their own text, or one like it, and how far from texts they are."""
        accuracy, shift = spoken.new_zeros(()), spoken.new_zeros(spoken.shape[1])
        if len(spoken):
            accuracy = (classes[(spoken @ written.T).argmax(1)] == classes[positives]).float().mean()
            shift = (spoken - written[positives]).mean(0)
        self.epoch_means.update({"alignment/accuracy": accuracy}, len(spoken))
        self.epoch_means.update({_SHIFT: shift}, len(spoken))

    def epoch_values(self) -> dict[str, Tensor]:
        """Besides what every stage logs, the modality gap.

        It is the distance of the mean vector of the epoch's descriptor sentences from that of the same
        entities' texts: vectors of length 1 that lie in different places, however well they are ordered.

        Reference:
            Liang et al., "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
            Representation Learning", NeurIPS 2022.
        """
        values = super().epoch_values()
        if _SHIFT in values:
            values["alignment/modality_gap"] = values.pop(_SHIFT).norm()
        return values
