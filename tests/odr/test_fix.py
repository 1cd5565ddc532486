import datetime as dt
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.errors import BadInputError
from ockham.odr.edit import NO_CONSTRAINT
from ockham.odr.fix import complete_drafts, fix_folder
from ockham.odr.lifecycle import set_status
from ockham.odr.record import read_record
from ockham.odr.verdict import CheckResult, OqDelta, Result
from tests.odr.record_samples import GOOD, PROPOSED, TODAY, codes, judgement, lint, put


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "odr"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_edit_keeps_every_other_byte(folder, newline):
    """Comments, spacing, line endings and quotes."""
    before = (
        judgement(1, "draft")
        .replace("status: draft", "status:   draft   # for now")
        .replace("odr: 1", "# on top\nodr:    1")
    )
    file = put(folder, before.replace("\n", newline))
    text = set_status(read_record(file), "proposed", dt.date(2026, 1, 14))

    assert text == before.replace("status:   draft   # for now", "status: proposed   # for now").replace(
        "\n", newline
    )


def test_ambiguous_edit_is_rejected(folder):
    """Front matter on one line stays."""
    file = put(folder, "---\n{odr: 1, id: ODR-0001, status: draft, title: A}\n---\n# A\n")
    with pytest.raises(BadInputError, match="each key on a line of its own"):
        set_status(read_record(file), "proposed", TODAY)


def test_fix_repairs_all_fixable_findings(folder):
    """A second run writes nothing."""
    broken = GOOD.replace("# ODR-0001: Enable", "# Enable").replace(
        "OQ delta: +0.4 → KEEP", "OQ delta: +0.5 → REVERT"
    )
    put(folder, b"\xef\xbb\xbf" + broken.encode())
    put(folder, judgement(2, "superseded"), "0002-a.md")
    put(folder, judgement(3, "accepted", "ODR-0002"), "0003-a.md")

    assert len(fix_folder(folder, TODAY)) == 3
    assert [f.code for r in lint(folder) for f in r.findings] == []
    assert fix_folder(folder, TODAY) == []
    text = (folder / "0001-enable.md").read_text()
    assert text.replace(f"\nlock: {read_record(folder / '0001-enable.md').claims.lock}", "") == GOOD


def test_fix_leaves_unreadable_front_matter(folder):
    """The file keeps every byte."""
    text = GOOD.replace("owners: [alice]", "owners: [alice").replace("# ODR-0001", "# ODR-0002")
    put(folder, text)
    fix_folder(folder, TODAY)
    assert (folder / "0001-enable.md").read_text() == text


def test_fix_never_renews_a_lock(folder):
    """A record edited after acceptance stays a finding."""
    put(folder, judgement(1).replace("constraints: []", f"constraints: []\nlock: sha256:{'0' * 64}"))
    fix_folder(folder, TODAY)
    assert codes(folder) == ["ODR702"]


def test_edit_of_a_similar_line_is_rejected(folder):
    """A line in a flow list is not a key."""
    text = judgement(1, "draft").replace("supersedes: []", "tags: [\nstatus: x\n]\nsupersedes: []")
    file = put(folder, text)
    with pytest.raises(BadInputError, match="cannot be edited by the tool"):
        set_status(read_record(file), "proposed", TODAY)


def test_fix_inserts_the_outcome_line(folder):
    """Other text of the section stays."""
    put(folder, GOOD.replace("OQ delta: +0.4 → KEEP", "Open."))
    put(
        folder,
        GOOD.replace("OQ delta: +0.4 → KEEP", "We kept it.").replace("ODR-0001", "ODR-0002"),
        "0002-b.md",
    )
    fix_folder(folder, TODAY)
    assert "## Outcome\nOQ delta: +0.4 → KEEP\n" in (folder / "0001-enable.md").read_text()
    assert "## Outcome\nOQ delta: +0.4 → KEEP\nWe kept it.\n" in (folder / "0002-b.md").read_text()


