"""What a device can compute at best, so that a share of it (MFU) is of this device and not of another one."""

from __future__ import annotations

# Dense bfloat16 products with float32 sums, FLOP/s without sparsity, from NVIDIA's and AMD's data sheets. The first name
# that the device's contains is taken, so the longer ones stand first. An H100 of the PCIe kind has fewer units and clocks.
PEAK_FLOPS: tuple[tuple[str, float], ...] = (
    ("GB200", 2_500e12),
    ("B200", 2_250e12),
    ("GH200", 989.4e12),
    ("H200 NVL", 835.5e12),
    ("H200", 989.4e12),
    ("H100 NVL", 835.5e12),
    ("H100 PCIe", 756e12),
    ("H100", 989.4e12),
    ("H800", 989.4e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("L40S", 362e12),
    ("RTX 4090", 165.2e12),
    ("RTX 3090", 71e12),
    ("A6000", 154.8e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("L4", 121e12),
    ("MI300X", 1_307.4e12),
    ("MI250X", 383e12),
)


def peak_flops(device_name: str) -> float | None:
    """FLOP/s of a device by the name that its driver gives; None: not in the table."""
    return next((flops for name, flops in PEAK_FLOPS if name in device_name), None)


def peak_tokens_per_second(device_name: str, flops: float, devices: int = 1) -> float | None:
    """Tokens/s at which the devices would compute all the time; None: not in the table.

    Args:
        device_name: by the driver.
        flops: of training on one token (`GPT.training_flops(1)`).
        devices: how many work side by side.

    """
    peak = peak_flops(device_name)
    return peak and peak * devices / flops
