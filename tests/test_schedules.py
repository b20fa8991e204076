"""Tests of learning rate warm-up and schedules."""

import math

import pytest
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from face_lightning.backbones import GMF
from face_lightning.schedules import cosine_restart_warning
from face_lightning.stages.pretraining import PretrainingStage


def test_learning_rates_rise_over_the_warm_up_and_follow_the_schedule() -> None:
    stage = PretrainingStage(
        backbone=lambda users, items: GMF(users, items, embedding_dim=4),
        num_users=3,
        num_items=3,
        scheduler=lambda optimizer: CosineAnnealingLR(optimizer, T_max=5),
        warmup_steps=4,
    )
    (optimizer,), schedulers = stage.configure_optimizers()
    rates = []
    for step in range(15):  # three per epoch
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for entry in schedulers:
            if entry["interval"] == "step" or step % 3 == 2:
                entry["scheduler"].step()
    expected = [
        1e-3 * min(1, (step + 1) / 4) * (1 + math.cos(math.pi * (step // 3) / 5)) / 2 for step in range(len(rates))
    ]
    assert rates == pytest.approx(expected)


def test_no_warm_up_no_schedule() -> None:
    stage = PretrainingStage(backbone=lambda users, items: GMF(users, items, 4), num_users=3, num_items=3)
    (optimizer,), schedulers = stage.configure_optimizers()
    assert schedulers == []
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-3)


def test_warns_of_a_cosine_that_ends_early() -> None:
    optimizer = SGD(nn.Linear(1, 1).parameters())
    warning = cosine_restart_warning(CosineAnnealingLR(optimizer, T_max=24), 48)
    assert warning is not None
    assert "T_max 24 epochs" in warning
    assert warning.endswith("T_max 48")
    assert cosine_restart_warning(CosineAnnealingLR(optimizer, T_max=24), 24) is None
    assert cosine_restart_warning(CosineAnnealingLR(optimizer, T_max=24), -1) is None, "no warning without max_epochs"
    assert cosine_restart_warning(LambdaLR(optimizer, lambda epoch: 1.0), 48) is None
