"""One training step with everything on, measured with torch's profiler: a picture and a trace."""

from __future__ import annotations

from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.training import (
    ALWAYS_UPDATE,
    Bench,
    make_trainer,
    open_run,
    stop_after,
    train_with_run,
    wait_for_device,
)
from benchmarks.step_profile import KINDS, REST
from benchmarks.step_profile import draw as draw_bars

RUN = "profile"
Kinds = tuple[tuple[str, tuple[str, ...]], ...]
# Kind -> parts of kernel names. The first kind with a part in the name is used.
KERNELS = (
    ("attention", ("flash", "fmha", "cudnn", "sdpa", "attention")),
    ("matrix products", ("gemm", "cutlass", "nvjet", "ampere_", "sm80_", "sm90_", "cublas", "splitk")),
    ("AdamW", ("adam",)),
    ("clip, drift, pull", ("multi_tensor", "foreach", "lpnorm", "linalg")),
    ("copies", ("memcpy", "memset", "copy_kernel")),
    ("fused kernels", ("triton",)),
    ("other kernels", ("",)),
)
IDLE = "device idle"
WARMUP_STEPS = 3


def draw(bench: Bench) -> None:
    """Profile one step after the warm-up. Write `profile.svg` and `profile.json.gz`."""
    micro = bench.micro
    trainer = make_trainer(bench, bench.settings(micro, micro * 2))
    activities = [ProfilerActivity.CPU]
    if bench.plan.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with open_run(bench, trainer, RUN, ALWAYS_UPDATE) as run:
        train_with_run(run, trainer, 0, stop_after(WARMUP_STEPS - 1, lambda *_: None))
        wait_for_device()
        with profile(activities=activities) as profiler:
            train_with_run(run, trainer, WARMUP_STEPS, stop_after(WARMUP_STEPS, lambda *_: None))
            wait_for_device()
    seconds, shares = _read_shares(profiler, on_gpu=bench.plan.device == "cuda")
    picture = bench.plan.folder / "profile.svg"
    title = f"Time of one step on {bench.results.stamp['device']}"
    if bench.plan.dry_run:
        title += " (dry run)"
    picture.write_text(draw_bars(shares, title), encoding="utf-8")
    profiler.export_chrome_trace(str(bench.plan.folder / "profile.json.gz"))
    rounded = {name: round(share, 4) for name, share in shares.items() if share > 0}
    bench.results.append("profile", "one step", ms=seconds * 1e3, **rounded, picture=picture.name)


def find_kind(key: str, kinds: Kinds) -> str | None:
    """Return the first kind with a part that the name of a kernel or operator contains."""
    return next((name for name, parts in kinds if any(part in key for part in parts)), None)


def _read_shares(profiler: Any, *, on_gpu: bool) -> tuple[float, dict[str, float]]:
    """Return the seconds of the step, and the share of each kind."""
    events = profiler.events()
    start = min(event.time_range.start for event in events)
    whole = max(event.time_range.end for event in events) - start
    kinds, rest = (KERNELS, IDLE) if on_gpu else (KINDS, REST)
    spent = dict.fromkeys([name for name, _ in kinds], 0.0)
    for event in profiler.key_averages():
        time = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        # Operators repeat the time of the kernels that they started.
        if on_gpu and "CUDA" not in str(event.device_type):
            continue
        key = event.key.lower() if on_gpu else event.key
        kind = find_kind(key, kinds)
        if kind is not None:
            spent[kind] += time
    shares = {name: time / whole for name, time in spent.items()}
    return whole / 1e6, {**shares, rest: max(0.0, 1 - sum(shares.values()))}
