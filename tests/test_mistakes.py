"""Errors of libraries that a user can correct, as one line."""

import pytest
import torch

from face_lightning.mistakes import describe_mistake


def out_of_memory(message: str) -> RuntimeError:
    return torch.OutOfMemoryError(message)


CUDA = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 3.06 GiB is "
    "free. Including non-PyTorch memory, this process has 76.03 GiB memory in use."
)


def test_out_of_memory_on_a_gpu_is_one_line_with_the_cure() -> None:
    line = describe_mistake(out_of_memory(CUDA))
    assert line is not None
    assert line.startswith("memory: expected the run to fit, but 20.00 GiB could not be allocated on the GPU; lower ")
    assert all(name in line for name in ("data.batch_size", "data.entities_per_step", "embedding_dim"))
    assert "\n" not in line


def test_out_of_memory_on_the_cpu_reads_the_same() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    line = describe_mistake(caught.value)
    assert line is not None
    assert line.startswith("memory: expected the run to fit, but 4000000000000000 bytes could not be allocated on ")
    assert " the CPU; " in line


def test_another_runtime_error_is_a_bug() -> None:
    assert describe_mistake(RuntimeError("shapes differ")) is None
