"""Evidence of many records: one process and one reading of each log."""

from __future__ import annotations

import contextlib

import pytest

from ockham.odr import evidence_store
from ockham.odr.check import check_in_store, evidence_order
from ockham.odr.evidence_store import EvidenceStore
from ockham.odr.lint import lint_folder
from ockham.odr.query import guarded_queries
from tests.odr.checked_record import record_text
from tests.odr.record_samples import TODAY, put
from tests.odr.small_runs import accepting, make_run, read_run_events


def put_records(runs, count):
    for number in range(1, count + 1):
        text = record_text(runs).replace("ODR-0001", f"ODR-{number:04d}")
        put(runs.parent / "odr", text, f"{number:04d}-t.md")


def test_records_over_the_same_logs_share_one_process_and_one_reading(runs, monkeypatch):
    """Two logs are hashed, whatever the number of records."""
    put_records(runs, 12)
    opened, read = [], []

    @contextlib.contextmanager
    def counting(folder):
        opened.append(folder)
        with guarded_queries(folder) as ask:
            yield ask

    original = evidence_store.read_pinned_log

    def reading(side, folder):
        read.append(side.run)
        return original(side, folder)

    monkeypatch.setattr(evidence_store, "read_pinned_log", reading)
    with EvidenceStore([runs], counting) as store:
        results = [check_in_store(record, store, TODAY) for record in lint_folder(runs.parent / "odr", TODAY)]
    assert [result.verdict for result in results] == ["KEEP"] * 12
    assert (len(opened), sorted(read)) == (1, ["base", "cand"])
    assert not opened[0].exists()


def test_other_evidence_has_another_folder_and_process(runs):
    """A record never sees the runs of the record before it."""
    put_records(runs, 3)
    make_run(runs, "third", loss=1.5)
    file = runs.parent / "odr" / "0002-t.md"
    changed = record_text(runs).replace("ODR-0001", "ODR-0002").replace("run: cand", "run: third")
    ids = [accepting(read_run_events(runs, name)) for name in ("cand", "third")]
    file.write_text(changed.replace(*ids))
    names = []

    @contextlib.contextmanager
    def listing(folder):
        names.append(sorted(path.name for path in folder.iterdir()))
        yield lambda *_: [{"value": 0.1, "n": 3}]

    records = lint_folder(file.parent, TODAY)
    for record in records:
        if record.claims.id == "ODR-0002":
            side = record.claims.candidates[0]._replace(root="")
            record.claims = record.claims._replace(candidates=(side,))
    with EvidenceStore([runs], listing) as store:
        for record in sorted(records, key=evidence_order):
            check_in_store(record, store, TODAY)
    assert names == [["base", "cand"], ["base", "third"]]


@pytest.mark.parametrize("corrected", [True, False])
def test_correction_replaces_the_locked_value(runs, corrected):
    """The text and its lock stay; the newest correction is compared with the log."""
    text = record_text(runs, delta="+0.9")
    if corrected:
        old, new = "+0.7", "+0.4"
        item = '{{oq_delta: {}, date: 2026-11-28, by: alice, reason: "another point"}}'
        corrections = ", ".join(item.format(value) for value in (old, new))
        text = text.replace("\n---\n\n#", f"\ncorrections: [{corrections}]\n---\n\n#", 1)
    put(runs.parent / "odr", text)
    with EvidenceStore([runs], guarded_queries) as store:
        record = lint_folder(runs.parent / "odr", TODAY)[0]
        check_in_store(record, store, TODAY)
    assert ("ODR602" in {f.code for f in record.findings}) is not corrected
    without = lint_folder(runs.parent / "odr", TODAY)[0]
    assert "ODR702" not in {f.code for f in without.findings}
