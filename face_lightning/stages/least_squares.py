"""Stage 1 by alternating least squares: embedding tables in closed form, without a learning rate."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD, Optimizer

from face_lightning.backbones import GMF, Backbone
from face_lightning.distributed import gather_rows
from face_lightning.errors import ConfigurationError, check_range
from face_lightning.losses.weighted_squares import (
    default_unobserved_weight,
    regularization_of_rows,
    regularization_term,
    sum_of_squares,
    targets_of_items,
)
from face_lightning.row_solver import RowSolver
from face_lightning.search_space import Between, OneOf, SearchSpace
from face_lightning.stages.base import Stage
from face_lightning.structures import RowBatch, TrainingBatch

_TILE = 2**16  # interactions whose scores are computed at once


class LeastSquaresStage(Stage):
    """Implicit ALS: solves for all users given the items, then for all items given the users, once an epoch.

    `L = sum over observed (s - t_i)^2 + w sum over all s^2 + sum_u l_u ||e_u||^2 + sum_i l_i ||e_i||^2`
    with the weights `l_u` and `l_i` of `regularization_of_rows`, as in Rendle et al., and the targets `t_i` of
    `targets_of_items`, which are 1 by default.

    A batch is a tile of rows, which is solved exactly. Processes share the rows of every tile. The result is a
    checkpoint of embedding tables like that of any stage 1.

    The best `l` differs between data sets by a factor of four. By default every epoch raises it by a factor, from a
    value that is too small for any of them, and the best epoch on validation decides: one run follows the path of
    regularisation at the cost of a run with one value, as each epoch starts from the solution of the one before.

    Reference:
        Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; weights and
        regularisation as in Rendle et al., "Revisiting the Performance of iALS on Item Recommendation Benchmarks",
        RecSys 2022; paths of warm starts as in Friedman, Hastie & Tibshirani, "Regularization Paths for Generalized
        Linear Models via Coordinate Descent", JSS 2010.

    Args:
        backbone: Builds the backbone from `num_users` and `num_items`; it has to be `GMF`.
        num_users: U.
        num_items: I.
        unobserved_weight: Weight of every pair, observed or not, with the target 0; w. That of
            `default_unobserved_weight` if null.
        regularization: l of the first epoch.
        regularization_growth: Factor on l after every epoch; 1 keeps it.
        frequency_power: p; 0 regularises all rows alike, 1 in proportion to their interactions.
        popularity_discount: d; the higher, the lower are the targets of popular items, see `targets_of_items`.
        top_k: See `Stage`.

    Raises:
        ConfigurationError: If the backbone is another one, or a number is out of range.
    """

    name: ClassVar[str] = "least_squares"
    trains_on_rows: ClassVar[bool] = True
    # A constant regularisation that fits the data beats the path by 1 to 2.4 % (benchmarks/README.md).
    search_space: ClassVar[SearchSpace] = {
        "unobserved_weight": Between(2e-3, 0.1),
        "regularization": Between(1.0, 8.0),
        "regularization_growth": OneOf((1.0,)),
        "popularity_discount": Between(0.0, 0.3, log=False),
    }

    def __init__(
        self,
        backbone: Callable[[int, int], Backbone],
        num_users: int,
        num_items: int,
        *,
        unobserved_weight: float | None = None,
        regularization: float = 1.0,
        regularization_growth: float = 1.1,
        frequency_power: float = 0.5,
        popularity_discount: float = 0.0,
        top_k: Sequence[int] = (5, 10, 20),
    ) -> None:
        super().__init__(backbone, num_users, num_items, top_k=top_k)
        if not isinstance(self.backbone, GMF):
            raise ConfigurationError(
                f"backbone: expected GMF for least squares, got {type(self.backbone).__name__}, whose embeddings are "
                "no tables to solve for; use PretrainingStage, with the ranking loss WeightedSquares if wanted"
            )
        if unobserved_weight is not None:
            check_range("unobserved_weight", unobserved_weight, above=0, most=1e6, usual="0.01, or null,")
        check_range("regularization", regularization, above=0, usual="1 with growth, 3 without,")
        check_range("regularization_growth", regularization_growth, least=1, usual="1.1, or 1 for none,")
        check_range("frequency_power", frequency_power, least=0, most=1, usual="0.5")
        check_range("popularity_discount", popularity_discount, least=0, most=1, usual="0 to 0.2")
        self.unobserved_weight = unobserved_weight
        self.regularization = regularization
        self.regularization_growth = regularization_growth
        self.frequency_power = frequency_power
        self.popularity_discount = popularity_discount
        self.automatic_optimization = False
        self._solver: tuple[tuple[int, bool], RowSolver] | None = None

    def setup(self, stage: str) -> None:
        """Compute every row's share of the regularisation and items' targets besides what every stage sets up."""
        super().setup(stage)
        given, graph = self.unobserved_weight, self.graph
        sizes = graph.num_interactions, graph.num_users, graph.num_items
        self._unobserved_weight = default_unobserved_weight(*sizes) if given is None else given
        self._row_weights = regularization_of_rows(graph, self._unobserved_weight, 1.0, self.frequency_power)
        frequencies = torch.bincount(graph.edge_index[1], minlength=graph.num_items)
        self._targets = targets_of_items(frequencies, self.popularity_discount)

    def on_fit_start(self) -> None:
        """Refuse a path of regularisation that nothing ends.

        Raises:
            ConfigurationError: If the regularisation grows and there are no validation pairs.
        """
        super().on_fit_start()
        interactions = self.trainer.datamodule.interactions  # type: ignore[attr-defined]
        if self.regularization_growth > 1 and not interactions.valid.nnz:
            raise ConfigurationError(
                f"regularization_growth: expected 1, got {self.regularization_growth:g}, as there are no validation "
                "pairs to choose the best epoch by; set it to 1, and regularization to a value between 1 and 7"
            )

    def refinements(self, best_epoch: int) -> list[dict[str, Any]]:
        """A constant regularisation where the path was best, with neighbouring weights w and discounts as well."""
        found = regularization_at(best_epoch, self.regularization, self.regularization_growth)
        steps = ((1.0, 1.0, 0.0), (2.0, 1.25, 0.0), (2.0, 1.25, 0.1), (0.5, 0.8, 0.0))
        return [
            {
                "unobserved_weight": weight * self._unobserved_weight,
                "regularization": factor * found,
                "regularization_growth": 1.0,
                "popularity_discount": discount,
            }
            for weight, factor, discount in steps
            if self.regularization_growth > 1
        ]

    @property
    def _regularization(self) -> float:
        """That of the current epoch, l."""
        return regularization_at(self.current_epoch, self.regularization, self.regularization_growth)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """An optimizer that never sees a gradient: its steps are what checkpoints and loggers count."""
        return [SGD(self.backbone.parameters(), lr=0.0)], []

    @torch.no_grad()
    def training_step(self, batch: RowBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Solve for a tile of rows."""
        del batch_idx
        tables = self.embed()
        table, other = tables if batch.of_users else reversed(tables)
        weights = self._regularization * self._row_weights[0 if batch.of_users else 1]
        solver = self._solver_on(other, batch.of_users)
        rows = solver.solve(batch.column_ids, batch.lengths, weights[batch.row_ids])
        if not batch.of_users:  # the same target for all of an item's pairs
            rows = rows * self._targets[batch.row_ids].unsqueeze(1)
        table.index_copy_(0, gather_rows(batch.row_ids), gather_rows(rows).to(table.dtype))
        self.optimizers().step()  # type: ignore[union-attr]

    def _solver_on(self, other: Tensor, of_users: bool) -> RowSolver:
        """The solver of the half of the epoch at hand, in which `other` does not change."""
        half = (self.current_epoch, of_users)
        if self._solver is None or self._solver[0] != half:
            self._solver = half, RowSolver(other, self._unobserved_weight, self._targets if of_users else None)
        return self._solver[1]

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """The objective on all interactions, each term divided by their number; the batch is not used."""
        del batch
        embeddings, (user_ids, item_ids) = self.embed(), self.graph.edge_index
        observed = []
        for users, items in zip(user_ids.split(_TILE), item_ids.split(_TILE), strict=True):
            scores = (F.embedding(users, embeddings.users) * F.embedding(items, embeddings.items)).sum(-1)
            observed.append((scores - self._targets[items]).square().sum())
        terms = {
            "observed": torch.stack(observed).sum(),
            "all_pairs": self._unobserved_weight * sum_of_squares(embeddings),
            "regularization": self._regularization * regularization_term(embeddings, self._row_weights),
        }
        return {name: term / self.graph.num_interactions for name, term in terms.items()}

    @torch.no_grad()
    def epoch_values(self) -> dict[str, Tensor]:
        """The objective, which no epoch raises while the regularisation stays the same."""
        terms = self.losses(TrainingBatch(*(torch.empty(0, dtype=torch.long),) * 4))
        values = {f"train/{name}": term for name, term in terms.items()}
        return values | {"train/loss": torch.stack([*terms.values()]).sum()}


def regularization_at(epoch: int, regularization: float, growth: float) -> float:
    """Regularisation l of an epoch, from 0 on."""
    return regularization * growth**epoch
