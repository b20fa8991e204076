"""Evaluation of baselines with the same masking, tie breaking and metrics as for stages."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from face_lightning.baselines.baseline import Baseline
from face_lightning.inner_product import rank_items
from face_lightning.metrics import per_user_values, ranking_metrics
from face_lightning.ranking import TileRanker, find_hits
from face_lightning.structures import EvaluationBatch


class BaselineRanker:
    """Ranks all items for tiles of users by a fitted baseline.

    Args:
        baseline: Fitted baseline.
        train: Training interactions `(U, I)`, the histories of the users.
    """

    def __init__(self, baseline: Baseline, train: csr_array[Any]) -> None:
        self._baseline = baseline
        self._train = train

    def rank(self, batch: EvaluationBatch, top_k: int) -> Tensor:
        """Return the top items of each user `(B, K)`, best first, seen items last, ties by ascending item index."""
        scores = self._baseline.score(self._train[batch.user_ids.numpy()])
        scores[batch.seen_rows, batch.seen_items] = -torch.inf
        return rank_items(scores, top_k)


class Evaluation(NamedTuple):
    """Result of an evaluation.

    Attributes:
        metrics: Mean of each metric over users.
        users: Values of each metric per user, and the users' ids under `user`.
    """

    metrics: dict[str, float]
    users: dict[str, np.ndarray]


def evaluate(
    ranker: TileRanker, batches: Iterable[EvaluationBatch], num_items: int, prefix: str, top_k: Sequence[int]
) -> Evaluation:
    """Evaluate a ranker.

    Args:
        ranker: Ranker to evaluate.
        batches: Tiles of users.
        num_items: I.
        prefix: Prefix of metric names, such as `test/`.
        top_k: Values of K for Recall and NDCG.
    """
    metrics = ranking_metrics(sorted(top_k), prefix)
    parts: dict[str, list[Tensor]] = {}
    for batch in batches:
        hits, num_relevant = find_hits(ranker.rank(batch, max(top_k)), batch, num_items)
        metrics.update(hits, num_relevant)
        for key, values in ({"user": batch.user_ids} | per_user_values(metrics, hits, num_relevant)).items():
            parts.setdefault(key, []).append(values)
    means = {key: float(value) for key, value in metrics.compute().items()}
    return Evaluation(means, {key: torch.cat(values).numpy() for key, values in parts.items()})
