"""A stage without a Trainer, for benchmarks of single steps."""

from collections.abc import Callable
from functools import partial

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Adam

from face_lightning.backbones import Backbone
from face_lightning.graph import InteractionGraph
from face_lightning.stages import PretrainingStage, Stage
from face_lightning.structures import TrainingBatch

L2_WEIGHT = 0.01


def build(
    kind: Callable[..., Backbone],
    graph: InteractionGraph,
    dim: int,
    **options: float,
) -> tuple[PretrainingStage, Backbone]:
    """Build a stage without a Trainer, with a backbone of the given width on a graph."""
    torch.manual_seed(0)
    optimizer: OptimizerCallable = lambda parameters: Adam(parameters, lr=1e-3, fused=True)  # noqa: E731
    backbone: Callable[[int, int], Backbone] = partial(kind, embedding_dim=dim, **options)
    stage = PretrainingStage(backbone, graph.num_users, graph.num_items, optimizer=optimizer, l2_weight=L2_WEIGHT)
    stage.graph = graph
    stage.backbone.prepare(graph)
    return stage.train(), stage.backbone


def total_loss(stage: Stage, batch: TrainingBatch) -> Tensor:
    """Loss of `training_step`, without logging."""
    return torch.stack([stage.loss_weights.get(name, 1.0) * loss for name, loss in stage.losses(batch).items()]).sum()
