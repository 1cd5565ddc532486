"""`check --fix` writes what the next `check` confirms, and `status` accepts only what `check` confirms."""

import datetime as dt
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ockham.errors import BadInputError
from ockham.formatting import today
from ockham.odr.check import check
from ockham.odr.fix import complete_drafts
from ockham.odr.lint import lint_folder
from ockham.odr.pinning import pin_sides
from ockham.odr.template import NO_PROBLEM, NewRecord, parse_constraints, render_record
from tests.helpers.odr_cli import run_odr
from tests.odr.checked_record import answering
from tests.odr.record_samples import fill_template, put
from tests.odr.small_runs import make_run

CANDIDATES = ("better", "same", "worse")
WRITTEN_BY_FIX = {"ODR101", "ODR511", "ODR603", "ODR604", "ODR605", "ODR607", "ODR206"}
MEASURED = {"better": "+0.111", "same": "+0", "worse": "-0.0909"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Run in a folder with a baseline, and candidates with a better, an equal and a worse quotient."""
    monkeypatch.chdir(tmp_path)
    for run, loss in (("base", 2.0), ("better", 1.8), ("same", 2.0), ("worse", 2.2)):
        make_run(tmp_path / "runs", run, loss=loss)
    return tmp_path


def write_draft(place, candidate, limit, *, waiver="", severity="error", cited=True, outcome=""):
    """Write a draft about one candidate, with a limit for its loss."""
    sides = pin_sides(place / "runs", ["base"], [candidate])
    constraints = parse_constraints([f"loss_at_most_above={limit}"])
    text = render_record(NewRecord("ODR-0001", "T", ["a"], today(), sides=sides, constraints=constraints))
    file = put(place / "odr", text, "0001-t.md")
    fill_template(file)
    text = file.read_text().replace("{id: C1,", f"{{id: C1, severity: {severity},")
    if waiver:
        waivers = f"waivers: [{{constraint: C1, by: b, reason: r, until: {waiver}}}]"
        text = text.replace("---\n\n#", f"{waivers}\n---\n\n#")
    if outcome:
        outcome = outcome.replace("MEASURED", MEASURED[candidate])
        text = text.replace("---\n\n#", f"outcome: {outcome}\n---\n\n#")
    if not cited:
        text = "\n".join("    decisions: []" if "decisions: " in row else row for row in text.split("\n"))
    file.write_text(text)
    return file


def day(offset):
    return (today() + dt.timedelta(days=offset)).isoformat()


CASES = st.fixed_dictionaries(
    {
        "candidate": st.sampled_from(CANDIDATES),
        "limit": st.sampled_from(["-0.05", "0", "0.2"]),
        "waiver": st.sampled_from(["", day(1), day(-1)]),
        "severity": st.sampled_from(["error", "warn"]),
        "cited": st.booleans(),
        "outcome": st.sampled_from(["", "{oq_delta: null}", "{oq_delta: MEASURED}", "{oq_delta: 9}"]),
    }
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CASES)
def test_check_confirms_what_fix_wrote(place, case):
    """No finding of the same kinds, and no second change. The loss itself is answered by the test.

    The verdict depends on the OQ delta if and only if the author wrote a number.
    """
    file = write_draft(place, **case)
    growth = {"better": -0.1, "same": 0.0, "worse": 0.1}[case["candidate"]]
    asker = answering(lambda *_: [{"value": growth, "n": 3}])
    for _ in range(2):
        record = lint_folder(place / "odr")[0]
        result = check(record, [place / "runs"], asker, today())
        before = file.read_text()
        written = complete_drafts([record], {record.display_path: result})

    assert not written
    assert file.read_text() == before
    assert f"verdict: {result.verdict}" in before
    assert not WRITTEN_BY_FIX & {finding.code for finding in record.findings}
    claimed = case["outcome"] in {"{oq_delta: MEASURED}", "{oq_delta: 9}"}
    assert (record.claims.oq_delta is not None) == claimed
    assert ("oq_delta_at: iteration, verdict" in before) == claimed
    kept = growth <= float(case["limit"]) or case["waiver"] == day(1)
    expected = "KEEP" if kept and (case["candidate"] == "better" or not claimed) else "REVERT"
    assert result.verdict == ("INCONCLUSIVE" if case["severity"] == "warn" else expected)


@pytest.mark.parametrize(
    ("outcome", "shown", "verdict"),
    [
        ("", "  OQ delta: -0.09091 at iteration 42, not claimed in the outcome\n", "KEEP"),
        ("{oq_delta: -0.0909}", "  OQ delta fail: -0.09091 at iteration 42, claimed > 0\n", "REVERT"),
    ],
)
def test_measured_oq_delta_counts_only_if_claimed(place, outcome, shown, verdict):
    """Both are shown. The line of a claimed one is the reason for REVERT."""
    file = write_draft(place, "worse", "0.2", outcome=outcome)
    output = run_odr("check", "--fix").stdout
    assert f"ODR-0001 T: {verdict}\n{shown}" in output
    assert f"verdict: {verdict}}}" in file.read_text()
    run_odr("status", "1", "proposed")
    if verdict == "KEEP":
        run_odr("status", "1", "accepted")
        return
    with pytest.raises(BadInputError, match="`ockham odr check ODR-0001` shows which claim does not hold"):
        run_odr("status", "1", "accepted")


def test_kept_record_is_not_rejected(place):
    """The message names what is missing."""
    write_draft(place, "better", "0.2")
    run_odr("check", "--fix")
    with pytest.raises(BadInputError, match="it has KEEP; write the condition that it does not meet"):
        run_odr("status", "1", "rejected")


def test_fix_prints_what_the_next_check_prints(place):
    """Result, findings and numbers are those of the file as written."""
    write_draft(place, "worse", "0.01", outcome="{oq_delta: null}")
    assert run_odr("check", "--fix").stdout == run_odr("check").stdout


def test_oq_delta_of_0_is_a_revert(place):
    """A record that claims +0 claims no gain."""
    file = write_draft(place, "same", "0.2", outcome="{oq_delta: +0}")
    run_odr("check", "--fix")
    assert "outcome: {oq_delta: +0, oq_delta_at: iteration, verdict: REVERT}" in file.read_text()


def test_record_whose_constraints_fail_is_not_accepted(place):
    """The author wrote KEEP and ticked the box by hand. The file keeps every byte."""
    file = write_draft(place, "worse", "0.01")
    text = file.read_text().replace("- [ ] C1", "- [x] C1").replace("Open.", "OQ delta: none → KEEP")
    file.write_text(text.replace("---\n\n#", "outcome: {oq_delta: null, verdict: KEEP}\n---\n\n#"))
    run_odr("status", "1", "proposed")
    before = file.read_bytes()

    result = run_odr("status", "1", "accepted", status=1)
    assert {"ODR510", "ODR511", "ODR604"} <= set(result.stdout.split())
    assert "not accepted; fix the errors first" in result.stderr
    assert file.read_bytes() == before


def test_record_with_text_of_the_template_is_not_accepted(place):
    """The section contains the placeholder of the template."""
    file = write_draft(place, "better", "0.2")
    run_odr("check", "--fix")
    file.write_text(file.read_text().replace("Written.", NO_PROBLEM, 1))
    assert "ODR208 [warning]" in run_odr("lint").stdout
    run_odr("status", "1", "proposed")
    assert "ODR208 is still" in run_odr("status", "1", "accepted", status=1).stdout


def test_record_without_its_runs_is_not_accepted(place):
    """Nothing was measured."""
    write_draft(place, "better", "0.2")
    run_odr("check", "--fix")
    run_odr("status", "1", "proposed")
    (place / "runs").rename(place / "elsewhere")
    assert "ODR402" in run_odr("status", "1", "accepted", status=1).stdout
    run_odr("status", "1", "accepted", "--runs", "elsewhere")


def test_waiver_keeps_a_failing_constraint_until_its_last_day(place):
    """Check, list and index show it. Afterwards the constraint counts again."""
    file = write_draft(place, "worse", "0.01", waiver=day(0))
    text = file.read_text().replace("Open.", "OQ delta: none → KEEP")
    file.write_text(text.replace("---\n\n#", "outcome: {oq_delta: null, verdict: KEEP}\n---\n\n#"))
    shown = f"KEEP (1 waived until {day(0)})"
    assert f"ODR-0001 T: {shown}" in run_odr("check").stdout
    assert f"claimed <= 0.01 ratio, waived until {day(0)}\n" in run_odr("check").stdout
    waivers = json.loads(run_odr("check", "-f", "json").stdout)["judgements"][0]["waivers"]
    assert waivers == [{"constraint_id": "C1", "until": day(0)}]
    run_odr("status", "1", "proposed")
    run_odr("status", "1", "accepted")
    assert "ODR510 [warning] C1 fail" in run_odr("check").stdout
    assert shown in run_odr("list").stdout
    run_odr("index")
    assert shown in (place / "odr" / "README.md").read_text()

    file.write_text(file.read_text().replace(day(0), day(-1)))
    result = run_odr("check", status=1)
    assert {"ODR510", "ODR604", "ODR703"} <= set(result.stdout.split())
    assert "ODR-0001 T: REVERT" in result.stdout


@pytest.mark.parametrize("offsets", [(1, -1), (-1, 1), (0, 2, 0), (-2, -1)])
def test_waivers_of_one_constraint_count_as_the_longest(place, offsets):
    """The order of the entries has no effect. Check and list agree."""
    file = write_draft(place, "worse", "0.01", waiver="ENTRIES", outcome="{oq_delta: null, verdict: KEEP}")
    entries = ", ".join(f"{{constraint: C1, by: b, reason: r, until: {day(one)}}}" for one in offsets)
    text = file.read_text().replace("{constraint: C1, by: b, reason: r, until: ENTRIES}", entries)
    file.write_text(text.replace("Open.", "OQ delta: none → KEEP"))
    shown = f"KEEP (1 waived until {day(max(offsets))})"
    assert (f"ODR-0001 T: {shown}\n" in run_odr("check").stdout) == (max(offsets) >= 0)
    assert shown in run_odr("list").stdout


def test_waiver_hides_no_unknown_value(place):
    """It allows a measured failure."""
    write_draft(place, "better", "0.2", waiver=day(1), cited=False)
    file = place / "odr" / "0001-t.md"
    file.write_text(file.read_text().replace("severity: error", "min_n: 99"))
    assert "ODR-0001 T: INCONCLUSIVE" in run_odr("check").stdout


@pytest.mark.parametrize(("candidate", "severity"), [("better", "error"), ("worse", "warn")])
def test_waiver_that_the_verdict_does_not_need_is_not_counted(place, candidate, severity):
    """Check, list and index agree if the waived constraint passes, or has severity warn."""
    file = write_draft(place, candidate, "0.01", waiver=day(1), severity=severity)
    text = file.read_text().replace("constraints:", "constraints:\n  - {id: C2, name: no_rollbacks}")
    file.write_text(text)
    run_odr("lint", "--fix")
    assert "ODR-0001 T: KEEP\n" in run_odr("check", "--fix").stdout
    run_odr("index")
    for output in (run_odr("list").stdout, (place / "odr" / "README.md").read_text()):
        assert "KEEP" in output
        assert "waived" not in output
