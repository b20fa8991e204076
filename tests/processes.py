"""Functions run by several processes of this machine that talk through gloo."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def together(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What each of `world_size` processes returns from `function`, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(world_size, mp_context=context) as pool:
            meeting = Path(folder) / "meeting"
            calls = [
                pool.submit(_take_part, meeting, rank, world_size, function, arguments) for rank in range(world_size)
            ]
            return [call.result(timeout=540) for call in calls]


def _take_part(meeting: Path, rank: int, world_size: int, function: Callable[..., Any], arguments: Any) -> Any:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    try:
        return function(*arguments)
    finally:
        dist.destroy_process_group()
