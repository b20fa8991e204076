"""Base class of the stages that describe entities by words: mapping, alignment and fusion."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.mapping.losses import mapping_losses
from face_lightning.mapping.mapper import Mapped, TokenMapper
from face_lightning.stages.base import Stage
from face_lightning.structures import Embeddings
from face_lightning.words.centering import center
from face_lightning.words.entity_texts import EntityTexts, collect_texts, text_vectors
from face_lightning.words.monitor import WordMonitor, sample_table
from face_lightning.words.prediction import predict_targets, with_targets
from face_lightning.words.retrieval import measure_retrieval
from face_lightning.words.settings import WordSettings
from face_lightning.words.space import WordSpace, build_word_space
from face_lightning.words.word_vectors import WordVectors


class DescribingStage(Stage):
    """A stage with a mapper; computes the mapper's losses and monitors its words.

    Args:
        mapper: Builds the mapper from token embeddings and the backbone's embedding_dim.
        words: Builds the settings of vocabulary, encoder, prompts and targets.
        extra_words: Returns words from the catalogue's own texts to add to the vocabulary; called when the vocabulary
            is built.
        reconstructed_per_step: Maximum number of entities per step that are quantized and reconstructed; null for
            all, as in the paper. The others enter only the lexical anchoring loss, which benefits from many entities
            and is much cheaper.
        reconstruction_weight: Weight of the reconstruction loss.
        codebook_weight: Weight of the quantizer's codebook loss.
        commitment_weight: Weight of the quantizer's commitment loss.
        anchoring_weight: Weight of the lexical anchoring loss; at 0 no texts are used, as in the paper.
        warmup_steps: Steps of learning rate warm-up; without it the first steps of the transformers destroy the words.
        **kwargs: Arguments of `Stage`.
    """

    space: WordSpace  # built by setup
    held_out: EntityTexts | None = None  # texts for evaluation only, never trained on
    validates_retrieval: bool = False  # whether validation measures the retrieval of entities by words, as test does

    def __init__(
        self,
        *,
        mapper: Callable[[Tensor, int], TokenMapper] = TokenMapper,
        words: Callable[[], WordSettings] = WordSettings,
        extra_words: Callable[[], Sequence[str]] | None = None,
        reconstructed_per_step: int | None = 64,
        reconstruction_weight: float = 1.0,
        codebook_weight: float = 0.1875,
        commitment_weight: float = 0.0625,
        anchoring_weight: float = 1.0,
        warmup_steps: int = 30,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(warmup_steps=warmup_steps, **kwargs)
        if reconstructed_per_step is not None:
            check_range("reconstructed_per_step", reconstructed_per_step, least=1, usual="64")
        self.reconstructed_per_step = reconstructed_per_step
        self.words = words()
        self.codebook, self.codebook_report = self.words.vocabulary.read(extra_words)
        self.mapper = mapper(self.codebook.token_embeddings, self.backbone.embedding_dim)
        self.mapper.distinguish(self.codebook.lemmas)
        self._predicted_targets: Tensor | None = None  # of entities without a text
        self.word_monitor = WordMonitor(len(self.codebook.words), self.mapper.num_descriptors, self.backbone.num_users)
        self.loss_weights |= {
            "reconstruction": reconstruction_weight,
            "codebook": codebook_weight,
            "commitment": commitment_weight,
            "anchoring": anchoring_weight,
        }

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the mapper and the backbone."""
        return [{"params": list(self.mapper.parameters()), "name": "mapper"}, *super().parameter_groups()]

    def setup(self, stage: str) -> None:
        """Set up the base class and encode the texts of all entities."""
        super().setup(stage)
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.space = build_word_space(self.words, self.codebook, datamodule.profiles, self.device)
        held_out = datamodule.held_out_profiles
        if held_out is not None and any((*held_out.user_texts, *held_out.item_texts)):
            vectors = text_vectors(self.words.encoder, held_out)
            self.held_out = collect_texts(held_out, vectors, self.device, self.space.descriptors.centers is not None)

    @torch.no_grad()
    def on_train_start(self) -> None:
        """Call `begin` with embeddings computed in eval mode, also when a run resumes in mid-epoch."""
        training = self.training
        self.eval()
        self.begin(self.backbone(self.graph))
        self.train(training)

    def begin(self, embeddings: Embeddings) -> None:
        """Fit the mapper's input statistics, unless already fitted, and predict targets of entities without texts."""
        self.mapper.fit_input(self.tiles(embeddings))
        present, ridge = self.space.texts.present, self.words.missing_ridge
        if not ridge or not self.loss_weights["anchoring"] or bool(present.all()):
            return
        if self._predicted_targets is None:  # a resumed run restores them, since its embeddings have changed
            whole = torch.cat(list(self.tiles(embeddings)))
            known = self.space, whole, self.graph.edge_index
            self._predicted_targets = predict_targets(*known, ridge, self.words.target_pool)
        targets = with_targets(self.space.targets, present, self._predicted_targets)
        self.space = replace(self.space, targets=targets)

    def map_entities(self, embeddings: Tensor, entity_ids: Tensor) -> tuple[Mapped, dict[str, Tensor]]:
        """Map the entities of a step and compute the mapper's losses.

        Args:
            embeddings: Embeddings of the entities with all columns, `(M, D)`.
            entity_ids: `(M,)`.

        Returns:
            Output of the mapper, with a random subset of the entities quantized and reconstructed, and the loss terms
            by name.
        """
        rows = draw_rows(torch.arange(len(embeddings), device=self.device), self.reconstructed_per_step)
        mapped = self.mapper(embeddings, rows)
        anchored = self.loss_weights["anchoring"] > 0
        losses = mapping_losses(
            mapped,
            self.space.targets.rows(entity_ids) if anchored else None,
            self.words.anchoring_temperature,
            self.words.anchoring_negatives,
        )
        return mapped, losses

    def tiles(self, tables: Iterable[Tensor], size: int = 1024) -> Iterator[Tensor]:
        """Iterate over tiles `(N, D)` of the tables' rows with all columns; a collective operation."""
        for table in tables:
            for tile in table.split(size):
                yield self.tables.whole_rows(tile)

    def describe(self, embeddings: Embeddings) -> Tensor:
        """Compute the descriptors of all entities, `(U + I, S)`, users first; a collective operation."""
        return self.mapper.describe(self.tiles(embeddings))

    def expected_word_vectors(
        self, tables: Iterable[Tensor], num_near: int, word_vectors: WordVectors | None = None
    ) -> Tensor:
        """Compute softmax-weighted mean word vectors of entities; a collective operation.

        Args:
            tables: Embeddings of users, of items, or of both.
            num_near: Number of nearest words per slot in the mean.
            word_vectors: Vectors of the words; those of the text encoder if None.

        Returns:
            Centered unit vectors `(N, E)`.
        """
        vectors = self.space.word_vectors if word_vectors is None else word_vectors

        def expected(concepts: Tensor, codes: Tensor) -> Tensor:
            near = self.mapper.quantizer.nearest(concepts, min(num_near, len(codes)), codes)
            return vectors.expected(concepts, codes, near)

        return center(self.mapper.map_tiles(self.tiles(tables, 128), expected))

    def on_validation_epoch_end(self) -> None:
        """Log word statistics and ranking metrics."""
        self._log_words(retrieval=self.validates_retrieval)
        super().on_validation_epoch_end()

    def on_test_epoch_end(self) -> None:
        """Log word statistics, retrieval of entities by words, and ranking metrics."""
        self._log_words(retrieval=True)
        super().on_test_epoch_end()

    def _log_words(self, retrieval: bool) -> None:
        """Log statistics of the words of all entities, and a sample of words as text."""
        descriptors = self.describe(self.final_embeddings)
        self.log_dict(self.word_monitor.measure(descriptors, fitting=self.trainer.state.fn == "fit"))
        limit = self.words.retrieval_limit
        if self.held_out is not None:
            values = measure_retrieval(descriptors, self.space.descriptors, self.held_out, limit, (10,))
            names = {key: key.replace("retrieval", "heldout") for key in values}
            self.log_dict({f"words/{names[key]}": value.float() for key, value in values.items()})
        if retrieval:
            values = measure_retrieval(descriptors, self.space.descriptors, self.space.texts, limit)
            self.log_dict({f"words/{key}": value.float() for key, value in values.items()})
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                table = sample_table(self.space.texts, self.space.word_vectors, descriptors)
                logger.experiment.add_text("words", table, self.global_step)
                for name, rows in (("use", descriptors), ("use_by_items", descriptors[self.backbone.num_users :])):
                    counts = torch.bincount(rows.flatten())
                    logger.experiment.add_histogram(f"words/{name}", counts[counts > 0], self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the monitor's state and the predicted targets in addition to the base class's state."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["words"] = self.word_monitor.state_dict()
        if self._predicted_targets is not None:
            checkpoint["predicted_targets"] = self._predicted_targets.int().cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the monitor's state and the predicted targets."""
        super().on_load_checkpoint(checkpoint)
        self._predicted_targets = checkpoint.get("predicted_targets")
        if "words" in checkpoint:
            self.word_monitor.load_state_dict(checkpoint["words"])


def draw_rows(rows: Tensor, limit: int | None) -> Tensor:
    """Draw at most `limit` of the `rows` `(N,)` at random, in their original order; all rows if None."""
    if limit is None or len(rows) <= limit:
        return rows
    return rows[torch.randperm(len(rows), device=rows.device)[:limit].sort().values]
