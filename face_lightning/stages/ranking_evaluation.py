"""Full-ranking validation, test and prediction, shared by all stages."""

from collections.abc import Sequence
from typing import Any

import lightning as L
from torch import Tensor

from face_lightning.backbones import Backbone
from face_lightning.errors import ConfigurationError
from face_lightning.graph import InteractionGraph
from face_lightning.memory import check_memory
from face_lightning.metrics import per_user_values, ranking_metrics
from face_lightning.parallel.table_layout import TableLayout, WholeTables
from face_lightning.ranking import TileRanker, find_hits
from face_lightning.structures import Embeddings, EvaluationBatch


class RankingEvaluation(L.LightningModule):
    """Ranks all items for every user; embeddings are computed once per evaluation.

    Attributes:
        backbone: Computes the embeddings.
        graph: Interaction graph that the backbone propagates on.
        tables: Layout of the embedding tables over processes.
        top_k: Values of K for Recall and NDCG, in ascending order.
        test_users: Metrics of each user from the last test.

    Args:
        top_k: Values of K for Recall and NDCG; the largest one is shown in the progress bar.
        num_items: I.

    Raises:
        ConfigurationError: If `top_k` is empty or not positive, or its rankings do not fit into memory.
    """

    backbone: Backbone
    graph: InteractionGraph

    def __init__(self, top_k: Sequence[int], num_items: int) -> None:
        super().__init__()
        if not top_k or min(top_k) < 1:
            raise ConfigurationError(
                f"top_k: expected one or more numbers from 1 on, got {list(top_k)}; [5, 10, 20] is usual"
            )
        check_memory(
            "top_k",
            8 * max(top_k) * 1024,
            f"{max(top_k):,} items x 1,024 users of a tile x 8 bytes",
            f"lower it; there are {num_items:,} items",
        )
        self.top_k = sorted(set(top_k))
        self.val_metrics = ranking_metrics(self.top_k, "val/")
        self.test_metrics = ranking_metrics(self.top_k, "test/")
        self.test_users: dict[str, list[Tensor]] = {}
        self.tables: TableLayout = WholeTables()
        self._final: Embeddings | None = None
        self._ranker: TileRanker | None = None

    @property
    def final_embeddings(self) -> Embeddings:
        """Embeddings of the current evaluation."""
        assert self._final is not None, "evaluation starts with _start_evaluation"
        return self._final

    def _start_evaluation(self) -> None:
        """Compute the embeddings once for the whole evaluation."""
        self._ranker = None
        self._final = self.backbone(self.graph)

    def _rank(self, batch: EvaluationBatch) -> tuple[EvaluationBatch, Tensor]:
        """Return the part of the batch that this process counts, and the top items of its users."""
        if self._ranker is None:
            self._ranker = self.tables.ranker(self.final_embeddings)
        return self.tables.own_users(batch, self._ranker.rank(batch, self.top_k[-1]))

    def on_validation_epoch_start(self) -> None:
        """See `_start_evaluation`."""
        self._start_evaluation()

    def validation_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Rank all items for a tile of users."""
        del batch_idx
        batch, ranked = self._rank(batch)
        self.val_metrics.update(*find_hits(ranked, batch, self.backbone.num_items))

    def on_validation_epoch_end(self) -> None:
        """Log `val/recall@K` and `val/ndcg@K`."""
        self._log_metrics(self.val_metrics)

    def on_test_epoch_start(self) -> None:
        """See `_start_evaluation`."""
        self._start_evaluation()
        self.test_users = {}

    def test_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Rank all items for a tile of users, and keep each user's metrics."""
        del batch_idx
        batch, ranked = self._rank(batch)
        hits, num_relevant = find_hits(ranked, batch, self.backbone.num_items)
        self.test_metrics.update(hits, num_relevant)
        values = {"user": batch.user_ids.cpu()} | per_user_values(self.test_metrics, hits, num_relevant)
        for key, value in values.items():
            self.test_users.setdefault(key, []).append(value)

    def on_test_epoch_end(self) -> None:
        """Log `test/recall@K` and `test/ndcg@K`."""
        self._log_metrics(self.test_metrics)

    def _log_metrics(self, metrics: Any) -> None:  # noqa: ANN401 MetricCollection is callable in ways mypy cannot see
        # Compute and reset explicitly instead of logging the metric objects, which Lightning syncs at a later point.
        values = {key: value.float() for key, value in metrics.compute().items()}
        shown = f"recall@{self.top_k[-1]}"
        for key, value in values.items():
            self.log(key, value, prog_bar=key.endswith(shown))
        metrics.reset()

    def on_predict_epoch_start(self) -> None:
        """See `_start_evaluation`."""
        self._start_evaluation()

    def predict_step(self, batch: EvaluationBatch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """Return user ids `(B,)` and their top unseen items `(B, K)`, best first."""
        del batch_idx
        batch, ranked = self._rank(batch)
        return batch.user_ids, ranked

    def on_fit_end(self) -> None:
        """Drop the embeddings of the last validation: they are views, which callbacks cannot deep-copy with a stage."""
        self._ranker = self._final = None
