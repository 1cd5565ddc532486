import base64
import contextlib
import gzip
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ockham.errors import CannotJudgeError
from ockham.odr.ask import QueryTimeoutError, guarded
from ockham.odr.check import check
from ockham.odr.claims import Constraint, Side
from ockham.odr.evidence import cut, pinned
from ockham.odr.lint import lint_folder
from ockham.odr.packed import pack, unpack
from ockham.odr.verdict import agrees, judge, verdict_of
from ockham.record.folder import RunFolder
from ockham.record.log import LogWriter
from ockham.record.snapshots import derive
from tests.odr.runs import accepting, events_of, make_run
from tests.odr.samples import TODAY, put
from tests.samples import REVISION, decision, run_folder

RECORD = """\
---
odr: 1
id: ODR-0001
title: T
status: {status}
date: 2026-11-24
owners: [alice]
evidence:
  baseline: {{run: base, through_sequence: {size}, root: {base_root}, decisions: [{base_id}]}}
  candidate: {{run: cand, through_sequence: {size}, root: {cand_root}, decisions: [{cand_id}]}}
constraints:
  - id: C1
    text: The validation loss improves by > 2 %
    sql: |
      {sql}
    op: ">"
    threshold: {threshold}
    measured: {measured}
outcome: {{oq_delta: {delta}, verdict: {verdict}}}
---

# ODR-0001: T

## Problem
## Proposed Change
## Occam Constraints
- [{tick}] C1 Better

## Outcome
OQ delta: {delta} → {verdict}
"""
SQL = (
    "SELECT 1 - min(val_loss) FILTER (WHERE run_id = $candidate) / min(val_loss) FILTER (WHERE run_id = $baseline) AS value,"
    " count(val_loss) FILTER (WHERE run_id = $candidate) AS n FROM evaluations"
)


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path / "runs", "base", loss=2.0, gflops=1.26)
    make_run(tmp_path / "runs", "cand", loss=1.8, gflops=1.0)
    return tmp_path / "runs"


def record_text(runs: Path, **changes) -> str:
    """A record that is true of the two runs, with what a test changes."""
    values = {
        "status": "accepted", "sql": SQL, "threshold": 0.02, "measured": "0.10", "delta": "+0.4", "verdict": "KEEP", "tick": "x",
        "size": len(events_of(runs, "base")) - 1,
    }  # fmt: skip
    for name in ("base", "cand"):
        values[f"{name}_id"] = accepting(events_of(runs, name))
        values[f"{name}_root"] = cut(Side(name, name), RunFolder(runs, name)).root
    return RECORD.format(**{**values, **changes})


def answering(ask):
    """An asker that answers by a function."""
    return lambda _: contextlib.nullcontext(ask)


def checked(runs: Path, asker=guarded, **changes):
    """The judgement of a record, and the codes of what was found in it."""
    put(runs.parent / "odr", record_text(runs, **changes))
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    judgement = check(record, [runs], asker, TODAY)
    return judgement, sorted(f.code for f in record.findings if f.code != "ODR706"), record


def test_a_true_record_is_kept(runs):
    """Value, n, OQ delta and verdict are recomputed from the log and agree with what was written."""
    judgement, codes, _ = checked(runs)

    assert codes == []
    assert (judgement.verdict, judgement.results[0].state, judgement.results[0].n) == ("KEEP", "pass", 3)
    assert judgement.results[0].value == pytest.approx(0.1)
    assert judgement.oq_delta == pytest.approx(0.4)
    assert [pin.size for pin in judgement.pins] == [len(events_of(runs, "base"))] * 2


