"""Small runs that the log writer writes."""

from __future__ import annotations

from pathlib import Path

from ockham.context import OccamContext
from ockham.record.log_writer import LogWriter
from ockham.record.payloads import field_values
from ockham.record.run_folder import RunFolder
from tests.helpers.events import REVISION, context_record, decision, events, run_folder

UPDATES = 40
# Sequence of the last event of such a run.
LAST = 88


def make_run(
    runs: Path, run_id: str, *, loss: float = 2.0, gflops: float = 1.0, finish: bool = True
) -> list[dict]:
    """Write a run with 40 gate decisions, 3 evaluations and one ACCEPT. Return its events."""
    folder = run_folder(runs, run_id)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=25)
    for i in range(UPDATES):
        writer.append("decision.made", decision(i, observed=float(i)), iter_num=i)
        writer.append("context.recorded", context_record(i), iter_num=i)
    for step, better in enumerate((1.2, 1.1, 1.0)):
        at = UPDATES + step
        writer.append("evaluation.recorded", evaluation(at, loss * better), iter_num=at)
    accept = decision(
        UPDATES + 2,
        hook="on_evaluate",
        plugin="memory",
        action="ACCEPT",
        reason_code="ACCEPTED_FIRST_VALID",
        changes=(),
        numbers={"oq": 1 / loss / (gflops * 1e9 * 100.0), "loss": loss},
    )
    writer.append("decision.made", accept, iter_num=UPDATES + 2)
    judged = OccamContext(
        UPDATES + 2, loss, inference_flops=gflops * 1e9, inference_tokens=64, memory_footprint_mb=100.0
    )
    record = context_record(UPDATES + 2, hook="on_evaluate", given=field_values(judged), measured={})
    writer.append("context.recorded", record, iter_num=UPDATES + 2)
    if finish:
        writer.append("run.finished", FINISHED)
    writer.close()
    return read_run_events(runs, run_id)


def evaluation(at: int, val_loss: float) -> dict:
    return {
        "iter_num": at,
        "trigger": "SCHEDULE",
        "val_loss": val_loss,
        "standard_error": None,
        "tokens": 1024,
        "seconds": 0.1,
    }


FINISHED = {
    "reason_code": "COMPLETED",
    "iter_num": 42,
    "batches": 40,
    "updated_batches": 20,
    "skipped_batches": 20,
    "optimizer_steps": 20,
    "skipped_steps": 20,
    "evaluations": 3,
    "accepted": 1,
    "update_rate": 0.5,
    "accept_rate": 0.3,
    "seconds": 1.0,
    "blocked_seconds": 0.0,
}


def read_run_events(runs: Path, run_id: str) -> list[dict]:
    return events(RunFolder(runs, run_id))


def accepting(found: list[dict]) -> str:
    """Return the ID of the ACCEPT decision among the events of a run."""
    return next(e["id"] for e in found if e["data"].get("action") == "ACCEPT")
