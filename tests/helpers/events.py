"""Small valid events, records and log folders."""

from __future__ import annotations

import math
import time
from pathlib import Path

import jsonschema
import orjson
import referencing

from ockham import resources
from ockham.context import OccamContext, knob_values
from ockham.event import Change, Decision
from ockham.record.durable_io import atomic_write
from ockham.record.log_writer import LogWriter
from ockham.record.payloads import ContextRecord, field_values
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer

REVISION = "sha256:" + "ab" * 32
REGISTRATION = {"odr_id": "ODR-0001", "title": "T", "odr_sha256": "0" * 64, "constraints": [{"id": "C1"}]}


def decision(iter_num: int = 0, **fields: object) -> Decision:
    made = Decision(
        iter_num,
        0,
        "on_batch_start",
        "gate",
        1,
        False,
        "SKIP",
        "BELOW_THRESHOLD",
        1.5,
        2.0,
        (Change("updated", True, False),),
        {"q": 0.25},
    )
    return made._replace(**fields)


def context_record(iter_num: int = 0, **fields: object) -> ContextRecord:
    ctx = OccamContext(iter_num, 1.5, custom={"accuracy": 0.5}, model_params=124)
    given = field_values(ctx)
    ctx.updated = False
    ctx.set_gauges(grad_norm=0.75)
    record = ContextRecord(
        iter_num,
        0,
        "batch",
        given,
        dict(ctx.custom),
        {"grad_norm": ctx.grad_norm},
        {},
        knob_values(ctx),
        {"updated": False},
        {"forward": 0.01},
        0,
        1,
    )
    return record._replace(**fields)


def run_folder(runs: Path, run_id: str = "a") -> RunFolder:
    folder = RunFolder(runs, run_id)
    folder.create()
    atomic_write(folder.run_json, orjson.dumps({"verifier_key": str(load_or_create_signer().verifier)}))
    return folder


def log_folder(runs: Path, count: int = 24, segment_events: int = 10) -> RunFolder:
    """Write a log with alternating decisions and contexts in several segments. One observed value is NaN."""
    folder = run_folder(runs)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, segment_events=segment_events)
    for i in range(count // 2):
        writer.append("decision.made", decision(i, observed=math.nan if i == 3 else float(i)), iter_num=i)
        writer.append("context.recorded", context_record(i), iter_num=i)
    writer.close()
    return folder


def lines(folder: RunFolder, attempt: int = 1, rank: int = 0) -> list[bytes]:
    return [line for segment in folder.segments(attempt, rank) for line in segment.read_bytes().splitlines()]


def events(folder: RunFolder, attempt: int = 1, rank: int = 0) -> list[dict]:
    return [orjson.loads(line) for line in lines(folder, attempt, rank)]


def open_idle_writer(folder: RunFolder, **options: int) -> LogWriter:
    """Return a log writer whose thread waits, so that it writes nothing before it is woken.

    The caller sets a sync interval that is longer than the test.
    """
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, **options)
    while not writer._wake._cond._waiters:
        time.sleep(0.001)
    return writer


def append_run_finished(writer: LogWriter) -> None:
    """Append run.finished of a run with 150 skipped batches."""
    end = {
        "reason_code": "COMPLETED",
        "iter_num": 149,
        "batches": 150,
        "updated_batches": 0,
        "skipped_batches": 150,
        "optimizer_steps": 0,
        "skipped_steps": 150,
        "evaluations": 0,
        "accepted": 0,
        "update_rate": 0.0,
        "accept_rate": None,
        "seconds": 1.0,
        "blocked_seconds": 0.0,
    }
    writer.append("run.finished", end)


def plain_validator(kind: str) -> jsonschema.Draft202012Validator:
    """Return a validator of the third-party `jsonschema` package for one schema."""

    def load(name: str) -> dict:
        return orjson.loads((resources.schemas_dir() / f"{name}.v1.schema.json").read_bytes())

    common = load("common")
    registry = referencing.Registry().with_resource(common["$id"], referencing.Resource.from_contents(common))
    return jsonschema.Draft202012Validator(
        load(kind), registry=registry, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