LIES = {
    "value": ({"measured": "0.11"}, ["ODR606"], "claimed 0.11, recomputed 0.1"),
    "OQ delta": ({"delta": "+0.9"}, ["ODR602"], "claimed +0.9, recomputed +0.4"),
    "verdict": ({"threshold": 0.5}, ["ODR510", "ODR511", "ODR604"], "claimed KEEP, recomputed REVERT"),
    "tick": ({"tick": " "}, ["ODR511"], "is not ticked, but came out as pass"),
    "root": (
        {"cand_root": "ab" * 32},
        ["ODR408", "ODR507", "ODR511", "ODR603", "ODR604"],
        "not the one named here",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_number_changed_by_hand_is_found(runs, lie):
    """Whatever is claimed otherwise than the log says is a finding with both numbers."""
    changes, codes, said = LIES[lie]
    _, found, record = checked(runs, **changes)

    assert found == codes
    assert any(said in f.message for f in record.findings)


def test_one_byte_of_the_log_changed(runs):
    """The evidence no longer verifies, and nothing is judged from it."""
    text = record_text(runs)
    segment = runs / "cand" / "log" / "1-0" / "000000000000.jsonl"
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b'"q":0.25', b'"q":0.26', 1))
    put(runs.parent / "odr", text)
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    judgement = check(record, [runs], guarded, TODAY)

    assert "ODR408" in {f.code for f in record.findings}
    assert (judgement.verdict, judgement.results[0].state) == ("INCONCLUSIVE", "unknown")
    assert judgement.results[0].reason == "the evidence does not verify"


def test_a_log_that_grows_changes_no_verdict(runs):
    """What is logged behind through_sequence is not asked, however good or bad it is."""
    before, _, _ = checked(runs)
    text = (runs.parent / "odr" / "0001-enable.md").read_text()
    segment = max((runs / "cand" / "log" / "1-0").glob("*.jsonl"))
    line = next(e for e in segment.read_bytes().splitlines() if b"evaluation.recorded" in e)
    with segment.open("ab") as file:
        file.write(line.replace(b'"val_loss":1.8', b'"val_loss":0.001') + b"\n" + b'{"torn')
    put(runs.parent / "odr", text)
    record = lint_folder(runs.parent / "odr", TODAY)[0]

    assert check(record, [runs], guarded, TODAY).results == before.results


def test_derived_files_are_not_believed(runs):
    """A Parquet file that says otherwise than the lines is not even laid out for the query."""
    seen = []

    def asker(folder):
        seen.extend(path.suffix for path in folder.rglob("*") if path.is_file())
        return guarded(folder)

    (runs / "cand" / "decisions" / "day=2026-11-24").mkdir(parents=True)
    (runs / "cand" / "decisions" / "day=2026-11-24" / "1-0-000000000000.parquet").write_bytes(b"PAR1 lies")
    assert checked(runs, asker)[0].verdict == "KEEP"
    assert set(seen) == {".json", ".jsonl"}


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"cand_id": "ffffffff"}, ["ODR403", "ODR407", "ODR603", "ODR604"]),
        ({"cand_id": "0"}, None),
        ({"size": 40}, None),
        ({"size": 99999}, ["ODR404", "ODR404", "ODR507", "ODR511", "ODR603", "ODR604"]),
    ],
)
def test_evidence_that_is_not_there(runs, changes, codes):
    """Unknown decisions and places beyond the log are findings, and the verdict is no longer known."""
    if "size" in changes and changes["size"] == 40:
        roots = {f"{n}_root": cut(Side(n, n, through=40), RunFolder(runs, n)).root for n in ("base", "cand")}
        changes = {**changes, **roots}
        codes = ["ODR407", "ODR407", "ODR410", "ODR410", "ODR507", "ODR511", "ODR603", "ODR604"]
    elif codes is None:
        shared = accepting(events_of(runs, "cand"))[
            :8
        ]  # the first digits are the time: many decisions share them
        changes, codes = {"cand_id": shared}, ["ODR403", "ODR407", "ODR603", "ODR604"]
    judgement, found, _ = checked(runs, **changes)

    assert found == codes
    assert judgement.verdict == "INCONCLUSIVE"


def test_a_decision_of_the_other_side(runs):
    """A decision that is cited on the wrong side is named with its own run."""
    _, found, record = checked(runs, cand_id=accepting(events_of(runs, "base")))
    assert found == ["ODR405", "ODR407", "ODR603", "ODR604"]
    assert any("is a decision of base, not of cand" in f.message for f in record.findings)


def test_a_run_that_is_not_there(runs):
    """A missing run is a finding, an error once the record is accepted, a warning before."""
    (runs / "cand" / "run.json").unlink()
    for status, severity in (("accepted", "error"), ("proposed", "warning")):
        _, found, record = checked(runs, status=status)
        assert "ODR402" in found
        assert {f.severity for f in record.findings if f.code == "ODR402"} == {severity}


