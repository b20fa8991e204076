"""Random numbers as a function of counters: a resumed run draws what the undisturbed one would."""

import numpy as np
import torch


def counter_seed(*counters: int) -> int:
    """One 63-bit seed from several counters, the same on every machine and in every process."""
    state = np.random.SeedSequence([counter & 0xFFFFFFFFFFFFFFFF for counter in counters])
    return int(state.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(*counters: int) -> torch.Generator:
    """A CPU generator seeded by counters."""
    return torch.Generator().manual_seed(counter_seed(*counters))
