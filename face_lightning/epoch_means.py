"""Means of values over an epoch and all processes, which can be checkpointed in mid-epoch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from face_lightning.distributed import average

_SEPARATOR = " "


class EpochMeans:
    """Weighted means by name, accumulated in float64 on the values' device; `compute` is a collective operation.

    Lightning does not checkpoint the sums of its own logging, so after a resume in mid-epoch its means would only cover
    the rest of the epoch.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}  # by names updated together: sums of values, then of weights

    def reset(self) -> None:
        """Discard all sums, at the start of an epoch."""
        self._sums = {}

    def update(self, values: Mapping[str, Tensor], weight: float) -> None:
        """Add the values of a step, all of the same shape, with a weight."""
        names = tuple(values)
        parts = torch.stack([*values.values()]).double()
        summand = torch.cat([parts, torch.ones_like(parts[:1])]) * weight
        self._sums[names] = self._sums[names].to(summand.device) + summand if names in self._sums else summand

    def compute(self) -> dict[str, Tensor]:
        """Compute the mean of each name over the epoch and all processes, in float32; a collective operation."""
        totals: dict[str, list[Tensor]] = {}
        for joined, sums in self.state_dict().items():
            for name, value in zip(joined.split(_SEPARATOR), sums, strict=False):  # the last sum is of the weights
                totals.setdefault(name, []).append(torch.stack([value, sums[-1]]))
        pairs = {name: torch.stack(parts).sum(0) for name, parts in totals.items()}
        return {name: (pair[0] / pair[1].clamp_min(1e-9)).float() for name, pair in pairs.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Sums of values, then of weights, by joined names, averaged over processes; a collective operation."""
        return {_SEPARATOR.join(names): average(self._sums[names]) for names in sorted(self._sums)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore sums; `state` must be the same on all processes."""
        self._sums = {tuple(joined.split(_SEPARATOR)): sums.clone() for joined, sums in state.items()}
