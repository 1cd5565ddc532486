"""The machine of a measurement: device, torch and driver version."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from typing import Any

PROBE = """
import json, torch
if not torch.cuda.is_available():
    raise SystemExit(3)
(torch.ones(64, 64, device="cuda") @ torch.ones(64, 64, device="cuda")).sum().item()
gpu = torch.cuda.get_device_properties(0)
print(json.dumps({"device": gpu.name, "memory_bytes": gpu.total_memory, "cuda": torch.version.cuda}))
"""
PROBE_SECONDS = 120


def read_machine(*, dry_run: bool) -> dict[str, Any]:
    """Return device name and versions. Imports no torch, so that the parent process stays usable.

    Raises:
        SystemExit: If the GPU does not work.

    """
    machine: dict[str, Any] = {"torch": version("torch"), "python": platform.python_version()}
    if dry_run:
        return {**machine, "device": f"CPU, {len(os.sched_getaffinity(0))} cores", "driver": "-"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
    )
    if done.returncode:
        cause = done.stderr.strip().splitlines()[-1:] or ["torch.cuda.is_available() is False"]
        raise SystemExit(f"GPU: not usable by torch ({cause[0]}); use --dry-run on a CPU")
    return {**machine, **json.loads(done.stdout), "driver": _driver_version()}


def _driver_version() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return (done.stdout.strip().splitlines() or ["unknown"])[0]