NO_DATA = {
    "no row": ("SELECT val_loss AS value, 1 AS n FROM evaluations WHERE run_id = 'none'", "nothing to check"),
    "count of nothing": (
        "SELECT count(*) AS value, count(*) AS n FROM evaluations WHERE false",
        "nothing to check",
    ),
    "NULL": ("SELECT max(val_loss) AS value, 5 AS n FROM evaluations WHERE false", "nothing to check"),
    "n of zero": (
        "SELECT 9.0 + count(*) AS value, count(*) FILTER (WHERE false) AS n FROM evaluations",
        "nothing to check",
    ),
    "NaN": ("SELECT max('nan'::DOUBLE + val_loss) AS value, 5 AS n FROM evaluations", "value is nan"),
    "infinite": ("SELECT max('inf'::DOUBLE + val_loss) AS value, 5 AS n FROM evaluations", "value is inf"),
    "two rows": ("SELECT val_loss AS value, 1 AS n FROM evaluations", "more than one row"),
    "text": ("SELECT max(run_id) AS value, 5 AS n FROM evaluations", "not a number"),
    "true": ("SELECT max(val_loss) > 0 AS value, 5 AS n FROM evaluations", "not a number"),
    "no such column": ("SELECT max(none) AS value, 5 AS n FROM evaluations", "none"),
    "division of texts": ("SELECT max(run_id::INT) AS value, 5 AS n FROM evaluations", "Conversion Error"),
    "negative n": ("SELECT max(val_loss) AS value, -5 AS n FROM evaluations", "not a count"),
}


def test_no_data_is_never_a_pass(runs):
    """Whatever gives no number gives no pass: each constraint is unknown, and the verdict INCONCLUSIVE."""
    text = record_text(runs, measured="0.10").replace("> 2 %", "> 2 %")
    one = text[text.index("  - id: C1") : text.index("outcome:")]
    many = "".join(
        one.replace("C1", f"C{at}").replace(SQL, sql) for at, (sql, _) in enumerate(NO_DATA.values(), 1)
    )
    put(runs.parent / "odr", text.replace(one, many))
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    judgement = check(record, [runs], guarded, TODAY)

    for (name, (_, said)), result in zip(NO_DATA.items(), judgement.results, strict=True):
        assert (name, result.state) == (name, "unknown")
        assert said in result.reason
    assert judgement.verdict == "INCONCLUSIVE"
    assert "ODR604" in {f.code for f in record.findings}


def test_too_few_observations(runs):
    """Fewer than min_n say nothing, though the value alone would pass."""
    judgement, found, _ = checked(runs, sql=SQL + "\n    min_n: 4")
    assert judgement.results[0].reason == "3 observations, fewer than min_n=4"
    assert "ODR508" in found


def test_hostile_sql_never_reaches_a_database(runs):
    """What lint refuses is not asked, and is no pass."""
    for sql in (
        "SELECT count(*) AS value, 1 AS n FROM read_text('/etc/passwd')",
        "WITH d AS (DELETE FROM decisions RETURNING *) SELECT count(*) AS value, 1 AS n FROM d",
        "COPY (SELECT 1) TO '/tmp/x'",
        "SELECT 1 AS value, 9 AS n",
    ):
        judgement, _, _ = checked(runs, answering(lambda *_: pytest.fail("asked")), sql=sql)
        assert (judgement.results[0].state, judgement.verdict) == ("unknown", "INCONCLUSIVE")


def test_a_query_that_does_not_end_is_unknown(runs):
    """Killed in time: unknown, and a code of its own."""

    def asking(*_):
        raise QueryTimeoutError("did not end in 5 s")

    judgement, found, _ = checked(runs, answering(asking))
    assert "ODR513" in found
    assert judgement.verdict == "INCONCLUSIVE"


def test_a_waived_constraint_is_a_warning_until_its_day(runs):
    """A waiver turns the failure into a warning, and ends."""
    for until, severity in (("2026-11-24", "warning"), ("2026-11-23", "error")):
        waiver = f"KEEP}}\nwaivers: [{{constraint: C1, by: bob, reason: r, until: {until}}}"
        text = record_text(runs, threshold=0.5).replace("verdict: KEEP}", f"verdict: {waiver}]")
        put(runs.parent / "odr", text)
        record = lint_folder(runs.parent / "odr", TODAY)[0]
        check(record, [runs], guarded, TODAY)
        assert {f.severity for f in record.findings if f.code == "ODR510"} == {severity}


