"""Edits in place: where the line is not where one would look for it, and where there is none."""

import pytest

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.fix import fix_folder, update_checkboxes
from ockham.odr.lifecycle import renumber, set_status, write_records
from ockham.odr.record import read_record
from ockham.odr.verdict import CheckResult, Result
from tests.odr.record_samples import GOOD, PROPOSED, TODAY, judgement, lint, put


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "odr"


def test_a_comment_behind_a_value_stays(folder):
    """It belongs to what follows: the value of several lines goes, the comment and the empty line do not."""
    text = judgement(1, "draft").replace("supersedes: []", "supersedes:\n  - ODR-0002\n\n# decided in March")
    record = read_record(put(folder, text))
    lines = edit.set_key(record, record.lines, "supersedes", "[]")
    assert "\n".join(lines) == text.replace("supersedes:\n  - ODR-0002\n", "supersedes: []\n")


def test_a_line_inside_of_a_text_is_not_taken_for_the_key(folder):
    """A quoted title of several lines, one of which reads like a key: refused where the edit would hit it."""
    for before, after in (("status: draft\n", ""), ("", "\nstatus: draft")):
        title = f'{before}title: "a\nstatus: b\nx: c"{after}'
        text = judgement(1, "draft").replace("status: draft\n", "").replace("title: Keep it", title)
        record = read_record(put(folder, text))
        assert record.claims.title == "a status: b x: c"
        if before:
            with pytest.raises(BadInputError, match="status cannot be edited by the tool"):
                set_status(record, "proposed", TODAY)
        else:
            assert "\nstatus: proposed\n" in set_status(record, "proposed", TODAY)


@pytest.mark.parametrize(
    ("heading", "after"),
    [
        ("# ODR-0001: Keep it\n", "# ODR-0002: Keep it\n"),
        ("ODR-0001: Keep it\n=================\n", "# ODR-0002: Keep it\n"),
        ("", "\n# ODR-0002: Keep it\n"),
    ],
)
def test_a_heading_is_found_in_either_form_and_put_in_where_there_is_none(folder, heading, after):
    """Renumbering leaves one heading with the new id, and the prose as it was."""
    text = judgement(1, "draft").replace("# ODR-0001: Keep it\n", heading)
    record = read_record(put(folder, text))
    changed = next(iter(renumber(record, [record], 2).values()))
    assert changed.startswith(text.partition("\n---\n")[0].replace("ODR-0001", "ODR-0002"))
    assert after + "\n## Problem\nP.\n" in changed.replace("\n\n\n", "\n\n")
    assert changed.count("ODR-0002") == 2


def test_no_outcome_is_written_where_there_is_no_section_for_it(folder):
    """What the tool would not know where to put stays a finding, and the file keeps every byte."""
    text = GOOD[: GOOD.index("## Outcome")]
    put(folder, text)
    assert "ODR206" not in {f.code for f in lint(folder)[0].findings}
    record = read_record(folder / "0001-enable.md")
    assert edit.set_outcome_line(record, record.lines, "+0.4", "KEEP") == record.lines


def test_a_constraint_without_a_box_is_passed_over(folder):
    """The other one is ticked."""
    put(
        folder,
        PROPOSED.replace("- [x] C1 Half of the batches at most are refused\n", "").replace(
            "[x] C2", "[ ] C2"
        ),
    )
    record = lint(folder)[0]
    passed = tuple(Result(constraint, "pass", 1.0, 9) for constraint in record.claims.constraints)
    update_checkboxes([record], {record.display_path: CheckResult("ODR-0001", "KEEP", 0.4, passed, ())})
    text = (folder / "0001-enable.md").read_text()
    assert "[x] C2" in text
    assert "C1 Half of the batches at most are refused\n- " not in text


def test_an_edit_that_cannot_be_made_leaves_the_file(folder):
    """`fix` would write a lock into front matter of one line: the finding stays."""
    flow = "---\n{odr: 1, id: ODR-0001, title: A, status: accepted, date: 2026-01-14, owners: [a], supersedes: [], "
    text = (
        flow
        + "constraints: [], outcome: {oq_delta: null, verdict: null}}\n---\n"
        + judgement(1).rpartition("---\n")[2]
    )
    put(folder, text.replace("Keep it", "A"))
    before = (folder / "0001-enable.md").read_bytes()
    assert "ODR706" in {f.code for f in lint(folder)[0].findings}
    assert fix_folder(folder, TODAY) == []
    assert (folder / "0001-enable.md").read_bytes() == before


def test_a_renumbered_record_lies_under_its_new_name(folder):
    """And is written whole."""
    record = read_record(put(folder, judgement(1, "draft")))
    written = write_records(renumber(record, [record], 12))
    assert [(one.file.name, one.claims.id) for one in written] == [("0012-enable.md", "ODR-0012")]