@pytest.mark.parametrize(
    ("outcome", "line", "wanted", "wanted_line"),
    [
        ("", "Open.", "{oq_delta: null, verdict: REVERT}", "none → REVERT"),
        ("outcome: {}", "Open.", "{oq_delta: null, verdict: REVERT}", "none → REVERT"),
        ("outcome: {oq_delta: null}", "Open.", "{oq_delta: null, verdict: REVERT}", "none → REVERT"),
        (
            "outcome: {oq_delta: +0.40}",
            "Open.",
            "{oq_delta: +0.40, oq_delta_at: iteration, verdict: REVERT}",
            "+0.40 → REVERT",
        ),
        (
            "outcome:\n  oq_delta: 1e-3\n  oq_delta_at: tokens",
            "Open.",
            "{oq_delta: 1e-3, oq_delta_at: tokens, verdict: REVERT}",
            "1e-3 → REVERT",
        ),
        (
            "outcome: {oq_delta: null, verdict: null}",
            "OQ delta: none → not measured",
            "{oq_delta: null, verdict: REVERT}",
            "none → REVERT",
        ),
        ("outcome: {verdict: KEEP}", "Open.", "{oq_delta: null, verdict: KEEP}", "none → KEEP"),
        (
            "",
            "OQ Delta: +0.4 -> KEEP",
            "{oq_delta: +0.4, oq_delta_at: iteration, verdict: KEEP}",
            "+0.4 → KEEP",
        ),
        ("", "OQ delta: none → not measured", "{oq_delta: null, verdict: REVERT}", "none → REVERT"),
    ],
)
def test_fix_completes_the_outcome_of_a_draft(folder, outcome, line, wanted, wanted_line):
    """What the author wrote stays. A measured OQ delta without a claim is not added.

    A claimed one gets the measure at which it was compared.
    """
    _, after = complete(folder, outcome, line)
    assert f"outcome: {wanted}" in after.lines
    assert f"OQ delta: {wanted_line}" in after.lines
    assert after.findings == []
    other = CheckResult("ODR-0001", "INCONCLUSIVE", 0.5, (), ())
    assert complete_drafts([after], {after.display_path: other}) == []


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        ("outcome: {oq_delta: '+0.4'}", "Open."),
        ("outcome: {oq_delta: null, verdict: keep}", "Open."),
        ("outcome: {oq_delta: null, verdikt: KEEP}", "Open."),
        ("outcome: REVERT", "Open."),
        ("", "OQ delta: much → KEEP"),
    ],
)
def test_fix_leaves_an_outcome_that_cannot_be_read(folder, outcome, line):
    """The author meant something. Lint reports it."""
    record, after = complete(folder, outcome, line)
    assert after.data == record.data
    assert after.findings


def complete(folder, outcome, line):
    """Return a draft with this outcome and Outcome line, and the draft after its completion with REVERT."""
    text = GOOD.replace("status: accepted", "status: draft").replace("[x] C1", "[ ] C1")
    text = text.replace("outcome: {oq_delta: +0.4, verdict: KEEP}\n", f"{outcome}\n" if outcome else "")
    put(folder, text.replace("OQ delta: +0.4 → KEEP", line))
    record = lint(folder)[0]
    failed = (Result(record.claims.constraints[0], "fail", 1.0, 9),)
    result = CheckResult("ODR-0001", "REVERT", 0.10517, failed, (), oq=OqDelta(0.10517, "iteration", ()))
    complete_drafts([record], {record.display_path: result})
    return record, lint(folder)[0]


@given(
    delta=st.sampled_from(["null", "+0.4", "-4e-2", "0x10", "5.", ".5", "1e999", "'+0.4'", "much"]),
    verdict=st.sampled_from(["KEEP", "REVERT", "null", "keep", "KEEP (1 waived until 2027-01-31)"]),
    line=st.sampled_from(
        [
            "Open.",
            "OQ delta: +0.4 → KEEP",
            "OQ delta: +0.4 -> KEEP (1 waived until 2027-01-31).",
            "**OQ delta: none → KEEP (2 waived until 2027-01-31)**",
            "OQ delta: none → KEEP (1 waived until tomorrow)",
            "OQ delta: none → not measured",
        ]
    ),
    waived=st.booleans(),
    tick=st.sampled_from("x "),
)
def test_fixed_outcome_is_one_that_lint_accepts(delta, verdict, line, waived, tick):
    """No finding of the codes remains. An outcome that cannot be read is copied nowhere."""
    text = PROPOSED.replace("{oq_delta: +0.4, verdict: KEEP}", f"{{oq_delta: {delta}, verdict: {verdict}}}")
    text = text.replace("OQ delta: +0.4 → KEEP", line).replace("[x] C1", f"[{tick}] C1")
    if waived:
        text = text.replace("outcome:", f"{WAIVER}\noutcome:")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "odr"
        file = put(folder, text)
        readable = lint(folder)[0].claims.has_outcome
        assert readable == (
            delta not in {"1e999", "'+0.4'", "much"} and verdict in {"KEEP", "REVERT", "null"}
        )
        fix_folder(folder, TODAY)
        record = lint(folder)[0]
        assert not [finding for finding in record.findings if finding.fixable]
        if readable:
            assert not {"ODR206", "ODR605"} & {finding.code for finding in record.findings}
        elif "tomorrow" not in line:
            assert {finding.code for finding in record.findings} <= {"ODR104", "ODR103", "ODR502"}
            assert file.read_text() == text


WAIVER = "waivers: [{constraint: C1, by: b, reason: r, until: 2027-01-31}]"


