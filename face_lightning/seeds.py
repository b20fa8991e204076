"""Random numbers seeded by counters, so that a resumed run draws the same numbers as an uninterrupted one."""

import numpy as np
import torch


def counter_seed(*counters: int) -> int:
    """Derive a 63-bit seed from counters; it is the same on every machine and in every process."""
    state = np.random.SeedSequence([counter & 0xFFFFFFFFFFFFFFFF for counter in counters])
    return int(state.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(*counters: int) -> torch.Generator:
    """A CPU generator seeded by counters."""
    return torch.Generator().manual_seed(counter_seed(*counters))
