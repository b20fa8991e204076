"""What a device computes fast."""

import torch
from torch import Tensor


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 in hardware; elsewhere it is emulated and slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(bool(probe()) for probe in probes if probe is not None)


def fast_format(vectors: Tensor) -> torch.dtype:
    """Number format in which products of float32 `vectors` are fastest where they need not be exact."""
    rounded = vectors.dtype == torch.float32 and has_bfloat16(vectors.device)
    return torch.bfloat16 if rounded else vectors.dtype
