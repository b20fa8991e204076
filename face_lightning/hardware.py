"""What a device computes efficiently."""

import contextlib

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 in hardware; elsewhere it is emulated and slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    return any(map(_supports, ("avx512_bf16", "amx_tile")))


def _supports(instructions: str) -> bool:
    probe = getattr(torch.cpu, f"_is_{instructions}_supported", None)
    return probe is not None and bool(probe())


def fast_format(vectors: Tensor) -> torch.dtype:
    """Number format in which products of float32 `vectors` are fastest where they need not be exact."""
    rounded = vectors.dtype == torch.float32 and has_bfloat16(vectors.device)
    return torch.bfloat16 if rounded else vectors.dtype


def fast_products(vectors: Tensor) -> contextlib.AbstractContextManager[object]:
    """Context in which modules multiply float32 `vectors` in that format; weights and sums stay in float32."""
    fast = fast_format(vectors)
    return contextlib.nullcontext() if fast == vectors.dtype else torch.autocast(vectors.device.type, fast)


def short_attention(vectors: Tensor) -> contextlib.AbstractContextManager[object]:
    """Context for attention over short sequences, whose backward pass is twice as slow in the CPU's fused kernel."""
    return sdpa_kernel(SDPBackend.MATH) if vectors.device.type == "cpu" else contextlib.nullcontext()
