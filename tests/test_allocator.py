"""Freed buffers stay with the process, where the C library is glibc."""

import platform
import subprocess
import sys

import pytest

CODE = """
import ctypes, sys
from face_lightning.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
    keep_freed_memory()  # twice does no harm
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
size = 128 * 2**20
buffer = libc.malloc(ctypes.c_size_t(size))
ctypes.memset(buffer, 1, size)
libc.free(ctypes.c_void_p(buffer))
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmRSS")))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(("how", "kept"), [("keep", True), ("leave", False)])
def test_a_freed_buffer_is_kept(how: str, kept: bool) -> None:
    out = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True).stdout
    assert (int(out) > 128) == kept
