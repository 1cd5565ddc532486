"""Device of the computation: choice, precision, threads, seeds, timing and peak performance."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import inspect
import os
import platform
import random
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ockham.errors import BadInputError, OckhamWarning
from ockham.nano.config import Settings

# Parameters of `mallopt` in malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
# More threads have not helped a model that fits a CPU.
MAX_THREADS = 8
# FLOP/s of dense bfloat16 products with float32 sums, without sparsity, from NVIDIA's and AMD's data sheets.
# The first name that the device's name contains is used, so longer names come first. The PCIe form of the
# H100 has fewer units and lower clocks.
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


def choose_device(name: str) -> str:
    """Return the device of that name, or the best one for `auto`.

    Raises:
        BadInputError: If torch has no such device here.

    """
    if name == "auto":
        if torch.cuda.is_available():
            return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        cause = str(error).splitlines()[0]
        raise BadInputError(
            f"--device {name!r} cannot be used here: {cause}; accepted: auto, cpu, cuda, mps"
        ) from None
    return name


def choose_threads(threads: int) -> int:
    """Return the number of CPU threads for torch. 0 selects the number of idle cores.

    On a loaded machine two threads can be ten times slower than one. So the load is read once, at the start.
    """
    if threads:
        return threads
    try:
        busy = os.getloadavg()[0]
    except OSError:
        busy = 0.0
    return max(1, min(MAX_THREADS, round(available_cores() - busy)))


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up_device(settings: Settings) -> tuple[str, int]:
    """Set seeds, threads and matmul precision. Return the device and the number of threads."""
    device = choose_device(settings.device)
    threads = choose_threads(settings.threads)
    torch.set_num_threads(threads)
    random.seed(settings.seed)
    # This is for code of users. Ockham itself draws from counters.
    np.random.seed(settings.seed % 2**32)  # noqa: NPY002 - libraries of users draw from the global generator
    torch.manual_seed(settings.seed)
    if device == "cpu":
        keep_freed_memory()
    if device.startswith("cuda"):
        if ":" in device:
            # Events are recorded in the stream of the present GPU.
            torch.cuda.set_device(device)
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    return device, threads


def keep_freed_memory() -> None:
    """Make glibc keep up to 1 GiB of freed memory.

    A step frees and allocates the same megabytes repeatedly. If they are returned to the kernel each time, a
    small model's step on a CPU takes 2 to 4 % longer. Other C libraries and allocators are not changed.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 1 << 30)
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)


def compute_context(settings: Settings, device: str) -> contextlib.AbstractContextManager[object]:
    """Context manager that sets autocast and the order of attention kernels.

    Autocast to bfloat16 is used if it is set, and by default on a GPU that computes in bfloat16. The
    attention kernels are set on CUDA only.
    """
    kind = device.split(":", maxsplit=1)[0]
    context = contextlib.ExitStack()
    if settings.dtype == "bfloat16" or (settings.dtype == "auto" and _computes_in_bfloat16(kind)):
        context.enter_context(torch.autocast(kind, torch.bfloat16))
    if kind == "cuda":
        hopper = torch.cuda.get_device_capability(device) >= (9, 0)
        context.enter_context(attention_kernels(settings.attention, hopper=hopper))
    return context


def attention_kernels(attention: str, *, hopper: bool) -> contextlib.AbstractContextManager[object]:
    """Context manager that prefers cuDNN's attention or FlashAttention.

    A kernel that does not support a shape falls back to the next one. cuDNN's kernel is faster from Hopper
    on. A torch version without a priority order (before 2.6) uses its default.
    """
    if attention == "auto" and not hopper:
        return contextlib.nullcontext()
    if "set_priority" not in inspect.signature(sdpa_kernel).parameters:
        return contextlib.nullcontext()
    preferred = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    if attention == "flash":
        preferred.reverse()
    return sdpa_kernel([*preferred, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH], set_priority=True)


def _computes_in_bfloat16(kind: str) -> bool:
    """Return True for CUDA from Ampere on. Older GPUs emulate bfloat16, which is slower than float32."""
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def should_compile(settings: Settings, device: str) -> bool:
    """Return True if the model is compiled: as set, or by default on CUDA.

    Warns if torch.compile has no Triton there. The model is not compiled in that case.
    """
    if settings.compile != "auto" or not device.startswith("cuda"):
        return settings.compile == "yes"
    if importlib.util.find_spec("triton") is None:
        warnings.warn(
            "compile=auto: Triton is not installed, so the model is not compiled; "
            "install triton, or use compile=no",
            OckhamWarning,
            stacklevel=2,
        )
        return False
    return True


@contextlib.contextmanager
def explained_memory_error(settings: Settings) -> Iterator[None]:
    """Context manager that explains an error of the GPU's allocator.

    Raises:
        BadInputError: If the block needs more memory than the GPU has.

    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise BadInputError(
            f"batch_size={settings.batch_size}: the GPU has too little free memory; use a smaller "
            "--set batch_size=N, and more --set gradient_accumulation_steps=N for the same tokens per step"
        ) from error


def gpu_memory_bytes(device: str) -> int | None:
    """Return the memory of a GPU in bytes, or None for other devices."""
    return torch.cuda.get_device_properties(device).total_memory if device.startswith("cuda") else None


def make_timer(device: str) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """Return a function that marks a point in time, and one that returns the seconds between two marks.

    On CUDA the marks are events in the stream, because the host's clock only measures how long the launch
    took. An event costs about a microsecond and waits for nothing. Read the seconds after the stream has
    passed both events.
    """
    if not device.startswith("cuda"):
        return time.perf_counter, lambda start, end: end - start

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    return mark, lambda start, end: float(start.elapsed_time(end)) / 1e3


def device_name(device: str) -> str:
    """Return the name of the device for run.json."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return device


def peak_flops(device_name: str) -> float | None:
    """Return the peak FLOP/s of a device, or None if it is not in the table.

    Args:
        device_name: Name that the driver reports.

    """
    return next((flops for name, flops in PEAK_FLOPS if name in device_name), None)


def peak_tokens_per_second(device_name: str, flops_per_token: float, devices: int = 1) -> float | None:
    """Return the tokens/s at full utilisation, or None if the device is not in the table.

    Args:
        device_name: Name that the driver reports.
        flops_per_token: FLOPs of training on one token (`GPT.training_flops(1)`).
        devices: Number of devices that work in parallel.

    """
    peak = peak_flops(device_name)
    return peak and peak * devices / flops_per_token


def get_rng_state(device: str) -> dict[str, str]:
    """Return the states of torch's generators in hex. Dropout draws from them."""
    states = {"cpu": torch.get_rng_state().numpy().tobytes().hex()}
    if device.startswith("cuda"):
        states["cuda"] = torch.cuda.get_rng_state(device).numpy().tobytes().hex()
    return states


def set_rng_state(states: dict[str, str], device: str) -> None:
    """Restore the states returned by `get_rng_state`."""
    torch.set_rng_state(_rng_tensor(states["cpu"]))
    if device.startswith("cuda") and "cuda" in states:
        torch.cuda.set_rng_state(_rng_tensor(states["cuda"]), device)


def _rng_tensor(text: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(bytes.fromhex(text), np.uint8).copy())
