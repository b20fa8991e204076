"""Number formats and kernels that are fast on a device."""

import contextlib

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware; elsewhere it is emulated and slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return any(map(_supports, ("avx512_bf16", "amx_tile")))


def _supports(instructions: str) -> bool:
    probe = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return probe is not None and bool(probe())


def fast_format(vectors: Tensor) -> torch.dtype:
    """Fastest number format for products of `vectors` that need not be exact: bfloat16 where supported."""
    reduced = vectors.dtype == torch.float32 and has_bfloat16(vectors.device)
    return torch.bfloat16 if reduced else vectors.dtype


def fast_products(vectors: Tensor) -> contextlib.AbstractContextManager[object]:
    """Autocast context that multiplies float32 `vectors` in their `fast_format`; weights and sums stay in float32."""
    fast = fast_format(vectors)
    return contextlib.nullcontext() if fast == vectors.dtype else torch.autocast(vectors.device.type, fast)


def short_attention(vectors: Tensor) -> contextlib.AbstractContextManager[object]:
    """Context for attention over short sequences; on the CPU it avoids the fused kernel, whose backward is slow."""
    return sdpa_kernel(SDPBackend.MATH) if vectors.device.type == "cpu" else contextlib.nullcontext()
