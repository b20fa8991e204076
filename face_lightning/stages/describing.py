"""What the stages share that give words to entities: mapping and alignment."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from face_lightning.errors import check_range
from face_lightning.mapping.mapper import TokenMapper
from face_lightning.stages.base import Stage
from face_lightning.structures import Embeddings
from face_lightning.words.monitor import WordMonitor
from face_lightning.words.space import WordSpace, told_apart


class DescribingStage(Stage):
    """A stage with a mapper and a word space, which it reads, watches and keeps in checkpoints.

    Args:
        mapper: Builds the mapper from token embeddings and the backbone's embedding_dim.
        words: Builds the word space from extra words.
        extra_words: Words of the catalogue's own texts to let into the vocabulary.
        reconstructed_per_step: Entities of a step that are quantized and reconstructed, at most; null for all, as in
            the paper. The others take part in lexical anchoring alone, which learns more from many entities and
            costs much less.
        reconstruction_weight: Weight of the reconstruction.
        codebook_weight: Weight of the quantizer's codebook term.
        commitment_weight: Weight of the quantizer's commitment term.
        anchoring_weight: Weight of lexical anchoring; 0 leaves texts out, as the paper does.
        warmup_steps: Steps over which learning rates rise, without which the transformers' first steps undo the words.
        **kwargs: Arguments of `Stage`.
    """

    def __init__(
        self,
        *,
        mapper: Callable[[Tensor, int], TokenMapper] = TokenMapper,
        words: Callable[[Sequence[str]], WordSpace] = WordSpace,
        extra_words: Sequence[str] = (),
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
        self.words = words(extra_words)
        self.mapper = mapper(self.words.codebook.token_embeddings, self.backbone.embedding_dim)
        self.word_monitor = WordMonitor(self.words, self.mapper)
        self.loss_weights |= {
            "reconstruction": reconstruction_weight,
            "codebook": codebook_weight,
            "commitment": commitment_weight,
            "anchoring": anchoring_weight,
        }

    def reconstructed_rows(self, num_entities: int) -> Tensor:
        """Which entities of a step are quantized and reconstructed, drawn anew in each, in ascending order `(R,)`."""
        return draw_rows(torch.arange(num_entities, device=self.device), self.reconstructed_per_step)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The mapper and the backbone."""
        return [{"params": list(self.mapper.parameters()), "name": "mapper"}, *super().parameter_groups()]

    def setup(self, stage: str) -> None:
        """Read the texts of all entities besides what every stage sets up."""
        super().setup(stage)
        self.words.read(self.trainer.datamodule.profiles, self.device)  # type: ignore[attr-defined]

    @torch.no_grad()
    def on_train_start(self) -> None:
        """Begin, with the backbone's embeddings as evaluation sees them; a resume in mid-epoch does so too."""
        training = self.training
        self.eval()
        self.begin(self.backbone(self.graph))
        self.train(training)

    def begin(self, embeddings: Embeddings) -> None:
        """Let the mapper measure the embeddings of all entities, unless an earlier stage did."""
        self.mapper.fit_input(self.tiles(embeddings))

    def tiles(self, embeddings: Embeddings, size: int = 1024) -> Iterator[Tensor]:
        """Whole embeddings of all entities, users first, tile by tile `(N, D)`; all processes must ask."""
        for table in embeddings:
            for tile in table.split(size):
                yield self.tables.whole_rows(tile)

    def describe(self, embeddings: Embeddings) -> Tensor:
        """Descriptors of all entities `(U + I, S)`, users first; all processes must ask."""
        return self.mapper.describe(self.tiles(embeddings))

    def meanings(self, embeddings: Embeddings, num_near: int) -> Tensor:
        """What the slots of all entities mean together, unit vectors `(U + I, E)`; all processes must ask.

        Args:
            embeddings: Of all users and items.
            num_near: Words of a slot that may be meant; more tell more than the one that is shown.
        """

        def expected(concepts: Tensor, codes: Tensor) -> Tensor:
            near = self.mapper.quantizer.nearest(concepts, min(num_near, len(codes)), codes)
            return self.words.expected_vectors(concepts, codes, near)

        return told_apart(self.mapper.over_tiles(self.tiles(embeddings, 128), expected))

    def on_validation_epoch_end(self) -> None:
        """Log the health of the words besides the ranking metrics."""
        self._log_words(retrieval=False)
        super().on_validation_epoch_end()

    def on_test_epoch_end(self) -> None:
        """Log the health of the words and how well they pick their entity, besides the ranking metrics."""
        self._log_words(retrieval=True)
        super().on_test_epoch_end()

    def _log_words(self, retrieval: bool) -> None:
        """Log the health of all entities' words, and a sample of them as text."""
        descriptors = self.describe(self.final_embeddings)
        fitting = self.trainer.state.fn == "fit"
        self.log_dict(self.word_monitor.measure(descriptors, fitting=fitting, retrieval=retrieval))
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("words", self.words.sample(descriptors), self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the health of words is compared with, besides what every stage keeps."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["words"] = self.word_monitor.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        super().on_load_checkpoint(checkpoint)
        if "words" in checkpoint:
            self.word_monitor.load_state_dict(checkpoint["words"])


def draw_rows(rows: Tensor, limit: int | None) -> Tensor:
    """As many of `rows` `(N,)` at random as the limit allows, in their order; all of them if it is None."""
    if limit is None or len(rows) <= limit:
        return rows
    return rows[torch.randperm(len(rows), device=rows.device)[:limit].sort().values]