def test_nothing_to_judge_is_said(runs):
    """A record without constraints has no verdict, not even INCONCLUSIVE."""
    from tests.odr.samples import judgement as judgement_text

    put(runs.parent / "odr", judgement_text(1))
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    assert check(record, [runs], guarded, TODAY).verdict is None


C1 = Constraint(0, "C1", "t", "", "<", 1.0)


@pytest.mark.parametrize(
    ("op", "value", "passes"),
    [("<", 1.0, False), ("<=", 1.0, True), (">", 1.0, False), (">=", 1.0, True), ("==", 1.0, True), ("==", 1.01, False), ("<", -1e308, True)],
)  # fmt: skip
def test_operators_mean_what_they_say(op, value, passes):
    """At the threshold itself only <=, >= and == hold."""
    assert (judge(C1._replace(op=op), [{"value": value, "n": 1}]).state == "pass") is passes


@pytest.mark.parametrize(
    ("written", "value", "agree"),
    [("+0.4", 0.35, True), ("+0.4", 0.4499, True), ("+0.4", 0.46, False), ("+0.400", 0.41, False), ("0.4", -0.4, False),
     ("1e-3", 0.0014, True), ("7", 7.4, True), ("7", 7.6, False), ("7", float("nan"), False), ("x", 1.0, False), ("1e999999999", 1.0, False),
     ("-0.02", -0.0161, True)],
)  # fmt: skip
def test_claims_are_read_to_the_digits_that_were_written(written, value, agree):
    """+0.4 stands for 0.35 to 0.45; more digits claim more."""
    assert agrees(written, value) is agree


def test_verdicts():
    """One unknown: INCONCLUSIVE; one failure: REVERT; warnings decide nothing; nothing decided is no KEEP."""
    yes, no = judge(C1, [{"value": 0.5, "n": 1}]), judge(C1, [{"value": 2, "n": 1}])
    unknown = judge(C1, [])
    warn = no._replace(constraint=C1._replace(severity="warn"))
    assert verdict_of([yes, warn], None, oq_claimed=False) == "KEEP"
    assert verdict_of([yes, no], None, oq_claimed=False) == "REVERT"
    assert verdict_of([yes, no, unknown], None, oq_claimed=False) == "INCONCLUSIVE"
    assert verdict_of([yes], -0.1, oq_claimed=True) == "REVERT"
    assert verdict_of([yes], None, oq_claimed=True) == "INCONCLUSIVE"
    assert verdict_of([warn._replace(state="pass")], None, oq_claimed=False) == "INCONCLUSIVE"
    assert verdict_of([], None, oq_claimed=False) is None


