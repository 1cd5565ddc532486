"""Checks that all calls of a training loop share: the run is open, and the ranks agree."""

from __future__ import annotations

from ockham.context import OccamContext
from ockham.errors import RankDivergedError, RunError
from ockham.record.attempt import Attempt
from ockham.record.rank_group import Divergence, RankGroup
from ockham.step_audit import Meter


class CallChecks:
    """Checks of the calls of a run. `ockham.Run` sets the attributes."""

    run_id: str
    attempt: Attempt
    peers: RankGroup
    _is_started: bool
    _weights_meter: Meter | None = None

    def _require_started(self, call: str) -> None:
        if not self._is_started:
            self._require_open(call)

    def _require_open(self, call: str) -> None:
        if not self.attempt.is_open:
            state = "has ended" if self._is_started else "was not started"
            raise RunError(
                f"run.{call}: run {self.run_id!r} {state}; call it inside `with ockham.Run(...) as run:`, "
                "or between run.start() and run.finish()"
            )

    def _require_agreement(self, ctx: OccamContext, hook: str, *, has_news: bool = False) -> OccamContext:
        """Return the context if every rank left it in the same state.

        Raises:
            RankDivergedError: If a rank differs. Every rank raises it, and each log names the difference.

        """
        self._stop_if(self.peers.find_divergence(ctx, hook, has_news=has_news), ctx)
        return ctx

    def _require_equal_weights(self, ctx: OccamContext, hook: str) -> None:
        """Compare the weights of all ranks. Sharded weights are left out, because the ranks' parts differ.

        Raises:
            RankDivergedError: If a rank differs. Every rank raises it, and each log names the difference.

        """
        meter = self._weights_meter
        checksum = None if meter is None or self.peers.world_size == 1 else meter.checksum(replicated=True)
        if checksum is not None:
            self._stop_if(self.peers.find_weight_divergence(ctx, hook, checksum), ctx)

    def _stop_if(self, diverged: Divergence | None, ctx: OccamContext) -> None:
        if diverged is not None:
            self.attempt.log.append("rank.diverged", diverged.event, iter_num=ctx.iter_num, urgent=True)
            raise RankDivergedError(diverged.message)
