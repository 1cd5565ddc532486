import pytest

from ockham.errors import BadInputError
from ockham.odr.constraint_library import load_library, parse_constraint_argument, resolve_constraint
from ockham.odr.lifecycle import new_record
from ockham.odr.template import STUB_SQL
from ockham.odr.upgrade import find_named, parse_legacy_record, render_upgraded
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
    assert [(c.name, dict(c.parameters)) for c in record.claims.constraints] == [
        ("revert_time_below", {"value": 10, "quantile": 0.99}),
        ("added_parameters_below", {"value": 0.05}),
        ("loss_improves_by", {"value": 0.02}),
    ]
    assert not any(box.ticked for box in record.body.boxes)
    assert not record.claims.has_outcome
    assert [f.code for f in record.findings] == ["ODR401"]
    assert "value: 10}  # Reversibility: Can revert in < 10ms\n" in file.read_text()
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Reversibility: can revert in < 10 ms", ("revert_time_below", 10)),
        ("**Reversibility**: can revert in under 0.01 s", ("revert_time_below", 10)),
        ("Complexity Cap: adds at most 5 % of the base parameters", ("added_parameters_below", 0.05)),
        ("Val loss improves by more than 2%", ("loss_improves_by", 0.02)),
        ("Val loss rises by at most 1 %", ("loss_at_most_above", 0.01)),
        ("OQ improves by at least 5 %", ("oq_delta_at_least", 0.05)),
        ("KL divergence < 0.5", ("kl_below", 0.5)),
        ("Drift stays below 40 %", ("drift_below", 0.4)),
        ("No rollbacks", ("no_rollbacks",)),
        ("The update rate is between 50 % and 70 %", ("update_rate_between", 0.5, 0.7)),
        ("p95 revert time < 10 ms", ("revert_time_below", 10, 0.95)),
    ],
)
def test_legacy_texts_become_named_constraints(text, expected):
    """Operators in words, units, bold names and ranges."""
    name, *parameters = expected
    found = find_named(text)
    assert found["name"] == name
    assert [value for key, value in found.items() if key != "name"] == parameters


@pytest.mark.parametrize(
    "text",
    [
        "Users are happy",
        "Added params < 5",
        "Added params < 5M",
        "Val loss improves by > 200 %",
        "Val loss rises by < 1 %",
        "drift < 0.4 and KL < 0.5",
        "Latency < 10 ms",
        "Training loss improves by > 2 %",
        "Val loss improves by < 2 %",
    ],
)
def test_legacy_text_that_fits_no_rule_becomes_a_stub_with_a_finding(folder, text):
    """Another unit, several limits, or a limit that the named constraint would not keep."""
    assert find_named(text) is None
    bare = parse_legacy_record(OLD.replace("Complexity Cap: Added params < 5% of base", text))
    new_record(folder, bare.title, lambda i: render_upgraded(bare, i, ["alice"], TODAY), bare.number)
    record = lint(folder)[0]
    assert [f.code for f in record.findings] == ["ODR208", "ODR401"]
    assert record.claims.constraints[1].sql.strip() == STUB_SQL


def test_legacy_record_with_bold_section_names_is_accepted(folder):
    """`**Problem**:` is a heading, and plain list items are constraints."""
    text = OLD.replace("- [ ] ", "- ").replace("- [x] ", "- ")
    for title in ("Problem", "Proposed Change", "Occam Constraints", "Outcome"):
        text = text.replace(f"## {title}\n", f"**{title}**: ")
    text = text.replace("Constraints**: - ", "Constraints**:\n- ")
    bare = parse_legacy_record(text)
    file = new_record(folder, bare.title, lambda i: render_upgraded(bare, i, ["alice"], TODAY), bare.number)

    assert [f.code for f in lint(folder)[0].findings] == ["ODR401"]
    assert "## Problem\nCurrent model accuracy drops 15%" in file.read_text()
    assert len(bare.constraints) == 3


@pytest.mark.parametrize("name", load_library())
def test_lines_that_name_a_limit_keep_it(name):
    """A generated sentence that is read again gives the same constraint, or a stub, never another one."""
    values = parse_constraint_argument(load_library()[name].example)
    found = find_named(resolve_constraint(values).text)
    assert found is None or find_fields(found) == find_fields(values)


def find_fields(values):
    resolved = resolve_constraint(values)
    return resolved.text, resolved.threshold