def test_packed_evidence_needs_no_run(runs):
    """The packed lines alone are enough, are preferred to a folder of the same name, and are as strictly compared."""
    text = record_text(runs)
    size = len(events_of(runs, "base")) - 1
    packed = runs.parent / "odr" / "evidence"
    for name in ("base", "cand"):
        file = pack(cut(Side(name, name, through=size), RunFolder(runs, name)), packed)
        before = file.read_bytes()
        assert pack(cut(Side(name, name, through=size), RunFolder(runs, name)), packed).read_bytes() == before
    put(runs.parent / "odr", text)

    def verdict():
        record = lint_folder(runs.parent / "odr", TODAY)[0]
        return check(record, [runs.parent / "elsewhere"], guarded, TODAY).verdict, {
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
        with pytest.raises(CannotJudgeError, match="line 1 is no event"):
            unpack(packed, Side("candidate", "cand"), runs.parent / "out")


def test_a_decompression_bomb_is_refused(runs, monkeypatch):
    """Packed evidence that unpacks to more than its limit is not unpacked."""
    monkeypatch.setattr("ockham.odr.packed.MAX_UNPACKED", 1000)
    packed = runs.parent / "odr" / "evidence"
    pack(cut(Side("candidate", "cand"), RunFolder(runs, "cand")), packed)
    with pytest.raises(CannotJudgeError, match="more than"):
        unpack(packed, Side("candidate", "cand"), runs.parent / "out")
    assert not (runs.parent / "out").exists()


def test_a_run_is_pinned_as_it_is(runs):
    """`pinned` names the newest attempt, its last event, its root, and the memory's last ACCEPT."""
    side = pinned("candidate", RunFolder(runs, "cand"))
    events = events_of(runs, "cand")
    assert (side.attempt, side.through, side.decisions) == (1, len(events) - 1, (accepting(events),))
    assert side.root == cut(side, RunFolder(runs, "cand")).root
    assert pinned("candidate", RunFolder(runs, "none")) is None


def test_the_root_is_the_tree_head_of_the_log(runs):
    """The root that a record names is the one that the log's own tree head signs."""
    note = (runs / "cand" / "log" / "1-0" / "checkpoint").read_text().split("\n")
    assert note[1] == str(len(events_of(runs, "cand")))
    assert base64.b64decode(note[2]).hex() == cut(Side("candidate", "cand"), RunFolder(runs, "cand")).root


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"inference_tokens":64', b'"inference_tokens":32', "tokens=32"),
        (b'"memory_footprint_mb":100.0', b'"memory_footprint_mb":101.0', "the log does not say"),
        (b'"hook":"on_evaluate","policy', b'"hook":"on_consolid","policy', "the log does not say"),
    ],
)
def test_quotients_of_two_kinds_do_not_compare(runs, old, new, said):
    """Other tokens, or a quotient that does not follow from the recorded facts: no OQ delta, and the message says why."""
    for segment in (runs / "cand" / "log" / "1-0").glob("*.jsonl"):
        segment.write_bytes(segment.read_bytes().replace(old, new))
    judgement, found, record = checked(runs)

    assert (judgement.oq_delta, judgement.verdict) == (None, "INCONCLUSIVE")
    assert found == ["ODR603", "ODR604"]
    assert any(said in f.message for f in record.findings)


def test_an_honest_failure_is_no_finding(runs):
    """A record that says REVERT, and is right, is as clean as one that says KEEP."""
    judgement, found, _ = checked(runs, threshold=0.5, verdict="REVERT", tick=" ", status="rejected")
    assert (judgement.verdict, judgement.results[0].state, found) == ("REVERT", "fail", [])


def test_large_evidence_is_derived_first(runs, monkeypatch):
    """Above a size the lines become Parquet before they are asked; the judgement is the same."""
    before, _, _ = checked(runs)
    monkeypatch.setattr("ockham.odr.check.DERIVE_FROM", 10)
    seen = []

    def asker(folder):
        seen.extend(folder.rglob("*.parquet"))
        return guarded(folder)

    after, codes, _ = checked(runs, asker)
    assert (after, codes) == (before, [])
    assert seen


def test_the_same_log_gives_the_same_digits(tmp_path):
    """A mean over many row groups is the same to the last bit each time it is asked."""
    rows = 300_000
    folder = run_folder(tmp_path, "a")
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    writer.append("decision.made", decision(0))
    writer.close()
    derive(folder, 1, 0, last=True)
    file = next((folder.path / "decisions").rglob("*.parquet"))
    table = pq.read_table(file, partitioning=None)
    values = [math.sin(i) * 10 ** (i % 7) for i in range(rows)]
    many = table.take([0] * rows).set_column(
        table.schema.get_field_index("observed"), "observed", pa.array(values)
    )
    pq.write_table(many, file, row_group_size=20_000)
    with guarded(tmp_path) as ask:
        found = {
            ask("SELECT avg(observed) AS value, count(*) AS n FROM decisions", {})[0]["value"]
            for _ in range(6)
        }

    assert len(found) == 1


def test_a_time_bomb_is_killed(runs, monkeypatch):
    """A query that would run for ever is ended with its process; it is unknown, and the next constraint is still asked."""
    monkeypatch.setattr("ockham.odr.ask.SECONDS", 1.0)
    bomb = "SELECT count(*) AS value, count(*) AS n FROM " + ", ".join(f"events e{i}" for i in range(9))
    text = record_text(runs)
    one = text[text.index("  - id: C1") : text.index("outcome:")]
    put(runs.parent / "odr", text.replace(one, one.replace(SQL, bomb) + one.replace("C1", "C2")))
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    judgement = check(record, [runs], guarded, TODAY)

    assert [(r.state, r.code) for r in judgement.results] == [("unknown", "ODR513"), ("pass", "")]
    assert judgement.verdict == "INCONCLUSIVE"
