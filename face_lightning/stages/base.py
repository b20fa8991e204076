"""What the three stages share: a backbone on a graph, weighted losses, full-ranking evaluation."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LinearLR

from face_lightning.backbones import Backbone
from face_lightning.column_parallel import (
    ColumnRanker,
    gather_columns,
    keep_own_columns,
    own_users,
    shares_columns,
    sum_of_columns,
)
from face_lightning.epoch_means import EpochMeans
from face_lightning.errors import ConfigurationError, check_range
from face_lightning.graph import InteractionGraph
from face_lightning.losses.bpr import bayesian_personalized_ranking
from face_lightning.metrics import RankingMetric, ranking_metrics
from face_lightning.ranking import Ranker, find_hits
from face_lightning.schedules import told_of_rise
from face_lightning.seeds import counter_seed
from face_lightning.structures import Embeddings, EvaluationBatch, TrainingBatch


class Stage(L.LightningModule, ABC):
    """Training and evaluation of a backbone; a stage adds its losses.

    Loss terms travel as a dictionary of unweighted scalars; they are weighted, added and logged in one
    place, `training_step`.

    Args:
        backbone: Builds the backbone from `num_users` and `num_items`.
        num_users: U.
        num_items: I.
        optimizer: Builds the optimizer from parameter groups.
        scheduler: Builds a learning-rate schedule, stepped once an epoch.
        warmup_steps: Steps over which learning rates rise to where the schedule has them; 0 for none.
        backbone_lr_factor: Learning rate of the backbone, as a share of the optimizer's.
        warm_start_scale: Factor on the tables that `init_from` brings. Tables that fit their interactions give
            the ranking loss no gradient and are slow to take up anything new; made smaller, they rank as before
            and learn again (shrinking, as Ash & Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020).
        l2_weight: Weight of the squared norm of the trainable embeddings of a batch.
        top_k: Values of K for Recall and NDCG; the largest is the one that training watches.

    Raises:
        ConfigurationError: If `top_k` is empty or not positive, or a factor is out of range.
    """

    name: ClassVar[str]

    def __init__(
        self,
        backbone: Callable[[int, int], Backbone],
        num_users: int,
        num_items: int,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=1e-3, fused=True),
        scheduler: LRSchedulerCallable | None = None,
        warmup_steps: int = 0,
        backbone_lr_factor: float = 1.0,
        warm_start_scale: float = 1.0,
        l2_weight: float = 1e-6,
        top_k: Sequence[int] = (5, 10, 20),
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.backbone = backbone(num_users, num_items)
        self._build_optimizer = optimizer
        self._build_scheduler = scheduler
        self._warmup_steps = warmup_steps
        self.backbone_lr_factor = backbone_lr_factor
        self.loss_weights: dict[str, float] = {"l2": l2_weight}
        if not top_k or min(top_k) < 1:
            raise ConfigurationError(
                f"top_k: expected one or more numbers from 1 on, got {list(top_k)}; [5, 10, 20] is usual"
            )
        check_range("warmup_steps", warmup_steps, least=0, usual="0, or 30 with a mapper,")
        check_range("backbone_lr_factor", backbone_lr_factor, least=0, usual="1, or 0.1 to fine-tune,")
        check_range("warm_start_scale", warm_start_scale, above=0, most=1, usual="1, or 0.2 to learn anew,")
        self.warm_start_scale = warm_start_scale
        self.top_k = sorted(set(top_k))
        self.val_metrics = ranking_metrics(self.top_k, "val/")
        self.test_metrics = ranking_metrics(self.top_k, "test/")
        self.test_users: dict[str, list[Tensor]] = {}
        self.means = EpochMeans()
        self._graph: InteractionGraph | None = None
        self._final: Embeddings | None = None
        self._ranker: Ranker | ColumnRanker | None = None
        self._shares_columns = False

    @property
    def graph(self) -> InteractionGraph:
        """The interaction graph, on the device of the stage once a Trainer has set it up."""
        if self._graph is None:
            self._graph = self.trainer.datamodule.graph.to(self.device)  # type: ignore[attr-defined]
        return self._graph

    @graph.setter
    def graph(self, graph: InteractionGraph) -> None:
        self._graph = graph

    @torch.no_grad()
    def warm_start(self) -> None:
        """Scale the backbone's tables, which an earlier stage has given."""
        for table in self.backbone.initial_embeddings() or ():
            table.mul_(self.warm_start_scale)

    def configure_model(self) -> None:
        """Keep this process's columns of the tables alone, where the strategy shares them."""
        self._shares_columns = shares_columns(self.trainer)
        if self._shares_columns:
            self.check_columns()
            self._ddp_params_and_buffers_to_ignore = [
                f"backbone.{keep_own_columns(self.backbone)}"
            ]  # never the first's

    def check_columns(self) -> None:
        """Refuse to share columns where the losses need whole embeddings.

        Raises:
            ConfigurationError: If they do, as where texts or words move the tables.
        """
        raise ConfigurationError(
            f"trainer.strategy: expected ddp, got column_parallel, which is for stages whose tables rest or only rank; "
            f"{self.name} needs whole embeddings, and can start from the checkpoint of a run that shared their columns"
        )

    def setup(self, stage: str) -> None:
        """Bring the graph to the device and let the backbone prepare itself.

        Raises:
            ConfigurationError: If a loss has a negative weight.
        """
        del stage
        for name, weight in self.loss_weights.items():
            check_range(f"{name}_weight", weight, least=0, usual="between 0 and 1")
        self._graph = None
        self.backbone.prepare(self.graph)

    @abstractmethod
    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Unweighted loss terms of a batch by name."""

    def embed(self) -> Embeddings:
        """The backbone's embeddings, as training sees them."""
        embeddings: Embeddings = self.backbone(self.graph)
        return embeddings

    def recommendation_losses(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], Embeddings]:
        """The backbone's own losses, and the embeddings that they were computed on."""
        embeddings = self.embed()
        rows = _gather(embeddings, batch)
        users, positive, negative = rows
        scores = self._over_columns(torch.stack([(users * positive).sum(-1), (users * negative).sum(-1)]))
        losses = {"bpr": batch.pair_share * bayesian_personalized_ranking(*scores)}
        tables = self.backbone.initial_embeddings()
        if tables is not None:
            if tables.users.data_ptr() != embeddings.users.data_ptr():  # else the rows are at hand
                rows = _gather(tables, batch)
            norms = torch.stack([row.square().sum() for row in rows])
            losses["l2"] = self._over_columns(norms.sum()) * (batch.pair_share / len(users))
        losses.update(self.backbone.auxiliary_losses(batch, embeddings, self.graph))
        return losses, embeddings

    def whole(self, rows: Tensor) -> Tensor:
        """Whole rows `(N, D)` of embeddings, of which this process may hold its columns only; without gradient then."""
        return gather_columns(rows) if self._shares_columns else rows

    def _over_columns(self, partial: Tensor) -> Tensor:
        """Sum over the columns of all processes, where they share columns."""
        return sum_of_columns(partial) if self._shares_columns else partial

    def on_train_batch_start(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Seed dropout from (seed, epoch, step, rank), so that a resumed run repeats the undisturbed one."""
        del batch
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))  # set by Lightning's seed_everything
        rank = 0 if self._shares_columns else self.global_rank  # who shares columns drops the same edges
        torch.manual_seed(counter_seed(seed, self.current_epoch, batch_idx, rank))

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Weighted sum of all loss terms, of which each one's mean over the epoch is logged as `train/<term>`."""
        del batch_idx
        losses = self.losses(batch)
        total = torch.stack([self.loss_weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
        terms = {f"train/{name}": loss.detach() for name, loss in losses.items()} | {"train/loss": total.detach()}
        self.means.update(terms, len(batch.user_ids) / batch.pair_share)
        return total

    def on_train_epoch_start(self) -> None:
        """Forget the epoch before; a resume in mid-epoch starts none."""
        self.means.reset()

    def on_train_batch_end(self, outputs: Any, batch: TrainingBatch, batch_idx: int) -> None:  # noqa: ANN401
        """Log the epoch's means with its last batch, before validation."""
        del outputs, batch
        if ends_epoch(self.trainer, batch_idx):
            self.log_dict(self.epoch_values(), on_step=False, on_epoch=True, batch_size=1)

    def epoch_values(self) -> dict[str, Tensor]:
        """Scalars that are logged at an epoch's end, of all processes, who all must ask."""
        return self.means.compute()

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer; the backbone's is called `backbone`."""
        return [{"params": list(self.backbone.parameters()), "name": "backbone"}]

    def lr_factors(self) -> dict[str, float]:
        """Learning rates of parameter groups as shares of the optimizer's; 1 where none is named."""
        return {"backbone": self.backbone_lr_factor}

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """Optimizer over the parameter groups, with their learning rates scaled, and what changes these."""
        optimizer = self._build_optimizer(self.parameter_groups())
        factors = self.lr_factors()
        for group in optimizer.param_groups:
            group["lr"] *= factors.get(group["name"], 1.0)
        schedulers: list[Any] = []
        if self._build_scheduler is not None:
            schedulers.append({"scheduler": self._build_scheduler(optimizer), "interval": "epoch"})
        if self._warmup_steps:
            warmup = LinearLR(optimizer, 1 / self._warmup_steps, total_iters=self._warmup_steps - 1)
            schedulers.append({"scheduler": warmup, "interval": "step"})
        return [optimizer], schedulers

    def on_fit_start(self) -> None:
        """Warn where a cosine ends before the training does: the learning rate would rise again."""
        for entry in self.trainer.lr_scheduler_configs:
            told = told_of_rise(entry.scheduler, self.trainer.max_epochs or -1)
            if told is not None:
                rank_zero_warn(told)

    def _start_evaluation(self) -> None:
        self._ranker = None
        self._final = self.backbone(self.graph)

    @property
    def final_embeddings(self) -> Embeddings:
        """The backbone's embeddings as the evaluation at hand uses them."""
        assert self._final is not None, "evaluation starts with _start_evaluation"
        return self._final

    def _rank(self, batch: EvaluationBatch) -> tuple[EvaluationBatch, Tensor]:
        """The users that this process counts, and their best items."""
        if self._ranker is None:
            self._ranker = (ColumnRanker if self._shares_columns else Ranker)(self.final_embeddings)
        ranked = self._ranker.rank(batch, self.top_k[-1])
        return own_users(batch, ranked) if self._shares_columns else (batch, ranked)

    def on_validation_epoch_start(self) -> None:
        """Compute the embeddings once for the whole validation."""
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
        """Compute the embeddings once for the whole test."""
        self._start_evaluation()
        self.test_users = {}

    def test_step(self, batch: EvaluationBatch, batch_idx: int) -> None:
        """Rank all items for a tile of users, and keep every user's values."""
        del batch_idx
        batch, ranked = self._rank(batch)
        hits, num_relevant = find_hits(ranked, batch, self.backbone.num_items)
        self.test_metrics.update(hits, num_relevant)
        values = {"user": batch.user_ids.cpu()}
        for key, metric in self.test_metrics.items(keep_base=False):
            assert isinstance(metric, RankingMetric)
            values[str(key)] = metric.per_user(hits[:, : metric.top_k], num_relevant).cpu()
        for key, value in values.items():
            self.test_users.setdefault(key, []).append(value)

    def on_test_epoch_end(self) -> None:
        """Log `test/recall@K` and `test/ndcg@K`."""
        self._log_metrics(self.test_metrics)

    def _log_metrics(self, metrics: Any) -> None:  # noqa: ANN401 MetricCollection is callable in ways mypy cannot see
        # Computed here and reset at once: Lightning would otherwise sync them in its own time.
        values = {key: value.float() for key, value in metrics.compute().items()}
        watched = f"recall@{self.top_k[-1]}"
        for key, value in values.items():
            self.log(key, value, prog_bar=key.endswith(watched))
        metrics.reset()

    def on_predict_epoch_start(self) -> None:
        """Compute the embeddings once for the whole prediction."""
        self._start_evaluation()

    def predict_step(self, batch: EvaluationBatch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """User ids `(B,)` and their best unseen items `(B, K)`, best first."""
        del batch_idx
        batch, ranked = self._rank(batch)
        return batch.user_ids, ranked

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the stage's name, and keep nothing but plain values among the hyper-parameters."""
        checkpoint["face_stage"] = self.name
        checkpoint["epoch_means"] = self.means.state_dict()
        if "hyper_parameters" in checkpoint:
            checkpoint["hyper_parameters"] = _plain(checkpoint["hyper_parameters"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the sums of an epoch that was cut in its middle."""
        self.means.load_state_dict(checkpoint.get("epoch_means", {}))


def ends_epoch(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether no batch comes after this one: the epoch is through, or the steps are."""
    last = trainer.is_last_batch or batch_idx + 1 >= trainer.num_training_batches
    return last or trainer.global_step == trainer.max_steps


def _gather(embeddings: Embeddings, batch: TrainingBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of a batch's users, positive and negative items, `(B, D)` each."""
    items = F.embedding(torch.cat([batch.positive_ids, batch.negative_ids]), embeddings.items)
    positive, negative = items.split(len(batch.positive_ids))
    return F.embedding(batch.user_ids, embeddings.users), positive, negative


def _plain(value: Any) -> Any:  # noqa: ANN401
    """`value` without anything but numbers, strings, lists and dictionaries; objects become None.

    Of an absolute path only the name is left: it says nothing on another machine, and too much of this one.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return Path(value).name if Path(value).is_absolute() else value
    return value if isinstance(value, bool | int | float) else None
