"""Correctly signed logs with contradictions: each one is reported once, and nothing else is."""

from __future__ import annotations

import pytest

from ockham.context import KNOBS
from ockham.event import Change, Decision
from ockham.record.log_writer import LogWriter
from ockham.record.payloads import ContextRecord
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.run import verify_run
from ockham.record.verify.sequence import SequenceChecker
from tests.helpers.events import REVISION, context_record, decision, run_folder


def turns(*changes, **fields) -> Decision:
    return decision(changes=tuple(Change(*change) for change in changes), **fields)


def context(iter_num=0, micro_step=0, **left) -> ContextRecord:
    """Return a context with these final knob values. The other knobs are unchanged."""
    record = context_record(iter_num, micro_step=micro_step)
    knobs = dict(zip(KNOBS, record.left, strict=True)) | {"updated": True} | left
    return record._replace(left=tuple(knobs[name] for name in KNOBS))


def found(tmp_path, *payloads, **kwargs):
    """Return sequence and message of each contradiction in a log of decisions and their contexts."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION, **kwargs)
    own = []
    for payload in payloads:
        if isinstance(payload, Decision):
            own.append(writer.append("decision.made", payload, iter_num=payload.iter_num).sequence)
        elif isinstance(payload, ContextRecord):
            first, count = (own[0], len(own)) if own else (0, 0)
            metadata = payload._replace(
                first_decision=first + payload.first_decision, decisions=count + payload.decisions - 1
            )
            writer.append("context.recorded", metadata, iter_num=payload.iter_num)
            own = []
        else:
            writer.append("log.halted" if "lost_events" in payload else "log.gap", payload, subject="log")
    writer.close()
    report = verify_run(folder, keys=[load_or_create_signer().verifier], parquet=False)
    odd = [
        f for f in report.findings if f.kind == "contradiction" and not f.message.startswith("a log opens")
    ]
    assert {f.place for f in odd} <= {"log/1-0"}
    return [(f.sequence, f.message) for f in odd]


OFF = ("updated", True, False)
HALF, QUARTER = ("learning_rate", 0.001, 0.0005), ("learning_rate", 0.0005, 0.00025)


AGREED = {
    "one": [turns(OFF), context(updated=False)],
    "one after the other": [turns(HALF), turns(QUARTER, plugin="limiter"), context(learning_rate=0.00025)],
    "two": [turns(HALF, OFF), context(learning_rate=0.0005, updated=False)],
    "back": [turns(HALF), turns(("learning_rate", 0.0005, 0.001)), context()],
    "shadow": [turns(("updated", False, True), shadow=True), context()],
    "both hooks": [turns(hook="on_batch_end"), context()],
    "no turn": [turns(), turns(), context()],
    "1 and 1.0": [turns(("grad_noise_std", 0, 1)), context(grad_noise_std=1.0)],
}


@pytest.mark.parametrize("payloads", AGREED.values(), ids=AGREED)
def test_consistent_events_give_no_finding(tmp_path, payloads):
    """Each pair of events agrees."""
    assert found(tmp_path, *payloads) == []


def test_matching_contexts_skip_the_check_of_each_knob(tmp_path, monkeypatch):
    """Nearly all contexts match. A number in another form is checked."""
    looked = []
    monkeypatch.setattr(SequenceChecker, "_check_left_knobs", lambda *_: looked.append(name))
    for name, payloads in AGREED.items():
        assert found(tmp_path / name, *payloads) == []
    assert looked == ["1 and 1.0"]


@pytest.mark.parametrize(
    ("payloads", "odd"),
    [
        (
            [context(learning_rate=0.5)],
            (0, "learning_rate was left at 0.5, and the decisions leave it at 0.001"),
        ),
        (
            [turns(OFF), context(updated=False, halt=True)],
            (1, "halt was left at True, and the decisions leave it at False"),
        ),
        (
            [turns(("updated", True, 1)), context()],
            (1, "updated was left at True, and the decisions leave it at 1"),
        ),
        ([turns(OFF), context()], (1, "updated was left at True, and the decisions leave it at False")),
        (
            [turns(HALF), context(learning_rate=0.00025)],
            (1, "learning_rate was left at 0.00025, and the decisions leave it at 0.0005"),
        ),
        (
            [turns(("learning_rate", 0.002, 0.0005)), context(learning_rate=0.0005)],
            (1, "decision 0 of 'gate' turned learning_rate from 0.002, and it stood at 0.001"),
        ),
        (
            [turns(HALF), turns(HALF, plugin="limiter"), context(learning_rate=0.0005)],
            (2, "decision 1 of 'limiter' turned learning_rate from 0.001, and it stood at 0.0005"),
        ),
        (
            [turns(("updated", 1, False)), context(updated=False)],
            (1, "decision 0 of 'gate' turned updated from 1, and it stood at True"),
        ),
        (
            [turns(OFF, shadow=True), context(updated=False)],
            (1, "updated was left at False, and the decisions leave it at True"),
        ),
        ([turns(iter_num=1), context()], (1, "decision 0 is of another batch or hook than its context")),
        ([turns(micro_step=1), context()], (1, "decision 0 is of another batch or hook than its context")),
        (
            [turns(hook="on_evaluate"), context()],
            (1, "decision 0 is of another batch or hook than its context"),
        ),
        (
            [turns(), turns(), context()._replace(decisions=2)],
            (2, "this context names 3 decisions from 0, but the log has 2"),
        ),
        (
            [turns(), turns(), context()._replace(first_decision=1)],
            (2, "this context names 2 decisions from 1, but the log has 2"),
        ),
        (
            [turns(), context()._replace(decisions=0)],
            (1, "this context names 0 decisions from None, but the log has 1"),
        ),
    ],
)
def test_contradiction_is_one_finding(tmp_path, payloads, odd):
    """It has a sequence number and a message."""
    assert found(tmp_path, *payloads) == [odd]


GAP = {"from_attempt": 1, "from_sequence": 1, "reason_code": "WRITER_FAILED", "count": None}
HALT = {"reason_code": "ENOSPC", "message": "full", "lost_events": 3}


@pytest.mark.parametrize(
    ("batches", "odd"),
    [
        ([(0, 0), (1, 0), (2, 0)], []),
        ([(3, 0), (3, 1), (4, 0), (4, 1)], []),
        ([(0, 0), (2, 0)], [(1, "batch (2, 0) follows batch (0, 0)")]),
        ([(0, 0), (0, 0)], [(1, "batch (0, 0) follows batch (0, 0)")]),
        ([(1, 0), (0, 0)], [(1, "batch (0, 0) follows batch (1, 0)")]),
        ([(0, 0), (0, 2)], [(1, "batch (0, 2) follows batch (0, 0)")]),
        ([(0, 0), (1, 1)], [(1, "batch (1, 1) follows batch (0, 0)")]),
        ([(0, 0), GAP, (5, 0)], []),
        ([(0, 0), HALT, (5, 0)], []),
        ([(0, 0), GAP, (5, 0), (7, 0)], [(3, "batch (7, 0) follows batch (5, 0)")]),
    ],
)
def test_batches_must_be_in_order(tmp_path, batches, odd):
    """After a recorded gap the next batch can be any."""
    assert found(tmp_path, *(at if isinstance(at, dict) else context(*at) for at in batches)) == odd


def test_evaluations_between_batches_are_accepted(tmp_path):
    """They are contexts of the same batch."""
    evaluated = context(0)._replace(hook="on_evaluate")
    judged = turns(hook="on_evaluate", plugin="memory")
    assert found(tmp_path, context(0), judged, evaluated, evaluated, context(1)) == []
    odd = "decision 1 is of another batch or hook than its context"
    assert found(tmp_path / "odd", context(0), turns(), evaluated) == [(2, odd)]


@pytest.mark.parametrize("segment_events", [2, 3, 4])
def test_batch_can_span_several_segments(tmp_path, segment_events):
    """Its decisions are read from earlier segments."""
    batch = [
        turns(HALF),
        turns(QUARTER, plugin="limiter"),
        turns(OFF),
        context(0, learning_rate=0.00025, updated=False),
    ]
    evaluated = context(0)._replace(hook="on_evaluate")
    judged = turns(hook="on_evaluate", plugin="memory")
    payloads = [*batch, judged, evaluated, turns(iter_num=1), context(1), turns(HALF, iter_num=2)]
    assert found(tmp_path, *payloads, context(2, learning_rate=0.0005), segment_events=segment_events) == []
    odd = "learning_rate was left at 0.001, and the decisions leave it at 0.0005"
    found_last = found(tmp_path / "odd", *payloads, context(2), segment_events=segment_events)
    assert [message for _, message in found_last] == [odd]
