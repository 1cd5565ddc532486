"""Calls of a training loop that save and restore the state of a run. `ockham.Run` inherits them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ockham.context import GAUGES, OccamContext
from ockham.event import from_json_value, to_json_value
from ockham.rank_calls import RankCalls
from ockham.record.checkpointing import CheckpointKind, CheckpointPacker, save_checkpoint
from ockham.record.checkpoints import KEEP_LAST_RESUMABLE
from ockham.record.counters import RunCounters
from ockham.record.payloads import gauge_values
from ockham.record.saved_states import SavedState, find_saved_state
from ockham.record.trainer_checkpoints import checkpoint_state, record_checkpoint


class StateCalls(RankCalls):
    """Saves checkpoints, and restores plugins, counters and gauges. `ockham.Run` sets the attributes."""

    def save_checkpoint(
        self,
        ctx: OccamContext,
        kind: CheckpointKind,
        pack: CheckpointPacker,
        *,
        keep: int = KEEP_LAST_RESUMABLE,
        state_every: int = 0,
    ) -> str:
        """Save the present weights. Return the snapshot ID, which is the folder name under `checkpoints/`.

        The log is synced and signed before the files are written. Their metadata contains its tree head, so
        the weights name the decisions that made them. The newest checkpoints of kind `resume` are kept.
        Every rank calls this function; only rank 0 writes.

        Args:
            ctx: Context of the batch that the weights come from.
            kind: Only `accepted` has an accepting decision.
            pack: Creates the files from metadata and, for kind `resume`, from the run's state. The state is
                stored in `state.json` as a whole, with everything that the trainer adds.
            keep: Number of checkpoints of kind `resume` that are kept, at least 1.
            state_every: Steps between two states to which a rollback returns. The newest *keep* of them are
                kept, and the newest two checkpoints of kind `resume`.

        Raises:
            CheckpointError: If the files cannot be written, or the run cannot be resumed from them.

        """
        self._require_open("save_checkpoint")
        revision, state = self.policy.revision, self.state_dict
        return save_checkpoint(
            self._recorder,
            ctx,
            kind,
            pack,
            policy_revision=revision,
            state=state,
            keep=keep,
            state_every=state_every,
        )

    def checkpoint_state(self) -> dict[str, Any]:
        """Return the state to store in a checkpoint of another library, after the last batch has ended.

        All events so far are signed before. `record_checkpoint` completes it.
        """
        return checkpoint_state(
            self._recorder, self._last.iter_num, policy_revision=self.policy.revision, state=self.state_dict
        )

    def record_checkpoint(self, path: str | Path, state: Mapping[str, Any]) -> str:
        """Record the files of a checkpoint that another library wrote. Return its snapshot ID.

        The checkpoint can be anywhere, and its files may be deleted later.

        Args:
            path: The complete folder or file. `ockham.record.trainer_checkpoints.write_state` has written
                the state into the folder, or next to the file.
            state: The state.

        Raises:
            CheckpointError: If the files cannot be read.

        """
        return record_checkpoint(self._recorder, Path(path), state)

    def state_dict(self) -> dict[str, Any]:
        """Return plugin state, counters and carried gauges as JSON values. A checkpoint contains them."""
        carried = dict(zip(GAUGES, gauge_values(self._last), strict=True))
        state = {
            "plugins": self.chain.state_dict(),
            "counts": self.counts.state_dict(),
            "gauges": carried,
            "custom": dict(self._last.custom),
            "iter_num": self._last.iter_num,
        }
        return dict(to_json_value(state))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state saved by `state_dict`, and record the key frame from which a replay starts."""
        self._require_open("load_state_dict")
        state = from_json_value(state)
        self.chain.load_state_dict(state["plugins"])
        self.counts = RunCounters.from_state(state["counts"], self.peers.world_size)
        self._last = self._last.next_context(state["iter_num"], 0.0)
        self._last.set_gauges(**state["gauges"])
        self._last.custom.update(state["custom"])
        self._recorder.record_key_frame("RESUME", state["iter_num"] + 1)

    def restore_saved_state(self, ctx: OccamContext, state: Mapping[str, Any]) -> None:
        """Restore plugins, gauges and metrics after a rollback, and record a key frame.

        Plugins that survive rollbacks keep their state. The counters of the run continue.

        Args:
            ctx: Context of the step that requested the rollback.
            state: The state saved by `state_dict`.

        """
        self._require_open("restore_saved_state")
        state = from_json_value(state)
        self.chain.restore_saved_state(state["plugins"])
        ctx.set_gauges(**{**state["gauges"], "updates": ctx.updates, "update_rate": ctx.update_rate})
        ctx.custom.clear()
        ctx.custom.update(state["custom"])
        self._recorder.record_key_frame("ROLLBACK", ctx.iter_num + 1)

    def find_saved_state(self, every: int) -> SavedState | None:
        """Return the saved state to which a rollback returns now, or None. Every rank calls it.

        It is the newest checkpoint of kind `resume` whose files are those of its signed event, and that no
        rollback has restored before. If all were restored, it is the oldest.

        Args:
            every: Steps between two states. Other checkpoints are not used.

        Raises:
            LogError: If signed lines are missing or changed.

        """
        self._require_open("find_saved_state")
        return find_saved_state(self.attempt, every)
