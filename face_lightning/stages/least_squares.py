"""Stage 1 by alternating least squares: embedding tables in closed form, without a learning rate."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
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
from face_lightning.stages.greedy_path import GreedyPath
from face_lightning.structures import Embeddings, RowBatch, TrainingBatch

_TILE = 2**16  # interactions whose scores are computed at once
# Changes of d, w and l in one step against popularity. Lower targets of popular items require a larger w, and a larger
# w requires more regularisation: on yelp's validation set the changes help together, but not one by one.
_DISCOUNT_STEP, _WEIGHT_FACTOR, _REGULARIZATION_FACTOR = 0.05, 2**0.5, 1.25**0.5


class Settings(NamedTuple):
    """Hyper-parameters of the objective in one epoch.

    Attributes:
        unobserved_weight: w.
        regularization: l.
        popularity_discount: d.
    """

    unobserved_weight: float
    regularization: float
    popularity_discount: float

    def against_popularity(self, num_steps: int) -> "Settings":
        """Return settings that recommend popular items less, or more if the number of steps is negative."""
        return Settings(
            self.unobserved_weight * _WEIGHT_FACTOR**num_steps,
            self.regularization * _REGULARIZATION_FACTOR**num_steps,
            max(self.popularity_discount + _DISCOUNT_STEP * num_steps, 0.0),
        )


class LeastSquaresStage(Stage):
    """Implicit ALS: each epoch solves for all users given the items, then for all items given the users.

    `L = sum over observed (s - t_i)^2 + w sum over all s^2 + sum_u l_u ||e_u||^2 + sum_i l_i ||e_i||^2`
    with the weights `l_u` and `l_i` of `regularization_of_rows`, as in Rendle et al., and the targets `t_i` of
    `targets_of_items`, which are 1 by default.

    A batch is a tile of rows, which is solved exactly; in a distributed run each tile is split over the processes. The
    result is a checkpoint of embedding tables like that of any stage 1.

    The best `l` varies by a factor of four between data sets, and so does the best correction for popularity. By
    default a run searches both along a `GreedyPath`: each epoch multiplies l by a factor, from a value that is too
    small for any data, until validation falls; from the best epoch on, each epoch takes a step against popularity
    (`Settings.against_popularity`) as long as validation improves. Since each epoch starts from the previous solution,
    this costs about as much as a run with fixed settings. The best epoch on validation is kept.

    Reference:
        Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008; weights and
        regularisation as in Rendle et al., "Revisiting the Performance of iALS on Item Recommendation Benchmarks",
        RecSys 2022; paths of warm starts as in Friedman, Hastie & Tibshirani, "Regularization Paths for Generalized
        Linear Models via Coordinate Descent", JSS 2010.

    Args:
        backbone: Builds the backbone from `num_users` and `num_items`; must be `GMF`.
        num_users: U.
        num_items: I.
        unobserved_weight: w of the first epoch, the weight of the term that pulls the scores of all pairs to 0;
            `default_unobserved_weight` if null.
        regularization: l of the first epoch.
        regularization_growth: Factor on l per step of the path; 1 for no path, with constant w, l and d.
        frequency_power: p; 0 regularises all rows alike, 1 in proportion to their interactions.
        popularity_discount: d of the first epoch; higher values lower the targets of popular items, see
            `targets_of_items`.
        top_k: See `Stage`.

    Raises:
        ConfigurationError: If the backbone is not `GMF`, or a number is out of range.
    """

    name: ClassVar[str] = "least_squares"
    trains_on_rows: ClassVar[bool] = True
    # Constant settings that fit the data are up to 2.5 % better than the path (benchmarks/README.md).
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
                "not plain tables; use PretrainingStage, optionally with the ranking loss WeightedSquares"
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
        self._path = GreedyPath(num_directions=2)
        self._prepared: tuple[Settings, Embeddings, Tensor] | None = None
        self._solver: tuple[tuple[int, bool], RowSolver] | None = None

    @torch.no_grad()
    def warm_start(self) -> None:
        """Add random noise to the scaled tables of an earlier stage (shrink and perturb).

        Least squares shrinks unused directions to zero, from where they cannot recover even if new interactions make
        them useful; the noise brings them back.

        Reference:
            Ash & Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020.
        """
        super().warm_start()
        for table in self.backbone.initial_embeddings() or ():
            table.add_(nn.init.xavier_uniform_(torch.empty_like(table)))

    def setup(self, stage: str) -> None:
        """Set up the base class and drop what was computed from an earlier graph."""
        super().setup(stage)
        self._prepared = self._solver = None

    def on_fit_start(self) -> None:
        """Check that there are validation pairs to choose the path by.

        Raises:
            ConfigurationError: If there is a path and there are no validation pairs.
        """
        super().on_fit_start()
        interactions = self.trainer.datamodule.interactions  # type: ignore[attr-defined]
        if self._follows_path and not interactions.valid.nnz:
            raise ConfigurationError(
                f"regularization_growth: expected 1, got {self.regularization_growth:g}, as there are no validation "
                "pairs to choose the best epoch by; set it to 1, and regularization to a value between 1 and 7"
            )

    @property
    def _follows_path(self) -> bool:
        return self.regularization_growth > 1

    @property
    def settings(self) -> Settings:
        """Settings of the current epoch."""
        return self._settings_after(*self._path.steps)

    def _settings_after(self, num_growths: int, num_against_popularity: int) -> Settings:
        """Compute the settings after the given number of steps in each direction of the path."""
        weight = self.unobserved_weight
        if weight is None:
            sizes = self.graph.num_interactions, self.graph.num_users, self.graph.num_items
            weight = default_unobserved_weight(*sizes)
        regularization = self.regularization * self.regularization_growth**num_growths
        return Settings(weight, regularization, self.popularity_discount).against_popularity(num_against_popularity)

    def refinements(self) -> list[dict[str, Any]]:
        """Return the path's best settings as constants or, after a run with constant settings, their neighbours."""
        best = self._settings_after(*self._path.best_steps)
        candidates = [best]
        if not self._follows_path:
            candidates = [best.against_popularity(1), best.against_popularity(-1)]
            candidates += [best._replace(regularization=best.regularization * factor) for factor in (1.1, 1 / 1.1)]
        return [{**settings._asdict(), "regularization_growth": 1.0} for settings in candidates]

    def on_train_epoch_start(self) -> None:
        """Advance the path by one step."""
        super().on_train_epoch_start()
        self._path.advance()

    def on_validation_epoch_end(self) -> None:
        """Log metrics, and report the one that selects checkpoints to the path."""
        key = f"val/recall@{self.top_k[-1]}"
        super().on_validation_epoch_end()
        if self._follows_path and self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            self._path.observe(float(self.trainer.callback_metrics[key]))

    @property
    def _weights(self) -> tuple[Embeddings, Tensor]:
        """Regularisation of each row and target of each item for the current settings."""
        settings = self.settings
        if self._prepared is None or self._prepared[0] != settings:
            weight, regularization, discount = settings
            rows = regularization_of_rows(self.graph, weight, regularization, self.frequency_power)
            frequencies = torch.bincount(self.graph.edge_index[1], minlength=self.graph.num_items)
            self._prepared = settings, rows, targets_of_items(frequencies, discount)
        return self._prepared[1:]

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """Build an optimizer without effect, whose steps advance the global step of checkpoints and loggers."""
        return [SGD(self.backbone.parameters(), lr=0.0)], []

    @torch.no_grad()
    def training_step(self, batch: RowBatch, batch_idx: int) -> None:  # type: ignore[override]
        """Solve for a tile of rows."""
        del batch_idx
        tables = self.embed()
        table, other = tables if batch.of_users else reversed(tables)
        regularization, targets = self._weights
        solver = self._get_solver(other, batch.of_users)
        weights = regularization[0 if batch.of_users else 1][batch.row_ids]
        rows = solver.solve(batch.column_ids, batch.lengths, weights)
        if not batch.of_users:  # all pairs of an item have the same target, which therefore scales the solution
            rows = rows * targets[batch.row_ids].unsqueeze(1)
        table.index_copy_(0, gather_rows(batch.row_ids), gather_rows(rows).to(table.dtype))
        self.optimizers().step()  # type: ignore[union-attr]

    def _get_solver(self, other: Tensor, of_users: bool) -> RowSolver:
        """Return the solver of the current half epoch, during which `other` does not change."""
        half = (self.current_epoch, of_users)
        if self._solver is None or self._solver[0] != half:
            targets = self._weights[1] if of_users else None
            self._solver = half, RowSolver(other, self.settings.unobserved_weight, targets)
        return self._solver[1]

    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the terms of the objective over all interactions, divided by their number; `batch` is ignored."""
        del batch
        embeddings, (user_ids, item_ids) = self.embed(), self.graph.edge_index
        regularization, targets = self._weights
        observed = []
        for users, items in zip(user_ids.split(_TILE), item_ids.split(_TILE), strict=True):
            scores = (F.embedding(users, embeddings.users) * F.embedding(items, embeddings.items)).sum(-1)
            observed.append((scores - targets[items]).square().sum())
        terms = {
            "observed": torch.stack(observed).sum(),
            "all_pairs": self.settings.unobserved_weight * sum_of_squares(embeddings),
            "regularization": regularization_term(embeddings, regularization),
        }
        return {name: term / self.graph.num_interactions for name, term in terms.items()}

    @torch.no_grad()
    def epoch_values(self) -> dict[str, Tensor]:
        """Return the objective, which never increases under constant settings, and the settings."""
        terms = self.losses(TrainingBatch(*(torch.empty(0, dtype=torch.long),) * 4))
        values = {f"train/{name}": term for name, term in terms.items()}
        values["train/loss"] = torch.stack([*terms.values()]).sum()
        return values | {f"settings/{name}": torch.tensor(value) for name, value in self.settings._asdict().items()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the path and the current settings in addition to the base class's state."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["least_squares"] = {"path": self._path.state_dict(), "settings": self.settings._asdict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the path."""
        super().on_load_checkpoint(checkpoint)
        if "least_squares" in checkpoint:
            self._path.load_state_dict(checkpoint["least_squares"]["path"])
