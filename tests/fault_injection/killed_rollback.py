"""train.py that kills itself with SIGKILL at one stage of a rollback.

python killed_rollback.py STAGE TRAIN_ARGUMENTS
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any

# Stage -> function of the stage, and whether the process is killed before or after the call.
STAGES = {
    "decided": ("ockham.state_calls:find_saved_state", "before"),
    "chosen": ("ockham.state_calls:find_saved_state", "after"),
    "weights": ("ockham.nano.checkpoint_io:load_model", "after"),
    "optimizer": ("ockham.nano.checkpoint_io:load_optimizer", "after"),
    "anchor": ("ockham.nano.anchor:copy_into", "after"),
    "generators": ("ockham.nano.device:set_rng_state", "after"),
    "restored": ("ockham.record.recorder:Recorder.record_rollback", "before"),
    "recorded": ("ockham.record.recorder:Recorder.record_rollback", "after"),
    "skipped": ("ockham.record.recorder:Recorder.record_skipped_data", "after"),
    "plugins": ("ockham.chain:PluginChain.restore_saved_state", "after"),
    "key frame": ("ockham.state_calls:StateCalls.restore_saved_state", "after"),
    "next checkpoint": ("ockham.record.checkpointing:write_checkpoint", "before"),
    "checkpoint files": ("ockham.record.checkpointing:write_checkpoint", "after"),
    "pruning": ("ockham.record.checkpointing:delete_checkpoints", "before"),
    "pruned": ("ockham.record.checkpointing:delete_checkpoints", "after"),
}
BEGINNING = STAGES["decided"][0]


def replace(target: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace a function that is named as `module:name` or `module:Class.name`."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, wrap(getattr(owner, name)))


def kill_at(stage: str) -> None:
    """Kill this process at a stage of the first rollback."""
    target, when = STAGES[stage]
    begun = []

    def note(function):
        def noted(*args, **kwargs):
            begun.append(True)
            return function(*args, **kwargs)

        return noted

    def wrap(function):
        def killed(*args, **kwargs):
            if begun and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            if begun:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return killed

    replace(target, wrap)
    replace(BEGINNING, note)


if __name__ == "__main__":
    stage = sys.argv[1]
    sys.argv = sys.argv[2:]
    if stage != "none":
        kill_at(stage)
    runpy.run_path(sys.argv[0], run_name="__main__")
