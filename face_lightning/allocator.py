"""Settings of glibc's allocator: a training step allocates and frees large buffers hundreds of times a second."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 2**30


def keep_freed_memory() -> None:
    """Let freed buffers up to 1 GiB be reused, in large pages, instead of returning them to the system.

    By default glibc maps every large buffer anew, and the system clears its pages at first touch, which
    takes more time than the arithmetic of a small model's step. With another C library
    nothing happens. Call this before torch allocates its first buffer.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch then asks for pages of 2 MiB
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
