"""Run functions and commands in separate processes, forked from one that has imported everything.

Importing torch, Lightning and the language models takes seconds of each new interpreter, more than most tests compute.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[1]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["face_lightning.commands.stage", "sentence_transformers"])


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run `function` in a separate process; returns its result."""
    with ProcessPoolExecutor(1, mp_context=_CONTEXT) as pool:
        return pool.submit(function, *arguments).result(timeout=540)


def together(world_size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Run `function` in `world_size` processes, connected by gloo; returns their results by rank."""
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(world_size, mp_context=_CONTEXT) as pool:
        meeting = Path(folder) / "meeting"
        calls = [pool.submit(_take_part, meeting, rank, world_size, function, arguments) for rank in range(world_size)]
        return [call.result(timeout=540) for call in calls]


def _take_part(meeting: Path, rank: int, world_size: int, function: Callable[..., Any], arguments: Any) -> Any:
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world_size)
    try:
        return function(*arguments)
    finally:
        dist.destroy_process_group()


class Command:
    """The command `face` in a forked process, with the part of the interface of `subprocess.Popen` that tests need."""

    def __init__(self, *arguments: str | Path) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._outputs = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        given = [str(argument) for argument in arguments], self._outputs, dict(os.environ), torch.get_num_threads()
        self._process = _CONTEXT.Process(target=_run_command, args=given)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired("face", timeout)
        output, errors = (path.read_text() for path in self._outputs)
        return output, errors


def _run_command(arguments: list[str], outputs: list[Path], environment: dict[str, str], threads: int) -> None:
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    torch.set_num_threads(threads)
    from face_lightning.cli import main

    sys.exit(main(arguments))
