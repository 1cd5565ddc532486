import datetime as dt

import pytest

from ockham.errors import BadInputError
from ockham.odr.fix import fix_folder, update_checkboxes
from ockham.odr.lifecycle import set_status
from ockham.odr.record import read_record
from ockham.odr.verdict import CheckResult
from tests.odr.record_samples import GOOD, TODAY, codes, judgement, lint, put


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "odr"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_an_edit_keeps_every_other_byte(folder, newline):
    """Comments, odd spacing, line ends and quotes stay; the key's own comment too."""
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


def test_an_edit_that_cannot_be_sure_is_refused(folder):
    """Front matter on one line is left alone."""
    file = put(folder, "---\n{odr: 1, id: ODR-0001, status: draft, title: A}\n---\n# A\n")
    with pytest.raises(BadInputError, match="each key on a line of its own"):
        set_status(read_record(file), "proposed", TODAY)


def test_fix_mends_what_it_says(folder):
    """Mark, heading, Outcome line, successors and lock; a second run writes nothing."""
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


def test_fix_leaves_what_it_cannot_mend(folder):
    """Front matter that cannot be read keeps every byte."""
    text = GOOD.replace("owners: [alice]", "owners: [alice").replace("# ODR-0001", "# ODR-0002")
    put(folder, text)
    fix_folder(folder, TODAY)
    assert (folder / "0001-enable.md").read_text() == text


def test_fix_never_renews_a_lock(folder):
    """A record that was edited after acceptance stays a finding."""
    put(folder, judgement(1).replace("constraints: []", f"constraints: []\nlock: sha256:{'0' * 64}"))
    fix_folder(folder, TODAY)
    assert codes(folder) == ["ODR702"]


def test_an_edit_that_would_hit_another_key_is_refused(folder):
    """A line that only looks like the key (inside of a flow list) is not taken for it."""
    text = judgement(1, "draft").replace("supersedes: []", "tags: [\nstatus: x\n]\nsupersedes: []")
    file = put(folder, text)
    with pytest.raises(BadInputError, match="cannot be edited by the tool"):
        set_status(read_record(file), "proposed", TODAY)


def test_fix_puts_in_the_outcome_line(folder):
    """A section that only says that it is open gets the line of the front matter; other words stay."""
    put(folder, GOOD.replace("OQ delta: +0.4 → KEEP", "Open."))
    put(
        folder,
        GOOD.replace("OQ delta: +0.4 → KEEP", "We kept it.").replace("ODR-0001", "ODR-0002"),
        "0002-b.md",
    )
    fix_folder(folder, TODAY)
    assert "## Outcome\nOQ delta: +0.4 → KEEP\n" in (folder / "0001-enable.md").read_text()
    assert "## Outcome\nOQ delta: +0.4 → KEEP\nWe kept it.\n" in (folder / "0002-b.md").read_text()


@pytest.mark.parametrize(("delta", "wanted"), [(0.10517, "+0.105"), (None, "null"), (-2e-4, "-0.0002")])
def test_a_draft_without_outcome_gets_the_one_that_came_out(folder, delta, wanted):
    """Both places say the same, lint agrees, and an outcome that a person wrote stays."""
    text = GOOD.replace("status: accepted", "status: draft").replace(
        "outcome: {oq_delta: +0.4, verdict: KEEP}\n", ""
    )
    put(folder, text.replace("OQ delta: +0.4 → KEEP", "Open."))
    record = lint(folder)[0]
    update_checkboxes([record], {record.display_path: CheckResult("ODR-0001", "REVERT", delta, (), ())})
    after = lint(folder)[0]
    assert f"outcome: {{oq_delta: {wanted}, verdict: REVERT}}\n" in "\n".join(after.lines)
    assert [f.code for f in after.findings] == []
    assert (
        update_checkboxes([after], {after.display_path: CheckResult("ODR-0001", "KEEP", 0.5, (), ())}) == []
    )
