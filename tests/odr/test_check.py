import pytest

from ockham.errors import QueryLimitError
from ockham.odr.check import check
from ockham.odr.lint import lint_folder
from ockham.odr.pinned_log import read_pinned_log
from ockham.odr.query import guarded_queries
from ockham.odr.record_data import EvidenceSide
from ockham.record.run_folder import RunFolder
from tests.odr.checked_record import SQL, answering, checked, record_text
from tests.odr.record_samples import TODAY, put
from tests.odr.small_runs import LAST, accepting, read_run_events


def test_check_of_a_true_record_keeps_it(runs):
    """Value, n, OQ delta and verdict are recomputed from the log."""
    judgement, codes, _ = checked(runs)

    assert codes == []
    assert (judgement.verdict, judgement.results[0].state, judgement.results[0].n) == ("KEEP", "pass", 3)
    assert judgement.results[0].value == pytest.approx(0.1)
    assert judgement.oq_delta == pytest.approx(0.4)
    assert [pin.size for pin in judgement.pins] == [len(read_run_events(runs, "base"))] * 2


CHANGES = {
    "value": ({"measured": "0.11"}, ["ODR606"], "claimed 0.11, recomputed 0.1"),
    "OQ delta": ({"delta": "+0.9"}, ["ODR602"], "claimed +0.9, recomputed +0.4"),
    "verdict": ({"threshold": 0.5}, ["ODR510", "ODR511", "ODR604"], "claimed KEEP, recomputed REVERT"),
    "tick": ({"tick": " "}, ["ODR511"], "is not ticked, but came out as pass"),
    "root": (
        {"cand_root": "ab" * 32},
        ["ODR408"],
        "has root ",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_check_reports_a_changed_number(runs, change):
    """The finding contains both numbers."""
    changes, codes, expected = CHANGES[change]
    _, found, record = checked(runs, **changes)

    assert found == codes
    assert any(expected in f.message for f in record.findings)


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"cand_id": "ffffffff"}, ["ODR403"]),
        ({"cand_id": "0"}, None),
        ({"size": 40}, None),
        ({"size": LAST + 1}, ["ODR404", "ODR404"]),
        ({"size": 99999}, ["ODR404", "ODR404"]),
    ],
)
def test_check_reports_missing_evidence(runs, changes, codes):
    """Only the cause is reported. A citation decides no verdict, evidence that ends too early does."""
    if "size" in changes and changes["size"] == 40:
        roots = {
            f"{n}_root": read_pinned_log(EvidenceSide(n, n, through=40), RunFolder(runs, n)).root
            for n in ("base", "cand")
        }
        changes = {**changes, **roots}
        codes = ["ODR407", "ODR410", "ODR410", "ODR507", "ODR511", "ODR604"]
    elif codes is None:
        # The first digits of an ID encode the time. Decisions of one run share them.
        shared = accepting(read_run_events(runs, "cand"))[:8]
        changes, codes = {"cand_id": shared}, ["ODR403"]
    judgement, found, _ = checked(runs, **changes)

    assert found == codes
    assert judgement.verdict == ("KEEP" if codes == ["ODR403"] else "INCONCLUSIVE")


def test_check_reports_a_decision_of_the_other_side(runs):
    """The finding names its run."""
    _, found, record = checked(runs, cand_id=accepting(read_run_events(runs, "base")))
    assert found == ["ODR405"]
    assert any("is a decision of base, not of cand" in f.message for f in record.findings)


def test_check_reports_a_missing_run_by_status(runs):
    """It is an error for an accepted record, a warning before."""
    (runs / "cand" / "run.json").unlink()
    for status, severity in (("accepted", "error"), ("proposed", "warning")):
        _, found, record = checked(runs, status=status)
        assert found == ["ODR402"]
        assert {f.severity for f in record.findings if f.code == "ODR402"} == {severity}


EVALUATIONS = "FROM evaluations WHERE run_id = $candidate"
NO_DATA = {
    "no row": (
        f"SELECT val_loss AS value, 1 AS n {EVALUATIONS} AND rank = 9",
        "nothing to check",
    ),
    "count of nothing": (
        f"SELECT count(*) AS value, count(*) AS n {EVALUATIONS} AND false",
        "nothing to check",
    ),
    "NULL": (
        f"SELECT max(val_loss) AS value, 5 AS n {EVALUATIONS} AND false",
        "nothing to check",
    ),
    "n of zero": (
        f"SELECT 9.0 + count(*) AS value, count(*) FILTER (WHERE false) AS n {EVALUATIONS}",
        "nothing to check",
    ),
    "NaN": (
        f"SELECT max('nan'::DOUBLE + val_loss) AS value, 5 AS n {EVALUATIONS}",
        "value is nan",
    ),
    "infinite": (
        f"SELECT max('inf'::DOUBLE + val_loss) AS value, 5 AS n {EVALUATIONS}",
        "value is inf",
    ),
    "two rows": (
        f"SELECT val_loss AS value, 1 AS n {EVALUATIONS}",
        "more than one row",
    ),
    "text": (
        f"SELECT max(run_id) AS value, 5 AS n {EVALUATIONS}",
        "not a number",
    ),
    "true": (
        f"SELECT max(val_loss) > 0 AS value, 5 AS n {EVALUATIONS}",
        "not a number",
    ),
    "no such column": (
        f"SELECT max(none) AS value, 5 AS n {EVALUATIONS}",
        "none",
    ),
    "division of texts": (
        f"SELECT max(run_id::INT) AS value, 5 AS n {EVALUATIONS}",
        "Conversion Error",
    ),
    "negative n": (
        f"SELECT max(val_loss) AS value, -5 AS n {EVALUATIONS}",
        "not a count",
    ),
}


