"""Checkpoints of a trainer: their files, and the restoration of a state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import torch

from ockham.nano import checkpoint_io, device
from ockham.nano.anchor import AnchorWeights
from ockham.nano.config import Settings
from ockham.nano.data import Batches
from ockham.nano.data_order import parse_ranges
from ockham.nano.model import GPT
from ockham.nano.optimizer import AnyOptimizer
from ockham.record.checkpoints import STATE, CheckpointFiles


class ResumableTrainer(ABC):
    """Writes and restores checkpoints. `ockham.nano.trainer.Trainer` sets the attributes.

    `has_saved_state` is True if a state of the interval `state_every` was saved. A rollback returns to it.
    """

    has_saved_state: bool = False
    anchor_kind: type[AnchorWeights] = AnchorWeights
    settings: Settings
    device: str
    model: GPT
    optimizer: AnyOptimizer
    batches: Batches
    anchor: AnchorWeights | None
    steps: int

    @abstractmethod
    def recorded_settings(self) -> dict[str, Any]:
        """Return the settings as they are recorded."""

    @abstractmethod
    def discard_forward(self) -> None:
        """Undo a forward that has no verdict yet."""

    @abstractmethod
    def probe_windows(self) -> torch.Tensor | None:
        """Return the fixed windows for the KL divergence, or None if no plugin requires it."""

    def make_checkpoint_files(
        self, metadata: Mapping[str, Any], state: Mapping[str, Any] | None = None
    ) -> CheckpointFiles:
        """Return the files of a checkpoint.

        Args:
            metadata: Stored with the weights.
            state: State of the run. Without it, the checkpoint contains only the weights and cannot be
                resumed.

        """
        config = {"settings": asdict(self.settings), "vocab_size": self.model.vocab_size}
        packed, digest = checkpoint_io.serialize_model(self.model, {**metadata, **config})
        files = {checkpoint_io.MODEL: packed}
        if state is not None:
            self.discard_forward()
            self.note_saved_state(state["iter_num"])
            trainer_state = {
                "settings": self.recorded_settings(),
                "steps": self.steps,
                "random": device.get_rng_state(self.device),
                "anchor_iter": None if self.anchor is None else self.anchor.iter_num,
                "data_order": self.batches.order.state(),
                "has_saved_state": self.has_saved_state,
            }
            files[checkpoint_io.OPTIMIZER] = checkpoint_io.serialize_optimizer(self.model, self.optimizer)
            files[STATE] = orjson.dumps({**state, "trainer": trainer_state}, option=orjson.OPT_INDENT_2)
            if self.anchor is not None:
                files[checkpoint_io.ANCHOR] = checkpoint_io.serialize_tensors(self.anchor.state(self.model))
        return CheckpointFiles(files, digest)

    def note_saved_state(self, iter_num: int) -> None:
        """Note on every rank that the state of an iteration is saved."""
        every = self.settings.state_every
        self.has_saved_state |= every > 0 and (iter_num + 1) % every == 0

    def restore(self, path: Path, state: Mapping[str, Any]) -> None:
        """Restore the state of a resumable checkpoint.

        Args:
            path: Folder of the checkpoint.
            state: Content of its `state.json`.

        Raises:
            CheckpointError: If it belongs to another model.

        """
        self.restore_model(path, state)
        trainer_state = state["trainer"]
        # States of another interval are not used.
        has_same_interval = trainer_state["settings"]["state_every"] == self.settings.state_every
        self.has_saved_state = trainer_state["has_saved_state"] and has_same_interval
        self.batches.order.load_state(trainer_state["data_order"])
        self.batches.order.skip(state["iter_num"] + 1, parse_ranges(self.settings.skip_data))

    def restore_model(self, path: Path, state: Mapping[str, Any]) -> None:
        """Restore weights, optimizer, anchor and generators of a checkpoint. The data order is not changed.

        Raises:
            CheckpointError: If it belongs to another model.

        """
        trainer_state = state["trainer"]
        # A state without moments of a parameter must not keep later ones.
        self.optimizer.state.clear()
        self.anchor = None
        checkpoint_io.load_model(self.model, path / checkpoint_io.MODEL)
        checkpoint_io.load_optimizer(self.model, self.optimizer, path / checkpoint_io.OPTIMIZER)
        self.steps = trainer_state["steps"]
        if trainer_state["anchor_iter"] is not None:
            tensors = checkpoint_io.load_tensors(path / checkpoint_io.ANCHOR)
            self.anchor = self.anchor_kind.from_state(
                self.model, trainer_state["anchor_iter"], self.probe_windows(), tensors
            )
        device.set_rng_state(trainer_state["random"], self.device)
