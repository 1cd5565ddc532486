import base64
import gzip
import hashlib
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ockham.errors import UnverifiableError
from ockham.odr.check import check
from ockham.odr.evidence_pack import pack_log, unpack_log
from ockham.odr.lint import lint_folder
from ockham.odr.pinned_log import build_runs_folder, list_policies, pin_side, read_pinned_log
from ockham.odr.query import guarded_queries
from ockham.odr.record_data import EvidenceSide
from ockham.record.attempt import log_head
from ockham.record.log_writer import LogWriter
from ockham.record.parquet.builder import update_parquet
from ockham.record.run_folder import RunFolder
from tests.helpers.events import REVISION, decision, run_folder
from tests.odr.checked_record import checked, record_text
from tests.odr.record_samples import TODAY, put
from tests.odr.small_runs import FINISHED, accepting, make_run, read_run_events

RESUMED = {
    "iter_num": 1,
    "snapshot_id": None,
    "policy_revision": REVISION,
    "settings": {},
    "world_size": 1,
    "reason_code": "SNAPSHOT",
}


def test_changed_byte_of_the_log_is_not_evaluated(runs):
    """The evidence does not verify."""
    text = record_text(runs)
    segment = runs / "cand" / "log" / "1-0" / "000000000000.jsonl"
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b'"q":0.25', b'"q":0.26', 1))
    put(runs.parent / "odr", text)
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    judgement = check(record, [runs], guarded_queries, TODAY)

    assert "ODR408" in {f.code for f in record.findings}
    assert (judgement.verdict, judgement.results[0].state) == ("INCONCLUSIVE", "unknown")
    assert judgement.results[0].reason == "the evidence is missing or does not verify"


def test_growing_log_changes_no_verdict(runs):
    """Events after through_sequence are not queried."""
    before, _, _ = checked(runs)
    text = (runs.parent / "odr" / "0001-enable.md").read_text()
    segment = max((runs / "cand" / "log" / "1-0").glob("*.jsonl"))
    line = next(e for e in segment.read_bytes().splitlines() if b"evaluation.recorded" in e)
    with segment.open("ab") as file:
        file.write(line.replace(b'"val_loss":1.8', b'"val_loss":0.001') + b"\n" + b'{"torn')
    put(runs.parent / "odr", text)
    record = lint_folder(runs.parent / "odr", TODAY)[0]

    assert check(record, [runs], guarded_queries, TODAY).results == before.results


def test_derived_files_are_not_used(runs):
    """The query reads the lines."""
    seen = []

    def asker(folder):
        seen.extend(path.suffix for path in folder.rglob("*") if path.is_file())
        return guarded_queries(folder)

    (runs / "cand" / "decisions" / "day=2026-11-24").mkdir(parents=True)
    (runs / "cand" / "decisions" / "day=2026-11-24" / "1-0-000000000000.parquet").write_bytes(b"PAR1 lies")
    assert checked(runs, asker)[0].verdict == "KEEP"
    assert set(seen) == {".json", ".jsonl"}


def test_packed_evidence_needs_no_run(runs):
    """It takes precedence and is compared as strictly."""
    text = record_text(runs)
    size = len(read_run_events(runs, "base")) - 1
    packed = runs.parent / "odr" / "evidence"
    for name in ("base", "cand"):
        file = pack_log(
            read_pinned_log(EvidenceSide(name, name, through=size), RunFolder(runs, name)), packed
        )
        before = file.read_bytes()
        assert (
            pack_log(
                read_pinned_log(EvidenceSide(name, name, through=size), RunFolder(runs, name)), packed
            ).read_bytes()
            == before
        )
    put(runs.parent / "odr", text)

    def verdict():
        record = lint_folder(runs.parent / "odr", TODAY)[0]
        return check(record, [runs.parent / "elsewhere"], guarded_queries, TODAY).verdict, {
            f.code for f in record.findings
        }

    assert verdict() == ("KEEP", {"ODR706"})
    lines = gzip.decompress(before).replace(b'"q":0.25', b'"q":0.26', 1)
    file.write_bytes(gzip.compress(lines))
    assert "ODR408" in verdict()[1]
    file.write_bytes(before[:-20])
    assert verdict()[1] >= {"ODR408"}
    for line in (b'{"type": 1}', b"[]", b'{"type":"ockham.../etc.v1"}', lines[:50], b"\xff"):
        file.write_bytes(gzip.compress(line + b"\n" + lines))
        with pytest.raises(UnverifiableError, match="line 1 is not an event"):
            unpack_log(packed, EvidenceSide("candidate", "cand"), runs.parent / "out")


def test_decompression_bomb_is_refused(runs, monkeypatch):
    """The size is limited."""
    monkeypatch.setattr("ockham.odr.evidence_pack.MAX_UNPACKED", 1000)
    packed = runs.parent / "odr" / "evidence"
    pack_log(read_pinned_log(EvidenceSide("candidate", "cand"), RunFolder(runs, "cand")), packed)
    with pytest.raises(UnverifiableError, match="more than"):
        unpack_log(packed, EvidenceSide("candidate", "cand"), runs.parent / "out")
    assert not (runs.parent / "out").exists()


def test_pin_side_describes_the_newest_attempt(runs):
    """Last event, root and last ACCEPT."""
    side = pin_side("candidate", RunFolder(runs, "cand"))
    events = read_run_events(runs, "cand")
    assert (side.attempt, side.through, side.decisions) == (1, len(events) - 1, (accepting(events),))
    assert side.root == read_pinned_log(side, RunFolder(runs, "cand")).root
    assert pin_side("candidate", RunFolder(runs, "none")) is None


