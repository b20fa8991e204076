"""The device under test: FACE_TEST_DEVICE, by default the CPU. `make gpu-check` sets it to cuda."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.chain.tiny import World, face, write_world

DEVICE = torch.device(os.environ.get("FACE_TEST_DEVICE", "cpu"))
Fit = Callable[..., int]


@pytest.fixture(scope="session")
def device() -> torch.device:
    return DEVICE


@pytest.fixture(scope="session")
def fit() -> Fit:
    """`face fit` in this process, on the device or on the accelerator that is named."""

    def run(config: str, *arguments: str | Path, accelerator: str = "") -> int:
        accelerator = accelerator or ("cpu" if DEVICE.type == "cpu" else "gpu")
        options = ["--trainer.enable_progress_bar=false", f"--trainer.accelerator={accelerator}", "--trainer.devices=1"]
        return face("fit", "--config", config, *options, *arguments)

    return run


@pytest.fixture(scope="session")
def device_chain(tmp_path_factory: pytest.TempPathFactory, fit: Fit) -> World:
    """The world in miniature after stages 1 to 3, trained on the device; to be read only."""
    world = write_world(tmp_path_factory.mktemp("world"))
    for name in ("stage1", "stage2", "stage3"):
        assert fit(world.config(name)) == 0
    return world
