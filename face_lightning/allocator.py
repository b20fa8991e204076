"""Control of glibc's allocator: training keeps freed memory, and a server that has loaded a new run returns it."""

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


def return_freed_memory() -> None:
    """Return freed memory to the system, also where buffers in use lie above it.

    By default glibc returns only what lies at the end of a heap, and every thread has its own heaps: tables that are
    loaded and freed again and again leave gaps. With another C library nothing happens.
    """
    if sys.platform != "linux":
        return
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
