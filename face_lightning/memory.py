"""Sizes that cannot fit are refused before anything is allocated."""

import os

from face_lightning.errors import ConfigurationError

_GIB = 2**30


def total_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(argument: str, num_bytes: int, arithmetic: str, cure: str) -> None:
    """Raise where something takes more than this machine's memory.

    Args:
        argument: Argument that decides its size, as the user writes it.
        num_bytes: What it takes.
        arithmetic: How that is computed.
        cure: What to do instead.

    Raises:
        ConfigurationError: If it does not fit.
    """
    total = total_memory()
    if num_bytes > total:
        raise ConfigurationError(
            f"{argument}: expected what fits into {total / _GIB:.0f} GiB of memory, got {arithmetic} = "
            f"{num_bytes / _GIB:,.0f} GiB; {cure}"
        )
