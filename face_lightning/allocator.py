"""Settings of glibc's allocator: training keeps freed memory, and a server returns it after loading a new run."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD = 2**30


def keep_freed_memory() -> None:
    """Reuse freed buffers of up to 1 GiB, in huge pages, instead of returning them to the system.

    By default glibc maps every large buffer anew, and the system zeroes its pages at first touch, which takes longer
    than the arithmetic of a training step of a small model. With another C library this has no effect. Call it before
    torch allocates its first buffer.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch then requests huge pages of 2 MiB
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Return all freed memory to the system, including gaps below buffers in use.

    By default glibc returns only the end of a heap, and threads have heaps of their own, so that tables which are
    loaded and freed repeatedly leave gaps. With another C library this has no effect.
    """
    if sys.platform != "linux":
        return
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
