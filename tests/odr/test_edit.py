"""Edits of a record in place: unusual positions of the edited line, and missing lines."""

import pytest

from ockham.errors import BadInputError
from ockham.odr import edit
from ockham.odr.fix import complete_drafts, fix_folder
from ockham.odr.lifecycle import renumber, set_status, write_records
from ockham.odr.record import read_record
from ockham.odr.verdict import CheckResult, Result
from tests.odr.record_samples import GOOD, PROPOSED, TODAY, judgement, lint, put


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "odr"


def test_set_key_keeps_a_comment_after_the_value(folder):
    """The value can span several lines."""
    text = judgement(1, "draft").replace("supersedes: []", "supersedes:\n  - ODR-0002\n\n# decided in March")
    record = read_record(put(folder, text))
    lines = edit.set_key(record, record.lines, "supersedes", "[]")
    assert "\n".join(lines) == text.replace("supersedes:\n  - ODR-0002\n", "supersedes: []\n")


def test_set_key_rejects_a_key_inside_a_text(folder):
    """A quoted title can contain a line like a key."""
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
def test_set_heading_replaces_or_inserts_the_heading(folder, heading, after):
    """Both heading forms are found."""
    text = judgement(1, "draft").replace("# ODR-0001: Keep it\n", heading)
    record = read_record(put(folder, text))
    changed = next(iter(renumber(record, [record], 2).values()))
    assert changed.startswith(text.partition("\n---\n")[0].replace("ODR-0001", "ODR-0002"))
    assert after + "\n## Problem\nP.\n" in changed.replace("\n\n\n", "\n\n")
    assert changed.count("ODR-0002") == 2


def test_set_outcome_line_without_its_section_is_rejected(folder):
    """The file keeps every byte."""
    text = GOOD[: GOOD.index("## Outcome")]
    put(folder, text)
    assert "ODR206" not in {f.code for f in lint(folder)[0].findings}
    record = read_record(folder / "0001-enable.md")
    assert edit.set_outcome_line(record, record.lines, "+0.4", "KEEP") == record.lines


def test_set_checkbox_without_a_checkbox_changes_nothing(folder):
    """The other checkbox is set."""
    put(
        folder,
        PROPOSED.replace("- [x] C1 Half of the batches at most are refused\n", "").replace(
            "[x] C2", "[ ] C2"
        ),
    )
    record = lint(folder)[0]
    passed = tuple(Result(constraint, "pass", 1.0, 9) for constraint in record.claims.constraints)
    complete_drafts([record], {record.display_path: CheckResult("ODR-0001", "KEEP", 0.4, passed, ())})
    text = (folder / "0001-enable.md").read_text()
    assert "[x] C2" in text
    assert "C1 Half of the batches at most are refused\n- " not in text


def test_impossible_edit_leaves_the_file(folder):
    """Front matter on one line has no place for a lock."""
    text = (
        "---\n{odr: 1, id: ODR-0001, title: A, status: accepted, date: 2026-01-14, owners: [a], "
        "supersedes: [], constraints: [], outcome: {oq_delta: null, verdict: null}}\n---\n"
        + judgement(1).rpartition("---\n")[2]
    )
    put(folder, text.replace("Keep it", "A"))
    before = (folder / "0001-enable.md").read_bytes()
    assert "ODR706" in {f.code for f in lint(folder)[0].findings}
    assert fix_folder(folder, TODAY) == []
    assert (folder / "0001-enable.md").read_bytes() == before


def test_renumbered_record_is_written_to_its_new_path(folder):
    """It is written completely."""
    record = read_record(put(folder, judgement(1, "draft")))
    written = write_records(renumber(record, [record], 12))
    assert [(one.file.name, one.claims.id) for one in written] == [("0012-enable.md", "ODR-0012")]
