"""Checkpoints of a Lightning Trainer: which one a training continues from, and which ones it saves."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.plugins.io import AsyncCheckpointIO

from ockham.errors import OckhamWarning
from ockham.integrations.patches import Patches
from ockham.integrations.trainer_state import ResumeRequest, find_on_rank_zero, find_request
from ockham.record.checkpoint_path import ANCHOR_FILE, STATE_FILE, CheckpointPath
from ockham.run import Run

Writer = Callable[[Path], dict[str, Any] | None]


class LightningCheckpoints:
    """Compares a checkpoint before the Trainer reads it, and signs each checkpoint that it saves."""

    def __init__(self) -> None:
        self._request: ResumeRequest | None = None

    def watch_load(self, trainer: pl.Trainer, runs: str | Path, run_id: str | None, patches: Patches) -> None:
        """Compare the checkpoint from which the Trainer continues with the log, before the Trainer reads it.

        Rank 0 does it for all ranks. A checkpoint that the log does not confirm raises CheckpointError.

        Args:
            trainer: The Trainer, before it loads a checkpoint.
            runs: Folder of all runs.
            run_id: The only run that may be continued. None accepts any.
            patches: Restores the Trainer.

        """
        self._request = None
        load_checkpoint = trainer.strategy.load_checkpoint

        def load(checkpoint_path: str | Path, *args: Any, **kwargs: Any) -> Any:
            self._request = find_on_rank_zero(lambda: find_request(checkpoint_path, runs, run_id))
            return load_checkpoint(checkpoint_path, *args, **kwargs)

        patches.replace(trainer.strategy, "load_checkpoint", load)

    def take_request(self) -> ResumeRequest | None:
        """Return the checkpoint from which this training continues, once."""
        request, self._request = self._request, None
        return request

    def attach(self, trainer: pl.Trainer, run: Run, write: Writer, patches: Patches) -> None:
        """Sign every checkpoint that the Trainer saves from now on.

        Args:
            trainer: The Trainer, at the begin of a training.
            run: The run, which is open.
            write: Writes the state of the run next to a file. Returns None if it cannot be saved now.
            patches: Restores the Trainer.

        """
        save_checkpoint, remove_checkpoint = trainer.save_checkpoint, trainer.strategy.remove_checkpoint

        def save(filepath: str | Path, *args: Any, **kwargs: Any) -> None:
            path = Path(filepath)
            is_local = "://" not in str(filepath)
            is_asynchronous = isinstance(trainer.strategy.checkpoint_io, AsyncCheckpointIO)
            state = write(path) if is_local and not is_asynchronous else None
            save_checkpoint(filepath, *args, **kwargs)
            if state is not None:
                run.peers.run_on_rank_zero(lambda: run.record_checkpoint(path, state))
            elif trainer.is_global_zero:
                warnings.warn(
                    f"OckhamCallback: {filepath} is not recorded; only a local file that is written at once, "
                    "between two optimizer steps, can be resumed as a further attempt",
                    OckhamWarning,
                    stacklevel=2,
                )

        def remove(filepath: str | Path) -> None:
            remove_checkpoint(filepath)
            if trainer.is_global_zero:
                location = CheckpointPath(Path(filepath), is_file=True)
                for name in (STATE_FILE, ANCHOR_FILE):
                    location.own_file(name).unlink(missing_ok=True)

        patches.replace(trainer, "save_checkpoint", save)
        patches.replace(trainer.strategy, "remove_checkpoint", remove)
