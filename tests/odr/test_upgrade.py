import pytest

from ockham.errors import BadInputError
from ockham.odr.lifecycle import new_record
from ockham.odr.upgrade import parse_legacy_record, render_upgraded
from tests.odr.record_samples import GOOD, TODAY, lint


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "odr"


OLD = """\
# ODR-001: Enable TTT for User-Specific Adaptation

## Problem
Current model accuracy drops 15% on user-specific vocabulary.

## Proposed Change
Enable TTT on layers 18-24 with LoRA adapter.

## Occam Constraints
- [x] Reversibility: Can revert in < 10ms
- [ ] Complexity Cap: Added params < 5% of base
- [ ] Quality Gate: Val loss improves by > 2%

## Outcome
OQ Delta: +0.4 → KEEP
"""


def test_legacy_record_becomes_a_draft(folder):
    """Claims become constraints, and the outcome becomes prose."""
    bare = parse_legacy_record(OLD)
    file = new_record(folder, bare.title, lambda i: render_upgraded(bare, i, ["alice"], TODAY), bare.number)
    record = lint(folder)[0]

    assert file.name == "0001-enable-ttt-for-user-specific-adaptation.md"
    assert [(c.op, c.threshold, c.unit) for c in record.claims.constraints] == [
        ("<", 10, "ms"),
        ("<", 0.05, "ratio"),
        (">", 0.02, "ratio"),
    ]
    assert not any(box.ticked for box in record.body.boxes)
    assert not record.claims.has_outcome
    assert [f.code for f in record.findings if f.severity == "error"] == []
    assert "Claimed before anything was measured: an OQ delta of +0.4 → KEEP" in file.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD, "has front matter"),
        ("text", "no heading"),
        ("# ODR-001: T\n## Problem\n", "no section `## Proposed Change`"),
        ("# ODR-1:\n" + OLD[50:], "no title"),
    ],
)
def test_invalid_legacy_record_is_refused(text, message):
    """Nothing is guessed."""
    with pytest.raises(BadInputError, match=message):
        parse_legacy_record(text)
