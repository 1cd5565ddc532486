"""Differences of two runs besides the policy: length, size, data, seed."""

from __future__ import annotations

import pytest

from ockham.odr.check import check
from ockham.odr.lint import lint_folder
from ockham.odr.pinning import pin_sides, set_evidence
from ockham.odr.record import read_record
from tests.helpers.runs import make_run as make_chain_run
from tests.odr.checked_record import answering, record_text
from tests.odr.evaluated_runs import Evaluation, write_evaluated_run
from tests.odr.record_samples import TODAY, put

SETTINGS = {
    "size": "nano",
    "seed": 1,
    "batch_size": 12,
    "max_iters": 10,
    "threads": 1,
    "learning_rate": 0.001,
}


def warnings(runs, baseline, candidate, varies=""):
    """Return the messages about differences of two runs."""
    text = record_text(runs, status="draft").replace("evidence:\n", f"evidence:\n  varies: [{varies}]\n")
    record = read_record(put(runs.parent / "odr", text))
    put(runs.parent / "odr", set_evidence(record, pin_sides(runs, [baseline], [candidate])))
    record = lint_folder(runs.parent / "odr")[0]
    check(record, [runs], answering(lambda *_: [{"value": 0.1, "n": 3}]), TODAY)
    found = [f for f in record.findings if f.code == "ODR416"]
    assert {f.severity for f in found} <= {"warning"}
    return [f.message.partition("more than the policy: ")[2] for f in found]


@pytest.mark.parametrize(
    ("changes", "varies", "message"),
    [
        ({}, "", []),
        ({"threads": 8}, "", []),
        ({"seed": 2}, "", ["seed 2 against 1"]),
        ({"size": "demo", "batch_size": 6}, "", ["size demo against nano, batch_size 6 against 12"]),
        ({"learning_rate": 0.01}, "learning_rate", []),
        ({"learning_rate": 0.01, "seed": 2}, "learning_rate", ["seed 2 against 1"]),
    ],
)
def test_settings_that_differ_are_a_warning(runs, changes, varies, message):
    """Those of `evidence.varies` differ on purpose."""
    write_evaluated_run(runs, "b", [Evaluation(9, 2.0)], settings=SETTINGS)
    write_evaluated_run(runs, "c", [Evaluation(9, 1.9)], settings={**SETTINGS, **changes})
    assert warnings(runs, "b", "c", varies) == message


def test_runs_of_different_length_are_a_warning(runs):
    """The number of iterations is counted in the log, whatever was planned."""
    write_evaluated_run(runs, "b", [Evaluation(9, 2.0)], settings=SETTINGS, batches=1_200)
    write_evaluated_run(runs, "c", [Evaluation(9, 1.9)], settings=SETTINGS, batches=300)
    assert warnings(runs, "b", "c") == ["iterations 300 against 1,200"]
    assert warnings(runs, "b", "c", "max_iters") == []


def test_other_data_is_a_warning(runs):
    """Its digest is in run.json, whose digest is in the log."""
    make_chain_run(runs, "b", 20)
    make_chain_run(runs, "c", 20)
    assert warnings(runs, "b", "c") == []
    make_chain_run(runs, "d", 20, data={"name": "other", "sha256": "1" * 64})
    assert warnings(runs, "b", "d") == ["data_sha256 111111111111 against 000000000000"]
    (runs / "d" / "run.json").write_text("{}")
    assert warnings(runs, "b", "d") == []
