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
from face_lightning.losses.weighted_squares import sum_of_squares
from face_lightning.row_solver import RowSolver
from face_lightning.stages.base import Stage
from face_lightning.structures import Embeddings, RowBatch, TrainingBatch

_TILE = 2**16  # interactions whose scores are computed at once


class LeastSquaresStage(Stage):
    """Implicit ALS: solves for all users given the items, then for all items given the users, once an epoch.

    `L = sum over observed (s - 1)^2 + w sum over all s^2 + sum_u l_u ||e_u||^2 + sum_i l_i ||e_i||^2`
    with `l_u = l ((n_u + w I) / mean)^p`, where `n_u` is the number of the user's interactions and the mean is that
    of `n_u + w I` over all users; likewise for items.

    A batch is a tile of rows, which is solved exactly. Processes share the rows of every tile. The result is a
    checkpoint of embedding tables like that of any stage 1.

    Reference:
        Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; weights and
        regularisation as in Rendle et al., "Revisiting the Performance of iALS on Item Recommendation Benchmarks",
        RecSys 2022.

    Note:
        Rendle et al. leave out the mean, which only rescales `l`, so that a change of `p` or `w` changes the best
        `l` by orders of magnitude.

    Args:
        backbone: Builds the backbone from `num_users` and `num_items`; it has to be `GMF`.
        num_users: U.
        num_items: I.
        unobserved_weight: Weight of every pair, observed or not, whose score shall be 0; w.
        regularization: l.
        frequency_power: p; 0 regularises all rows alike, 1 in proportion to their interactions.
        top_k: See `Stage`.

    Raises:
        ConfigurationError: If the backbone is another one, or a number is out of range.
    """

    name: ClassVar[str] = "least_squares"
    trains_on_rows: ClassVar[bool] = True

    def __init__(
        self,
        backbone: Callable[[int, int], Backbone],
        num_users: int,
        num_items: int,
        *,
        unobserved_weight: float = 0.02,
        regularization: float = 3.0,
        frequency_power: float = 0.5,
        top_k: Sequence[int] = (5, 10, 20),
    ) -> None:
        super().__init__(backbone, num_users, num_items, top_k=top_k)
        if not isinstance(self.backbone, GMF):
            raise ConfigurationError(
                f"backbone: expected GMF for least squares, got {type(self.backbone).__name__}, whose embeddings are "
                "no tables to solve for; use PretrainingStage, with the ranking loss WeightedSquares if wanted"
            )
        check_range("unobserved_weight", unobserved_weight, above=0, usual="0.02")
        check_range("regularization", regularization, above=0, usual="3")
        check_range("frequency_power", frequency_power, least=0, most=1, usual="0.5")
        self.unobserved_weight = unobserved_weight
        self.regularization = regularization
        self.frequency_power = frequency_power
        self.automatic_optimization = False
        self._solver: tuple[tuple[int, bool], RowSolver] | None = None

    def setup(self, stage: str) -> None:
        """Compute every row's regularisation besides what every stage sets up."""
        super().setup(stage)
        sizes = self.backbone.num_users, self.backbone.num_items
        self._row_weights = Embeddings(
            *(
                self._regularization_of(torch.bincount(ids, minlength=size), other)
                for ids, size, other in zip(self.graph.edge_index, sizes, reversed(sizes), strict=True)
            )
        )

    def _regularization_of(self, counts: Tensor, num_others: int) -> Tensor:
        frequencies = counts + self.unobserved_weight * num_others
        return self.regularization * (frequencies / frequencies.mean()) ** self.frequency_power

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """An optimizer that never sees a gradient: its steps are what checkpoints and loggers count."""
        return [SGD(self.backbone.parameters(), lr=0.0)], []

    @torch.no_grad()
    def training_step(self, batch: RowBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Solve for a tile of rows."""
        del batch_idx
        tables = self.embed()
        table, other = tables if batch.of_users else reversed(tables)
        weights = self._row_weights[0 if batch.of_users else 1]
        solver = self._solver_on(other, batch.of_users)
        rows = solver.solve(batch.column_ids, batch.lengths, weights[batch.row_ids])
        table.index_copy_(0, gather_rows(batch.row_ids), gather_rows(rows).to(table.dtype))
        self.optimizers().step()  # type: ignore[union-attr]

    def _solver_on(self, other: Tensor, of_users: bool) -> RowSolver:
        """The solver of the half of the epoch at hand, in which `other` does not change."""
        half = (self.current_epoch, of_users)
        if self._solver is None or self._solver[0] != half:
            self._solver = half, RowSolver(other, self.unobserved_weight)
        return self._solver[1]

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """The objective on all interactions, each term divided by their number; the batch is not used."""
        del batch
        embeddings, (users, items) = self.embed(), self.graph.edge_index
        observed = [
            (F.embedding(users, embeddings.users) * F.embedding(items, embeddings.items)).sum(-1).sub(1).square().sum()
            for users, items in zip(users.split(_TILE), items.split(_TILE), strict=True)
        ]
        terms = {
            "observed": torch.stack(observed).sum(),
            "all_pairs": self.unobserved_weight * sum_of_squares(embeddings),
            "regularization": torch.stack(
                [weights @ table.square().sum(1) for weights, table in zip(self._row_weights, embeddings, strict=True)]
            ).sum(),
        }
        return {name: term / self.graph.num_interactions for name, term in terms.items()}

    @torch.no_grad()
    def epoch_values(self) -> dict[str, Tensor]:
        """The objective, which no epoch can raise."""
        terms = self.losses(TrainingBatch(*(torch.empty(0, dtype=torch.long),) * 4))
        values = {f"train/{name}": term for name, term in terms.items()}
        return values | {"train/loss": torch.stack([*terms.values()]).sum()}
