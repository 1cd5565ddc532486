"""Where the numbers are computed: device, precision, threads, seeds."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import os
import platform
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ockham.errors import BadInputError
from ockham.nano.config import Settings

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
MAX_THREADS = 8  # more than this has not helped a model that fits a CPU


def choose_device(name: str) -> str:
    """The device by name, `auto` for the best there is.

    Raises:
        BadInputError: if torch has no such device here.

    """
    if name == "auto":
        if torch.cuda.is_available():
            return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        told = str(error).splitlines()[0]
        raise BadInputError(
            f"--device {name!r} cannot be used here: {told}; accepted: auto, cpu, cuda, mps"
        ) from None
    return name


def choose_threads(asked: int) -> int:
    """CPU threads of torch: as asked, else the cores that are free now.

    On a loaded machine two threads can be ten times slower than one, so the load decides, once.
    """
    if asked:
        return asked
    try:
        busy = os.getloadavg()[0]
    except OSError:
        busy = 0.0
    return max(1, min(MAX_THREADS, round(available_cores() - busy)))


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up_device(settings: Settings) -> tuple[str, int]:
    """Seeds, threads and matmul precision; returns device and number of threads."""
    device = choose_device(settings.device)
    threads = choose_threads(settings.threads)
    torch.set_num_threads(threads)
    random.seed(settings.seed)
    np.random.seed(settings.seed % 2**32)  # noqa: NPY002 - for users' own code; ours draws from counters
    torch.manual_seed(settings.seed)
    if device == "cpu":
        keep_freed_memory()
    if device.startswith("cuda"):
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    return device, threads


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, up to 1 GiB: a step frees and asks for the same megabytes again and again.

    Given back to the kernel and faulted in anew, they cost 2 to 4 % of a small model's step on a CPU. Other C libraries
    and allocators are left alone.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_TRIM_THRESHOLD, 1 << 30)
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)


def compute_context(settings: Settings, device: str) -> contextlib.AbstractContextManager[object]:
    """Autocast to bfloat16 where it is asked for, or by default on CUDA; there also the order of attention's kernels."""
    kind = device.split(":", maxsplit=1)[0]
    wanted = settings.dtype if settings.dtype != "auto" else ("bfloat16" if kind == "cuda" else "float32")
    context = contextlib.ExitStack()
    if wanted == "bfloat16":
        context.enter_context(torch.autocast(kind, torch.bfloat16))
    if kind == "cuda":
        hopper = torch.cuda.get_device_capability(device) >= (9, 0)
        context.enter_context(attention_kernels(settings.attention, hopper=hopper))
    return context


def attention_kernels(asked: str, *, hopper: bool) -> contextlib.AbstractContextManager[object]:
    """Prefer cuDNN's attention or FlashAttention; whatever cannot take a shape leaves it to the next one.

    cuDNN's is the faster one from Hopper on. A torch without an order of preference (before 2.6) keeps its own.
    """
    if asked == "auto" and not hopper:
        return contextlib.nullcontext()
    if "set_priority" not in inspect.signature(sdpa_kernel).parameters:
        return contextlib.nullcontext()
    two = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    first = two[::-1] if asked == "flash" else two
    return sdpa_kernel([*first, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH], set_priority=True)


def should_compile(settings: Settings, device: str) -> bool:
    """Whether to compile: as asked, by default on CUDA."""
    return settings.compile == "yes" or (settings.compile == "auto" and device.startswith("cuda"))


def gpu_memory_bytes(device: str) -> int | None:
    """Bytes of a GPU's memory; None elsewhere."""
    return torch.cuda.get_device_properties(device).total_memory if device.startswith("cuda") else None


def make_timer(device: str) -> tuple[Callable[[], Any], Callable[[Any, Any], float]]:
    """How to mark a point in time and how many seconds lie between two: on CUDA by events in the stream.

    The host's clock would only see how long launching took. An event costs about a microsecond and waits for nothing;
    seconds between two may be asked for once the stream has passed them.
    """
    if not device.startswith("cuda"):
        return time.perf_counter, lambda began, ended: ended - began

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    return mark, lambda began, ended: float(began.elapsed_time(ended)) / 1e3


def device_name(device: str) -> str:
    """The device in words, for run.json."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return device


def get_rng_state(device: str) -> dict[str, str]:
    """The states of torch's generators (dropout draws from them), in hex."""
    states = {"cpu": torch.get_rng_state().numpy().tobytes().hex()}
    if device.startswith("cuda"):
        states["cuda"] = torch.cuda.get_rng_state(device).numpy().tobytes().hex()
    return states


def set_rng_state(states: dict[str, str], device: str) -> None:
    """Take up where `get_rng_state` left."""
    torch.set_rng_state(_tensor(states["cpu"]))
    if device.startswith("cuda") and "cuda" in states:
        torch.cuda.set_rng_state(_tensor(states["cuda"]), device)


def _tensor(text: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(bytes.fromhex(text), np.uint8).copy())
