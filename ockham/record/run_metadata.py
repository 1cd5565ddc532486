"""run.json: user, time, code and machine of a run. It is written once, before the first event."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ockham.errors import DISTRIBUTION
from ockham.event import timestamp, to_json_value

PACKAGES = (
    "ockham",
    "torch",
    "numpy",
    "pyarrow",
    "duckdb",
    "jsonschema",
    "jsonschema-rs",
    "orjson",
    "safetensors",
    "cryptography",
)
# Everything else stays out, so that no secret gets in.
ENVIRONMENT = (
    "CUDA_VISIBLE_DEVICES",
    "CUBLAS_WORKSPACE_CONFIG",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "PYTHONHASHSEED",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "SLURM_JOB_ID",
    "TZ",
)


def build_run_metadata(
    run_id: str,
    time_ns: int,
    *,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    data: Mapping[str, Any],
    policy_revision: str,
) -> dict[str, Any]:
    """Return the content of run.json. The signer adds the verifier key."""
    return {
        "run_json": 1,
        "run_id": run_id,
        "created": timestamp(time_ns),
        "user": _user(),
        "host": socket.gethostname(),
        "program": Path(sys.argv[0]).name,
        "git": git_state(Path.cwd()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "policy_revision": policy_revision,
        "settings": to_json_value(settings),
        "facts": to_json_value(facts),
        "data": to_json_value(data),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit and whether the tree differs from it. None outside of a checkout or without git."""
    try:
        commit, changes = (
            _git(folder, words) for words in ("rev-parse HEAD", "status --porcelain --untracked-files=no")
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "changed": bool(changes)}


def _git(folder: Path, words: str) -> str:
    command = ["git", *words.split()]
    done = subprocess.run(  # noqa: S603 - git of the user's PATH
        command, cwd=folder, capture_output=True, text=True, timeout=5, check=True
    )
    return done.stdout.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container's user without a name.
        return str(os.getuid())


def _version(name: str) -> str | None:
    try:
        return metadata.version(DISTRIBUTION if name == "ockham" else name)
    except metadata.PackageNotFoundError:
        return None
