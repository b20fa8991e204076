"""Check that data fit into memory, before anything is allocated."""

import os

from face_lightning.errors import ConfigurationError

_GIB = 2**30


def total_memory() -> int:
    """Physical memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(argument: str, num_bytes: int, arithmetic: str, cure: str) -> None:
    """Raise if an allocation exceeds the memory of this machine.

    Args:
        argument: Name of the argument that determines the size, as the user writes it.
        num_bytes: Size of the allocation.
        arithmetic: Formula of the size, for the error message.
        cure: What the user should do instead.

    Raises:
        ConfigurationError: If `num_bytes` exceeds the memory.
    """
    total = total_memory()
    if num_bytes > total:
        raise ConfigurationError(
            f"{argument}: expected at most {total / _GIB:.0f} GiB, the memory of this machine, got {arithmetic} = "
            f"{num_bytes / _GIB:,.0f} GiB; {cure}"
        )
