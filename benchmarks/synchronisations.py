"""Count operations for which the host waits for a GPU, on any device."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# The value or shape of the result depends on values on the device.
_WAITING = {
    "_local_scalar_dense": "item",  # item(), bool(), int(), float()
    "nonzero": "nonzero",
    "masked_select": "masked_select",
    "_unique2": "unique",
    "unique_dim": "unique",
    "unique_consecutive": "unique",
    "bincount": "bincount",
}
_TRANSFERS = ("cpu", "numpy", "tolist")


class _Counting(TorchDispatchMode):
    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counts = counts

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        del types
        name = func.overloadpacket.__name__
        if name in _WAITING:
            self._counts[_WAITING[name]] += 1
        elif name in ("index", "index_put", "index_put_", "_index_put_impl_") and _has_mask(args[1]):
            self._counts["index by mask"] += 1
        elif name == "repeat_interleave" and (kwargs or {}).get("output_size") is None:
            self._counts["repeat_interleave"] += 1
        return func(*args, **(kwargs or {}))


def _has_mask(indices: Sequence[Tensor | None]) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


@contextmanager
def counting(counts: Counter[str]) -> Iterator[None]:
    """Count operations that would make the host wait for a GPU in `counts`, by kind.

    Assigning a number to a mask (`scores[mask] = 0`) is counted, although torch does not wait there.
    """

    def counted(name: str) -> Any:  # noqa: ANN401
        inner = getattr(Tensor, name)

        def call(self: Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            counts[name] += 1
            return inner(self, *args, **kwargs)

        return mock.patch.object(Tensor, name, call)

    patches = [counted(name) for name in _TRANSFERS]
    with _Counting(counts):
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()
