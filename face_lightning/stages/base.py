"""Base class of all stages: a backbone on a graph, weighted losses, full-ranking evaluation."""

import inspect
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import Tensor
from torch.optim import Adam, Optimizer

from face_lightning.backbones import Backbone
from face_lightning.distributed import largest
from face_lightning.epoch_means import EpochMeans
from face_lightning.errors import CheckpointError, ConfigurationError, TrainingError, check_range
from face_lightning.graph import InteractionGraph
from face_lightning.hyperparameters import plain_values
from face_lightning.losses import BPR, PairwiseLoss, RankingLoss
from face_lightning.parallel.column_strategy import layout_of
from face_lightning.progress import ends_epoch
from face_lightning.schedules import cosine_restart_warning, schedule
from face_lightning.search_space import Between, SearchSpace
from face_lightning.seeds import counter_seed
from face_lightning.stages.ranking_evaluation import RankingEvaluation
from face_lightning.structures import Embeddings, TrainingBatch


class Stage(RankingEvaluation, ABC):
    """Trains and evaluates a backbone; subclasses define the losses.

    Subclasses override these hooks: `losses` (unweighted loss terms of a batch by name; `training_step` weights, sums
    and logs them), `parameter_groups` and `lr_factors` (what is optimised, and at which learning rates),
    `epoch_values` (scalars to log at the end of an epoch), `check_table_layout` (whether the stage supports
    column-parallel tables) and `refinements` (configurations that `face tune` tries next).

    Attributes:
        name: Name of the stage in checkpoints and results.
        search_space: Options that `face tune` searches, with their ranges; classes passed as options add their own.
        tuned_by: Logged values whose mean `face tune` maximises; validation recall if empty.

    Args:
        backbone: Builds the backbone from `num_users` and `num_items`.
        num_users: U.
        num_items: I.
        ranking_loss: Builds the ranking loss.
        optimizer: Builds the optimizer from parameter groups.
        scheduler: Builds a learning rate schedule, stepped once per epoch.
        warmup_steps: Steps over which the learning rates rise linearly to the scheduled values; 0 for none.
        backbone_lr_factor: Factor on the optimizer's learning rate for the backbone.
        warm_start_scale: Factor on the embedding tables loaded by `init_from`. Tables that already fit the
            interactions receive almost no gradient from the ranking loss; scaling them down keeps the ranking and
            restores the gradient (Ash & Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020).
        l2_weight: Weight of the squared norm of the trainable embeddings of a batch.
        top_k: Values of K for Recall and NDCG; the largest one is shown in the progress bar.

    Raises:
        ConfigurationError: If `top_k` is empty or not positive, or a factor is out of range.
    """

    name: ClassVar[str]
    search_space: ClassVar[SearchSpace] = {
        "optimizer.init_args.lr": Between(3e-4, 1e-2),
        "l2_weight": Between(1e-5, 1.0),
    }
    tuned_by: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        backbone: Callable[[int, int], Backbone],
        num_users: int,
        num_items: int,
        ranking_loss: Callable[[], RankingLoss] = BPR,
        optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=1e-3, fused=True),
        scheduler: LRSchedulerCallable | None = None,
        warmup_steps: int = 0,
        backbone_lr_factor: float = 1.0,
        warm_start_scale: float = 1.0,
        l2_weight: float = 1e-6,
        top_k: Sequence[int] = (5, 10, 20),
    ) -> None:
        super().__init__(top_k, num_items)
        self.save_hyperparameters()
        check_range("warmup_steps", warmup_steps, least=0, usual="0, or 30 with a mapper,")
        check_range("backbone_lr_factor", backbone_lr_factor, least=0, usual="1, or 0.1 to fine-tune,")
        check_range("warm_start_scale", warm_start_scale, above=0, most=1, usual="1, or 0.2 for new data,")
        self.backbone = backbone(num_users, num_items)
        self.ranking_loss = ranking_loss()
        self._build_optimizer, self._build_scheduler, self._warmup_steps = optimizer, scheduler, warmup_steps
        self.backbone_lr_factor = backbone_lr_factor
        self.warm_start_scale = warm_start_scale
        self.loss_weights: dict[str, float] = {"l2": l2_weight}
        self.epoch_means = EpochMeans()
        self._graph: InteractionGraph | None = None

    @property
    def graph(self) -> InteractionGraph:
        """Interaction graph of the data module, on the device of the stage."""
        if self._graph is None:
            if not hasattr(getattr(self.trainer, "datamodule", None), "graph"):
                raise ConfigurationError(
                    "datamodule: expected an InteractionDataModule, whose graph the stage propagates on, got other "
                    "data; call the Trainer with datamodule=InteractionDataModule(...) instead of dataloaders"
                )
            self._graph = self.trainer.datamodule.graph.to(self.device)  # type: ignore[attr-defined]
        return self._graph

    @graph.setter
    def graph(self, graph: InteractionGraph) -> None:
        self._graph = graph

    # Set-up

    @torch.no_grad()
    def warm_start(self) -> None:
        """Scale the embedding tables loaded from an earlier stage by `warm_start_scale`."""
        for table in self.backbone.initial_embeddings() or ():
            table.mul_(self.warm_start_scale)

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:  # noqa: ANN401
        """Load a stage; arguments that are not plain values, such as `backbone`, must be passed again.

        See `LightningModule.load_from_checkpoint`.

        Raises:
            CheckpointError: If `backbone` is not given.
        """
        if "backbone" not in kwargs:
            raise CheckpointError(
                "load_from_checkpoint: expected backbone=, such as partial(GMF, embedding_dim=64), and other objects "
                "that the stage was built with (mapper, words), since checkpoints hold only plain values; give them, "
                "or rank with Recommender.load(run_dir)"
            )
        stage: Self = super().load_from_checkpoint(checkpoint_path, *args, **kwargs)
        return stage

    def configure_model(self) -> None:
        """Drop the columns of other processes if the strategy shards the embedding tables."""
        if self._trainer is None:  # load_from_checkpoint builds a stage without one
            return
        self.tables = layout_of(self.trainer)
        if self.tables.is_sharded:
            self.check_table_layout()
            shared = self.tables.keep_own_part(self.backbone)
            self._ddp_params_and_buffers_to_ignore = [f"backbone.{shared}"]  # DDP must not overwrite it with rank 0's

    def check_table_layout(self) -> None:
        """Check that the stage can train on column-parallel tables.

        Raises:
            ConfigurationError: If its losses need whole embeddings, as losses on texts or words do.
        """
        raise ConfigurationError(
            "trainer.strategy: expected ddp, got column_parallel, which is for stages whose tables are frozen or only "
            f"rank; {self.name} needs whole embeddings, and can start from the checkpoint of a column_parallel run"
        )

    def setup(self, stage: str) -> None:
        """Move the graph to the device and prepare the backbone.

        Raises:
            ConfigurationError: If a loss has a negative weight.
        """
        del stage
        for name, weight in self.loss_weights.items():
            check_range(f"{name}_weight", weight, least=0, usual="between 0 and 1")
        self._graph = None
        self.backbone.prepare(self.graph)

    def refinements(self) -> list[dict[str, Any]]:
        """Return configurations that `face tune` tries after this run, if it was the best so far."""
        return []

    # Losses

    @abstractmethod
    def losses(self, batch: TrainingBatch) -> dict[str, Tensor]:
        """Return the unweighted loss terms of a batch by name."""

    def embed(self) -> Embeddings:
        """Compute the backbone's embeddings for training."""
        embeddings: Embeddings = self.backbone(self.graph)
        return embeddings

    def recommendation_losses(self, batch: TrainingBatch) -> tuple[dict[str, Tensor], Embeddings]:
        """Compute the ranking loss, the L2 term and the backbone's auxiliary losses.

        Returns:
            Loss terms by name, and the embeddings that they were computed from.
        """
        embeddings = self.embed()
        rows = batch.gather(embeddings) if isinstance(self.ranking_loss, PairwiseLoss) else None
        losses = {self.ranking_loss.name: batch.pair_share * self._ranking_loss(batch, embeddings, rows)}
        tables = self.backbone.initial_embeddings()
        if tables is not None:
            if rows is None or tables.users.data_ptr() != embeddings.users.data_ptr():
                rows = batch.gather(tables)
            norms = torch.stack([row.square().sum() for row in rows])
            losses["l2"] = self.tables.sum_parts(norms.sum()) * (batch.pair_share / len(batch.user_ids))
        losses.update(self.backbone.auxiliary_losses(batch, embeddings, self.graph))
        return losses, embeddings

    def _ranking_loss(
        self, batch: TrainingBatch, embeddings: Embeddings, rows: tuple[Tensor, Tensor, Tensor] | None
    ) -> Tensor:
        if not isinstance(self.ranking_loss, PairwiseLoss) or rows is None:
            loss: Tensor = self.ranking_loss(batch, embeddings, self.graph)
            return loss
        users, positive, negative = rows
        scores = self.tables.sum_parts(torch.stack([(users * positive).sum(-1), (users * negative).sum(-1)]))
        return self.ranking_loss.compare(*scores)

    def on_train_batch_start(self, batch: TrainingBatch, batch_idx: int) -> None:
        """Seed dropout from (seed, epoch, step, rank): a resumed run draws the same numbers as an uninterrupted one."""
        del batch
        seed = int(os.environ.get("PL_GLOBAL_SEED", "0"))  # set by Lightning's seed_everything
        stream = self.tables.random_stream(self.global_rank)
        torch.manual_seed(counter_seed(seed, self.current_epoch, batch_idx, stream))

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Return the weighted sum of all loss terms; each term's mean over the epoch is logged as `train/<term>`."""
        del batch_idx
        losses = self.losses(batch)
        total = torch.stack([self.loss_weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
        terms = {f"train/{name}": loss.detach() for name, loss in losses.items()} | {"train/loss": total.detach()}
        self.epoch_means.update(terms, batch.mean_rows)
        return total

    def on_train_epoch_start(self) -> None:
        """Reset the epoch's means. Lightning does not call this when a run resumes in mid-epoch."""
        self.epoch_means.reset()

    def on_train_batch_end(self, outputs: Any, batch: TrainingBatch, batch_idx: int) -> None:  # noqa: ANN401
        """Log the epoch's means after its last batch, before validation."""
        del outputs, batch
        if ends_epoch(self.trainer, batch_idx):
            values = self.epoch_values()
            self._check_finite(values)
            self.log_dict(values, on_step=False, on_epoch=True, batch_size=1)

    def _check_finite(self, values: Mapping[str, Tensor]) -> None:
        """Stop a diverged run before it is validated and saved; a collective operation.

        Raises:
            TrainingError: If a weight or the epoch's loss is NaN or infinite.
        """
        extremes = [torch.stack(torch.aminmax(weight.detach())).sum() for weight in self.parameters() if weight.numel()]
        diverged = not all(bool(extreme.isfinite()) for extreme in extremes)
        loss = float(values.get("train/loss", torch.zeros(())))
        if largest(int(diverged or not math.isfinite(loss)), self.device):
            raise TrainingError(
                f"training: expected finite weights and losses, got NaN or infinity in epoch {self.current_epoch} "
                f"(train/loss {loss:g}); lower the optimizer's lr, or set trainer.gradient_clip_val"
            )

    def epoch_values(self) -> dict[str, Tensor]:
        """Return the scalars to log at the end of an epoch; a collective operation."""
        return self.epoch_means.compute()

    # Optimisation

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups for the optimizer; that of the backbone is named `backbone`."""
        return [{"params": list(self.backbone.parameters()), "name": "backbone"}]

    def lr_factors(self) -> dict[str, float]:
        """Return the factor on the optimizer's learning rate for each parameter group by name; 1 if not listed."""
        return {"backbone": self.backbone_lr_factor}

    def configure_optimizers(self) -> tuple[list[Optimizer], list[Any]]:
        """Build the optimizer, with scaled learning rates per parameter group, and its schedules."""
        optimizer = self._build_optimizer(self.parameter_groups())
        factors = self.lr_factors()
        for group in optimizer.param_groups:
            group["lr"] *= factors.get(group["name"], 1.0)
        scheduler = None if self._build_scheduler is None else self._build_scheduler(optimizer)
        return [optimizer], schedule(optimizer, scheduler, self._warmup_steps)

    def on_fit_start(self) -> None:
        """Warn if a cosine schedule ends before training does: the learning rate would rise again."""
        for entry in self.trainer.lr_scheduler_configs:
            warning = cosine_restart_warning(entry.scheduler, self.trainer.max_epochs or -1)
            if warning is not None:
                rank_zero_warn(warning)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the stage's name and the data fingerprint, and reduce the hyper-parameters to plain values."""
        checkpoint["face_stage"] = self.name
        if self._has_data():
            checkpoint["data"] = self.trainer.datamodule.identity()  # type: ignore[attr-defined]
        checkpoint["epoch_means"] = self.epoch_means.state_dict()
        if "hyper_parameters" in checkpoint:
            kept = plain_values(checkpoint["hyper_parameters"])
            given = {name for name, value in checkpoint["hyper_parameters"].items() if value is None}
            checkpoint["hyper_parameters"] = {
                name: value for name, value in kept.items() if value is not None or name in given
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Reject a checkpoint of other data, and restore the running means of an interrupted epoch."""
        if self._has_data():
            self.trainer.datamodule.check_identity(checkpoint.get("data"))  # type: ignore[attr-defined]
        self.epoch_means.load_state_dict(checkpoint.get("epoch_means", {}))

    def _has_data(self) -> bool:
        """Whether the stage is attached to a Trainer with a data module of this package."""
        return self._trainer is not None and hasattr(getattr(self._trainer, "datamodule", None), "check_identity")


# The command line reads the default optimizer from the lambda's source; pickle finds it by its qualified name.
setattr(Stage, "<lambda>", inspect.signature(Stage).parameters["optimizer"].default)