def test_pin_side_skips_an_attempt_without_a_batch(tmp_path):
    """A resume without work hides nothing."""
    found = make_run(tmp_path, "a")
    folder = RunFolder(tmp_path, "a")
    writer = LogWriter(folder, 2, 0, policy_revision=REVISION)
    writer.append("run.finished", FINISHED)
    writer.close()
    side = pin_side("candidate", folder)
    assert (side.attempt, side.through, side.decisions) == (1, len(found) - 1, (accepting(found),))


def test_pinned_root_equals_the_signed_tree_head(runs):
    """Both cover the same lines."""
    note = (runs / "cand" / "log" / "1-0" / "checkpoint").read_text().split("\n")
    assert note[1] == str(len(read_run_events(runs, "cand")))
    assert (
        base64.b64decode(note[2]).hex()
        == read_pinned_log(EvidenceSide("candidate", "cand"), RunFolder(runs, "cand")).root
    )


def test_large_evidence_is_converted_to_parquet(runs, monkeypatch):
    """The result is the same."""
    before, _, _ = checked(runs)
    monkeypatch.setattr("ockham.odr.evidence_store.PARQUET_MIN_EVENTS", 10)
    seen = []

    def asker(folder):
        seen.extend(folder.rglob("*.parquet"))
        return guarded_queries(folder)

    after, codes, _ = checked(runs, asker)
    assert (after, codes) == (before, [])
    assert seen


def test_equal_logs_give_equal_digits(tmp_path):
    """A mean is the same every time."""
    rows = 300_000
    folder = run_folder(tmp_path, "a")
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    writer.append("decision.made", decision(0))
    writer.close()
    update_parquet(folder, 1, 0, last=True)
    file = next((folder.path / "decisions").rglob("*.parquet"))
    table = pq.read_table(file, partitioning=None)
    values = [math.sin(i) * 10 ** (i % 7) for i in range(rows)]
    many = table.take([0] * rows).set_column(
        table.schema.get_field_index("observed"), "observed", pa.array(values)
    )
    pq.write_table(many, file, row_group_size=20_000)
    with guarded_queries(tmp_path) as ask:
        found = {
            ask("SELECT avg(observed) AS value, count(*) AS n FROM decisions", {})[0]["value"]
            for _ in range(6)
        }

    assert len(found) == 1


def write_resumed_run(runs):
    """Write logs 1-0, 1-1, 2-0, 3-0. Each attempt names the root of the one before."""
    folder = run_folder(runs, "a")
    for attempt, rank in ((1, 0), (1, 1), (2, 0), (3, 0)):
        writer = LogWriter(folder, attempt, rank, policy_revision=REVISION)
        if attempt > 1:
            head = log_head(folder, attempt - 1, rank)
            writer.append("run.resumed", {**RESUMED, **head, "from_attempt": attempt - 1})
        writer.append("decision.made", decision(attempt))
        writer.close()
    return folder


def query_logs(folder):
    with guarded_queries(folder) as ask:
        sql = "SELECT list(attempt * 10 + rank ORDER BY attempt) AS value, count(*) AS n FROM decisions"
        return ask(sql, {})


def test_constraint_reads_the_pinned_log_and_earlier_attempts(tmp_path):
    """Later attempts and other ranks are excluded. A packed log is read in the same way as one in place."""
    folder = write_resumed_run(tmp_path / "runs")
    side = EvidenceSide("candidate", "a", 2, 0, 1)
    build_runs_folder([read_pinned_log(side, folder)], tmp_path / "laid")
    pack_log(read_pinned_log(side, folder), tmp_path / "packed")
    unpacked = unpack_log(tmp_path / "packed", side, tmp_path / "out")
    build_runs_folder([read_pinned_log(side, unpacked)], tmp_path / "laid-packed")
    expected = [{"value": [10, 20], "n": 2}]
    assert query_logs(tmp_path / "laid") == query_logs(tmp_path / "laid-packed") == expected


@pytest.mark.parametrize("damage", ["edit", "delete"])
def test_changed_earlier_attempt_is_unverifiable(tmp_path, damage):
    """The later log names the root of the earlier one."""
    folder = write_resumed_run(tmp_path / "runs")
    segment = folder.segments(1, 0)[0]
    if damage == "edit":
        segment.write_bytes(segment.read_bytes().replace(b"SKIP", b"KEEP"))
    else:
        segment.unlink()
    with pytest.raises(UnverifiableError, match=r"log 1-0 of run a: attempt 2 was resumed from \d+ events"):
        read_pinned_log(EvidenceSide("candidate", "a", 2, 0, 1), folder)


def test_changed_policy_is_not_copied(tmp_path):
    """Its digest must be its name."""
    folder = run_folder(tmp_path / "runs", "a")
    good, bad = b'{"name": "x", "plugins": []}', b'{"name": "y", "plugins": []}'
    name = hashlib.sha256(good).hexdigest()
    (folder.path / "policies").mkdir()
    (folder.path / "policies" / f"{name}.json").write_bytes(good)
    assert [file.stem for file in list_policies(folder)] == [name]
    (folder.path / "policies" / f"{name}.json").write_bytes(bad)
    assert list_policies(folder) == []
