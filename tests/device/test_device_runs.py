"""Whole runs on a device: the three stages, resumption, mixed precision, checkpoints to and from the CPU, processes."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from face_lightning.distributed import gather_rows
from face_lightning.mistakes import describe_mistake
from face_lightning.recommending.recommender import Recommender
from face_lightning.stages.base import Stage
from tests.chain.tiny import World, checkpoint, result
from tests.device.conftest import DEVICE, Fit

STAGES = ("stage1", "stage2", "stage3")
beside_the_cpu = pytest.mark.skipif(DEVICE.type == "cpu", reason="tests/chain tests this on the CPU")


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_trains_on_the_device(device_chain: World, stage: str) -> None:
    metrics = finite_metrics(device_chain.run(stage))
    assert metrics["test/recall@20"] > 0.6, "20 of 30 items at random have 2/3 of all; clusters are learnt"
    losses = [row["train/loss"] for row in map(json.loads, lines(device_chain.run(stage)))]
    assert losses[-1] < losses[0]


def finite_metrics(run: Path) -> dict[str, float]:
    metrics = {key: value for key, value in result(run)["metrics"].items() if isinstance(value, float)}
    assert metrics
    assert all(np.isfinite(value) for value in metrics.values())
    return metrics


def lines(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text().splitlines()


def largest_difference(one: Path, other: Path) -> float:
    """Of any weight, against the norm of its tensor; 0 where all bits are equal."""
    first, second = checkpoint(one)["state_dict"], checkpoint(other)["state_dict"]
    assert first.keys() == second.keys()

    def difference(left: Tensor, right: Tensor) -> float:
        return float((left.double() - right.double()).norm() / left.double().norm().clamp_min(1e-30))

    return max(difference(first[key].cpu(), second[key].cpu()) for key in first)


@beside_the_cpu
@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_run_is_the_same_bit_for_bit(device_chain: World, fit: Fit, tmp_path: Path, stage: str) -> None:
    """On a GPU sums by atomic additions have no fixed order; with torch's deterministic algorithms they have one."""
    options = ["--trainer.deterministic", "warn"] if DEVICE.type == "cuda" else []
    config, epochs = device_chain.config(stage), result(device_chain.run(stage))["epochs"]
    assert fit(config, "--run_dir", tmp_path / "whole", *options) == 0
    assert fit(config, "--run_dir", tmp_path / "cut", "--trainer.max_epochs", "2", *options) == 0
    resumed = ["--run_dir", tmp_path / "cut", "--trainer.max_epochs", epochs, "--ckpt_path", "last", *options]
    assert fit(config, *resumed) == 0
    assert largest_difference(tmp_path / "whole", tmp_path / "cut") == 0


@pytest.mark.parametrize("stage", STAGES if DEVICE.type != "cpu" else STAGES[2:])
def test_mixed_precision_trains(device_chain: World, fit: Fit, tmp_path: Path, stage: str) -> None:
    assert fit(device_chain.config(stage), "--run_dir", tmp_path, "--trainer.precision", "bf16-mixed") == 0
    metrics, exact = result(tmp_path)["metrics"], result(device_chain.run(stage))["metrics"]
    assert metrics["test/recall@20"] > exact["test/recall@20"] - 0.15
    assert all(value.dtype != torch.bfloat16 for value in checkpoint(tmp_path)["state_dict"].values())


@beside_the_cpu
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("towards", ["cpu", "device"])
def test_a_checkpoint_goes_on_elsewhere(
    device_chain: World, fit: Fit, tmp_path: Path, stage: str, towards: str
) -> None:
    """From the CPU to the device and back."""
    there, then = ("", "cpu") if towards == "cpu" else ("cpu", "")
    run = ["--run_dir", tmp_path]
    assert fit(device_chain.config(stage), *run, "--trainer.max_epochs", "1", accelerator=there) == 0
    assert (
        fit(device_chain.config(stage), *run, "--trainer.max_epochs", "2", "--ckpt_path", "last", accelerator=then) == 0
    )
    assert checkpoint(tmp_path)["epoch"] == 1
    finite_metrics(tmp_path)


def test_recommendations_are_those_of_the_cpu(device_chain: World) -> None:
    run = device_chain.run("stage3")
    found = [Recommender.load(run, device=where) for where in ("cpu", DEVICE)]
    ranked = [recommender.recommend(k=10) for recommender in found]
    np.testing.assert_allclose(ranked[0].scores, ranked[1].scores, rtol=1e-4, atol=1e-5)
    assert (ranked[0].ids == ranked[1].ids).mean() > 0.99, "but for ties by rounding"
    history = [["i1", "i4", "i7"]]
    new = [recommender.recommend_history(history, k=5) for recommender in found]
    np.testing.assert_allclose(new[0].scores, new[1].scores, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_a_process_group_of_one_gathers_its_rows(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend == "nccl" and (DEVICE.type != "cuda" or not dist.is_nccl_available()):
        pytest.skip("NCCL needs a GPU")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    device = DEVICE if backend == "nccl" else torch.device("cpu")
    dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        rows = torch.arange(12.0, device=device).view(4, 3).requires_grad_()
        gathered = gather_rows(rows)
        assert torch.equal(gathered, rows)
        total = torch.ones(3, device=device)
        dist.all_reduce(total)
        assert total.tolist() == [1, 1, 1]
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_a_run_under_ddp_with_one_process(device_chain: World, fit: Fit, tmp_path: Path, backend: str) -> None:
    if backend == "nccl" and DEVICE.type != "cuda":
        pytest.skip("NCCL needs a GPU")
    strategy = ["--trainer.strategy", "lightning.pytorch.strategies.DDPStrategy"]
    strategy += ["--trainer.strategy.process_group_backend", backend]
    accelerator = "cpu" if backend == "gloo" else ""
    try:
        assert fit(device_chain.config("stage1"), "--run_dir", tmp_path, *strategy, accelerator=accelerator) == 0
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    finite_metrics(tmp_path)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="a GPU's memory is to run out")
def test_running_out_of_memory_is_one_line() -> None:
    with pytest.raises(torch.OutOfMemoryError) as caught:
        torch.empty(2**46, device=DEVICE)
    line = describe_mistake(caught.value)
    assert line is not None
    assert "could not be allocated on the GPU; lower data.batch_size" in line


@pytest.mark.parametrize("stage", STAGES)
def test_all_tensors_of_a_step_are_made_on_its_device(
    device_chain: World, fit: Fit, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under another default device a step is the same: each tensor that it makes names the device of its inputs."""
    assert os.environ.get("FACE_TEST_DEVICE", "cpu") == DEVICE.type
    steps = {}

    def elsewhere(name: str) -> None:
        inner = getattr(Stage, name)

        def step(self: Stage, batch: object, batch_idx: int) -> Tensor:
            steps[name] = steps.get(name, 0) + 1
            with torch.device("meta"):
                found: Tensor = inner(self, batch, batch_idx)
            return found

        monkeypatch.setattr(Stage, name, step)

    for name in ("training_step", "validation_step", "test_step"):
        elsewhere(name)
    assert fit(device_chain.config(stage), "--run_dir", tmp_path) == 0
    assert set(steps) == {"training_step", "validation_step", "test_step"}
    limit = 0 if DEVICE.type == "cpu" else 1e-3
    assert largest_difference(tmp_path, device_chain.run(stage)) <= limit