@pytest.mark.parametrize(
    ("tick", "waived", "codes_found"),
    [
        (" ", "1 waived until 2027-01-31", []),
        (" ", "1 waived until 2027-02-28", ["ODR605"]),
        (" ", "2 waived until 2027-01-31", ["ODR605"]),
        ("x", "1 waived until 2027-01-31", ["ODR605"]),
    ],
)
def test_outcome_line_names_the_waivers_that_the_verdict_needs(folder, tick, waived, codes_found):
    """Any other text is fixed."""
    text = PROPOSED.replace("outcome:", f"{WAIVER}\noutcome:").replace("[x] C1", f"[{tick}] C1")
    put(folder, text.replace("→ KEEP", f"→ KEEP ({waived})"))
    assert codes(folder) == codes_found
    fix_folder(folder, TODAY)
    assert codes(folder) == []


def test_waiver_of_a_locked_record_can_be_extended(folder):
    """The Outcome line is locked, and keeps the day of the decision."""
    text = PROPOSED.replace("outcome:", f"{WAIVER}\noutcome:").replace("[x] C1", "[ ] C1")
    text = text.replace("→ KEEP", "→ KEEP (1 waived until 2027-01-31)")
    file = put(folder, text.replace("status: proposed", "status: accepted"))
    fix_folder(folder, TODAY)
    locked = file.read_text()
    assert "lock: " in locked
    file.write_text(locked.replace("until: 2027-01-31", "until: 2027-02-28"))
    assert codes(folder) == []


NAMED = """\
constraints:
  - {id: C1, name: loss_improves_by, value: 0.02}
  - {id: C2, name: no_rollbacks}
outcome:"""
LINES = """\
- [ ] C1 The validation loss at the last common evaluation is more than 2 % below the baseline's
- [ ] C2 The weights are never rolled back to the anchor
"""


def draft_with_lines(lines):
    """Return a draft with two named constraints and this text in their section."""
    before, after = PROPOSED[: PROPOSED.index("constraints:")], PROPOSED[PROPOSED.index("outcome:") + 8 :]
    text = f"{before}{NAMED}{after}"
    start = text.index("- [x] C1")
    return text[:start] + lines + text[text.index("\n## Outcome") :]


@pytest.mark.parametrize(
    ("lines", "fixed"),
    [
        ("", LINES),
        ("- [ ] C2 Something else\n", LINES),
        ("- [ ] C1 Loss falls by 50 %\n  and everything is wonderful\n- [ ] C2 x\n", LINES),
        (f"{NO_CONSTRAINT}\n", LINES),
        ("Some prose.\n", f"{LINES}\nSome prose.\n"),
        ("- [x] C1 x\n\nSome prose.\n", LINES.replace("[ ] C1", "[x] C1") + "\nSome prose.\n"),
    ],
)
def test_fix_writes_the_lines_of_constraints(folder, lines, fixed):
    """The author writes each constraint once. Boxes and other text stay."""
    file = put(folder, draft_with_lines(lines))
    fix_folder(folder, TODAY)

    text = file.read_text()
    assert text[text.index("## Occam") : text.index("\n## Outcome")] == f"## Occam Constraints\n{fixed}"
    assert codes(folder) == []


@given(
    st.lists(st.sampled_from(["- [ ] C1 a", "- [x] C2 b", "", "prose", "  more", "* [ ] C3 c"]), max_size=7)
)
def test_fix_of_any_lines_leaves_nothing_that_it_can_fix(lines):
    """A second run changes nothing."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "odr"
        file = put(folder, draft_with_lines("".join(f"{line}\n" for line in lines)))
        fix_folder(folder, TODAY)
        text = file.read_text()
        assert not [f for r in lint(folder) for f in r.findings if f.fixable]
        assert not fix_folder(folder, TODAY)
        assert file.read_text() == text


def test_fix_changes_no_locked_text(folder):
    """A lock covers heading, lines and Outcome, so the findings are not reported as fixable."""
    put(folder, GOOD)
    fix_folder(folder, TODAY)
    locked = (folder / "0001-enable.md").read_text()
    text = locked.replace("# ODR-0001: E", "# e").replace("OQ delta: +0.4 →", "OQ delta: +0.5 →")
    file = put(folder, text.replace("- [x] C1 Half", "- [x] C1 Some"))

    findings = [f for r in lint(folder) for f in r.findings]
    assert [(f.code, f.fixable) for f in sorted(findings, key=lambda f: f.code)] == [
        ("ODR204", False),
        ("ODR207", False),
        ("ODR605", False),
        ("ODR702", False),
    ]
    before = file.read_text()
    fix_folder(folder, TODAY)
    assert file.read_text() == before
