"""Reuse and return of freed memory, where the C library is glibc."""

import platform
import subprocess
import sys

import pytest

KEEPING = """
import ctypes, sys
from face_lightning.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
    keep_freed_memory()  # may be called twice
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
size = 128 * 2**20
buffer = libc.malloc(ctypes.c_size_t(size))
ctypes.memset(buffer, 1, size)
libc.free(ctypes.c_void_p(buffer))
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""

RETURNING = """
import ctypes
from face_lightning.allocator import return_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
def resident():
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmRSS"))
size, before = 2**16, resident()
buffers = [libc.malloc(ctypes.c_size_t(size)) for _ in range(1024)]
for buffer in buffers:
    ctypes.memset(buffer, 1, size)
for buffer in buffers[:-1]:  # the last one lies above them
    libc.free(ctypes.c_void_p(buffer))
kept = resident() - before
return_freed_memory()
print(kept, resident() - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


@pytest.mark.parametrize(("how", "kept"), [("keep", True), ("leave", False)])
def test_a_freed_buffer_is_kept(how: str, kept: bool) -> None:
    out = subprocess.run([sys.executable, "-c", KEEPING, how], capture_output=True, text=True, check=True).stdout
    assert (int(out) > 128) == kept


def test_memory_below_a_buffer_in_use_is_returned() -> None:
    out = subprocess.run([sys.executable, "-c", RETURNING], capture_output=True, text=True, check=True).stdout
    kept, left = map(int, out.split())
    assert kept >= 60
    assert left <= 8