def test_check_without_data_is_never_a_pass(runs):
    """The constraint is unknown, and the verdict INCONCLUSIVE."""
    text = record_text(runs, measured="0.10").replace("> 2 %", "> 2 %")
    one = text[text.index("  - id: C1") : text.index("outcome:")]
    many = "".join(
        one.replace("C1", f"C{at}").replace(SQL, sql) for at, (sql, _) in enumerate(NO_DATA.values(), 1)
    )
    put(runs.parent / "odr", text.replace(one, many))
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    judgement = check(record, [runs], guarded_queries, TODAY)

    for (name, (_, expected)), result in zip(NO_DATA.items(), judgement.results, strict=True):
        assert (name, result.state) == (name, "unknown")
        assert expected in result.reason
    assert judgement.verdict == "INCONCLUSIVE"
    assert "ODR604" in {f.code for f in record.findings}


def test_check_with_too_few_observations_is_unknown(runs):
    """The value itself would pass."""
    judgement, found, _ = checked(runs, sql=SQL + "\n    min_n: 4")
    assert judgement.results[0].reason == "3 observations, fewer than min_n=4"
    assert "ODR508" in found


def test_check_never_runs_hostile_sql(runs):
    """Lint rejects it, and it is not a pass."""
    for sql in (
        "SELECT count(*) AS value, 1 AS n FROM read_text('/etc/passwd')",
        "WITH d AS (DELETE FROM decisions RETURNING *) SELECT count(*) AS value, 1 AS n FROM d",
        "COPY (SELECT 1) TO '/tmp/x'",
        "SELECT 1 AS value, 9 AS n",
    ):
        judgement, _, _ = checked(runs, answering(lambda *_: pytest.fail("asked")), sql=sql)
        assert (judgement.results[0].state, judgement.verdict) == ("unknown", "INCONCLUSIVE")


def test_check_of_an_endless_query_is_unknown(runs):
    """It has its own code."""

    def asking(*_):
        raise QueryLimitError("did not end in 5 s")

    judgement, found, _ = checked(runs, answering(asking))
    assert "ODR513" in found
    assert judgement.verdict == "INCONCLUSIVE"


def test_waived_failure_is_a_warning_until_its_date(runs):
    """Afterwards it is a finding."""
    for until, severity in (("2026-11-24", "warning"), ("2026-11-23", "error")):
        waiver = f"KEEP}}\nwaivers: [{{constraint: C1, by: bob, reason: r, until: {until}}}"
        text = record_text(runs, threshold=0.5).replace("verdict: KEEP}", f"verdict: {waiver}]")
        put(runs.parent / "odr", text)
        record = lint_folder(runs.parent / "odr", TODAY)[0]
        check(record, [runs], guarded_queries, TODAY)
        assert {f.severity for f in record.findings if f.code == "ODR510"} == {severity}


def test_record_without_constraints_has_no_verdict(runs):
    """It is not INCONCLUSIVE."""
    from tests.odr.record_samples import judgement as judgement_text

    put(runs.parent / "odr", judgement_text(1))
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    assert check(record, [runs], guarded_queries, TODAY).verdict is None


@pytest.mark.parametrize(
    ("old", "new", "code", "expected"),
    [
        (b'"inference_tokens":64', b'"inference_tokens":32', "ODR603", "tokens=32"),
        (b'"memory_footprint_mb":100.0', b'"memory_footprint_mb":101.0', "ODR603", "the log does not say"),
        (b'"hook":"on_evaluate","policy', b'"hook":"on_consolid","policy', "ODR407", "no evaluation of cand"),
    ],
)
def test_quotients_of_different_specs_are_not_comparable(runs, old, new, code, expected):
    """The message names the reason."""
    for segment in (runs / "cand" / "log" / "1-0").glob("*.jsonl"):
        segment.write_bytes(segment.read_bytes().replace(old, new))
    judgement, found, record = checked(runs)

    assert (judgement.oq_delta, judgement.verdict) == (None, "INCONCLUSIVE")
    assert found == [code, "ODR604"]
    assert any(expected in f.message for f in record.findings)


def test_honest_revert_gives_no_finding(runs):
    """REVERT is the right verdict."""
    judgement, found, _ = checked(runs, threshold=0.5, verdict="REVERT", tick=" ", status="rejected")
    assert (judgement.verdict, judgement.results[0].state, found) == ("REVERT", "fail", [])


def test_endless_query_is_stopped_and_the_next_one_runs(runs, monkeypatch):
    """Its process is killed."""
    monkeypatch.setattr("ockham.odr.query.QUERY_TIMEOUT_SECONDS", 1.0)
    # With nine factors a fast machine reaches the memory limit of the guard before the timeout.
    bomb = "SELECT count(*) AS value, count(*) AS n FROM " + ", ".join(f"events e{i}" for i in range(6))
    bomb += " WHERE " + " AND ".join(f"e{i}.run_id = $candidate" for i in range(6))
    text = record_text(runs)
    one = text[text.index("  - id: C1") : text.index("outcome:")]
    put(runs.parent / "odr", text.replace(one, one.replace(SQL, bomb) + one.replace("C1", "C2")))
    record = lint_folder(runs.parent / "odr", TODAY)[0]
    judgement = check(record, [runs], guarded_queries, TODAY)

    assert [(r.state, r.code) for r in judgement.results] == [("unknown", "ODR513"), ("pass", "")]
    assert judgement.verdict == "INCONCLUSIVE"
