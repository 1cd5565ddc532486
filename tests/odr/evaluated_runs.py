"""Runs with evaluations at given places, and what an Occam Quotient at each of them is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ockham.context import OccamContext, knob_values
from ockham.record.log_writer import LogWriter
from ockham.record.payloads import field_values
from tests.helpers.events import REVISION, context_record, decision, run_folder
from tests.odr.small_runs import FINISHED


class Evaluation(NamedTuple):
    """One evaluation of a run. The memory accepts it or not, which must not matter."""

    iteration: int
    loss: float
    accepted: bool = False
    flops: float = 1e9

    @property
    def quotient(self) -> float:
        return 1 / self.loss / (self.flops * 100.0)


def write_evaluated_run(
    runs: Path,
    run_id: str,
    evaluations: Iterable[Evaluation],
    *,
    tokens: int = 64,
    updates: Iterable[int] | None = None,
    batches: int = 0,
    settings: dict[str, Any] | None = None,
) -> None:
    """Write a run with one micro-batch per iteration.

    Args:
        runs: Folder of runs.
        run_id: ID of the run.
        evaluations: Its evaluations, in order.
        tokens: Tokens of a batch.
        updates: Iterations that update. None: all.
        batches: Number of batches. 0: up to the last evaluation.
        settings: Settings of the trainer, for a first event.

    """
    writer = LogWriter(run_folder(runs, run_id), 1, 0, policy_revision=REVISION)
    if settings is not None:
        started = {"policy_revision": REVISION, "run_json_sha256": "0" * 64, "settings": settings}
        writer.append("run.started", {**started, "world_size": 1, "ledger": None})
    by_iteration = {one.iteration: one for one in evaluations}
    for at in range(batches or max(by_iteration, default=0) + 1):
        updated = updates is None or at in set(updates)
        seconds = {"forward": 1.0, **({"backward": 2.0} if updated else {})}
        ctx = OccamContext(at, 1.5)
        ctx.updated = updated
        record = context_record(at, left=knob_values(ctx), seconds=seconds)
        writer.append("context.recorded", record, iter_num=at)
        if at in by_iteration:
            append_evaluation(writer, by_iteration[at], tokens)
    writer.append("run.finished", FINISHED)
    writer.close()


def append_evaluation(writer: LogWriter, one: Evaluation, tokens: int) -> None:
    """Append the decision of the memory and the context of an evaluation."""
    verdict = decision(
        one.iteration,
        hook="on_evaluate",
        plugin="memory",
        action="ACCEPT" if one.accepted else "REJECT",
        reason_code="ACCEPTED_FIRST_VALID" if one.accepted else "REJECTED_OQ_INSUFFICIENT",
        changes=(),
        numbers={"oq": one.quotient, "loss": one.loss},
    )
    writer.append("decision.made", verdict, iter_num=one.iteration)
    facts = OccamContext(
        one.iteration,
        one.loss,
        inference_flops=one.flops,
        inference_tokens=64,
        memory_footprint_mb=100.0,
        tokens_seen=one.iteration * tokens,
    )
    record = context_record(one.iteration, hook="on_evaluate", given=field_values(facts), measured={})
    writer.append("context.recorded", record, iter_num=one.iteration)
