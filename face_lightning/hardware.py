"""What a device computes fast."""

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 in hardware; elsewhere it is emulated and slow."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(bool(probe()) for probe in probes if probe is not None)
