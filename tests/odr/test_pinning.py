"""Pinning of evidence in records: pinned sides, replaced evidence, and refused requests."""

import shutil

import pytest

from ockham.errors import BadInputError, UnverifiableError
from ockham.odr import template
from ockham.odr.check import check
from ockham.odr.front_matter import parse_front_matter
from ockham.odr.pinned_log import read_pinned_log
from ockham.odr.pinning import pack_record, pin_sides, require_pinned_logs, set_evidence
from ockham.odr.query import guarded_queries
from ockham.odr.record import is_string_field, read_record
from ockham.odr.record_data import EvidenceSide, parse_record_data
from ockham.record.run_folder import RunFolder
from tests.helpers.events import run_folder
from tests.helpers.odr_cli import run_odr
from tests.odr.checked_record import record_text
from tests.odr.record_samples import TODAY, put
from tests.odr.small_runs import make_run, read_run_events


def write_record(runs, **changes):
    return read_record(put(runs.parent / "odr", record_text(runs, **changes)))


def test_pin_sides_returns_the_logs_at_present(runs):
    """One side has no baseline."""
    sides = pin_sides(runs, ["base"], ["cand"])
    assert [(side.name, side.run, side.through) for side in sides] == [
        ("baseline", "base", len(read_run_events(runs, "base")) - 1),
        ("candidate", "cand", len(read_run_events(runs, "cand")) - 1),
    ]
    assert [side.root for side in sides] == [
        read_pinned_log(side, RunFolder(runs, side.run)).root for side in sides
    ]
    assert [side.name for side in pin_sides(runs, [], ["cand"])] == ["candidate"]
    assert pin_sides(runs, [], []) == ()


@pytest.mark.parametrize(
    ("baseline", "candidate", "message"),
    [
        (["base"], [], "--baseline needs --candidate"),
        (["base"], ["base"], "baseline and candidate are both 'base'"),
        (["base"], ["empty"], "run 'empty' in .* has no signed event yet"),
        (["base", "base2"], ["cand", "cand2", "x"], "2 baselines and 3 candidates form no pairs"),
        ([], ["cand", "cand"], "two candidates are 'cand'"),
        (["base"], ["none"], "no run 'none'"),
    ],
)
def test_pin_sides_reports_what_is_missing(runs, baseline, candidate, message):
    """Each case has its message."""
    run_folder(runs, "empty")
    with pytest.raises(Exception, match=message):
        pin_sides(runs, baseline, candidate)


def test_several_runs_are_written_as_lists(runs):
    """The text of a new record and the edited text of an old one contain the same runs."""
    for name in ("base2", "cand2"):
        make_run(runs, name)
    sides = pin_sides(runs, ["base", "base2"], ["cand", "cand2"])
    new = parse_front_matter("\n".join(template._evidence(sides)) + "\n", 1, is_string_field).values
    record = read_record(put(runs.parent / "odr", set_evidence(write_record(runs, status="draft"), sides)))
    assert parse_record_data(new).sides == record.claims.sides == sides
    assert [side.label for side in sides] == [
        "baselines[0]",
        "baselines[1]",
        "candidates[0]",
        "candidates[1]",
    ]


def test_evidence_keeps_the_settings_that_vary(runs):
    """They are part of the claim, not of the pinned logs."""
    text = record_text(runs, status="draft").replace("evidence:\n", "evidence:\n  varies: [seed]\n")
    record = read_record(put(runs.parent / "odr", text))
    again = read_record(put(runs.parent / "odr", set_evidence(record, pin_sides(runs, [], ["cand"]))))
    assert again.claims.varies == ("seed",)
    assert again.claims.baselines == ()


def test_set_evidence_replaces_the_old_evidence(runs):
    """Nothing else changes."""
    record = write_record(runs, status="proposed", cand_root="ab" * 32)
    text = set_evidence(record, pin_sides(runs, ["base"], ["cand"]))
    again = read_record(put(runs.parent / "odr", text))
    assert [(side.run, side.root) for side in again.claims.sides] == [
        (side.run, side.root) for side in pin_sides(runs, ["base"], ["cand"])
    ]
    assert again.lines[again.body.first_line :] == record.lines[record.body.first_line :]


def test_folder_with_another_run_is_refused(runs):
    """A folder that was renamed has the events of its run."""
    make_run(runs, "other")
    record = write_record(runs, status="draft")
    shutil.rmtree(runs / "cand")
    shutil.copytree(runs / "other", runs / "cand")
    message = "run cand: the folder contains the log of run other"
    with pytest.raises(UnverifiableError, match=message):
        pin_sides(runs, ["base"], ["cand"])
    with pytest.raises(UnverifiableError, match=message):
        pack_record(record, runs)
    check(record, [runs], guarded_queries, TODAY)
    assert [f.message for f in record.findings if f.code == "ODR408"] == [
        f"{message}; restore it from a copy"
    ]


def test_another_run_with_the_pinned_name_is_refused(runs):
    """The record cites a run, and not a name. A longer log of the same run is accepted."""
    short = EvidenceSide("candidate", "cand", through=40)
    short = short._replace(root=read_pinned_log(short, RunFolder(runs, "cand")).root)
    record = read_record(put(runs.parent / "odr", set_evidence(write_record(runs, status="draft"), [short])))
    require_pinned_logs(record, pin_sides(runs, ["base"], ["cand"]), runs)
    shutil.rmtree(runs / "cand")
    make_run(runs, "cand", loss=1.0)
    with pytest.raises(BadInputError, match="run cand: not the run that evidence"):
        require_pinned_logs(record, pin_sides(runs, ["base"], ["cand"]), runs)
    require_pinned_logs(record, pin_sides(runs, [], ["base"]), runs)


def test_evidence_command_does_not_cite_another_run_with_the_pinned_name(runs, monkeypatch):
    """The file stays as it is."""
    monkeypatch.chdir(runs.parent)
    file = write_record(runs, status="draft").file
    before = file.read_bytes()
    shutil.rmtree(runs / "cand")
    make_run(runs, "cand", loss=1.0)
    with pytest.raises(BadInputError, match="run cand: not the run that"):
        run_odr(
            "evidence",
            "1",
            "--baseline",
            "base",
            "--candidate",
            "cand",
            "--odr-dir",
            "odr",
            "--runs",
            str(runs),
        )
    assert file.read_bytes() == before


def test_evidence_of_a_decided_record_is_locked(runs):
    """A new record must supersede it."""
    with pytest.raises(BadInputError, match="ODR-0001 is accepted: its evidence is locked"):
        set_evidence(write_record(runs), pin_sides(runs, ["base"], ["cand"]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("run: cand", "run: gone", "run gone is not in"),
        ("through_sequence", "through", "evidence.baseline names no through_sequence and root"),
        (
            "candidate: {run: cand, through_sequence: {size}, root: {root}",
            "candidate: {run: cand, through_sequence: {size}, root: " + "ab" * 32,
            "the log of cand has root .* pins root ",
        ),
    ],
)
def test_unpinned_side_is_not_packed(runs, old, new, message):
    """No file remains."""
    side = pin_sides(runs, [], ["cand"])[0]

    def fill(text):
        return text.replace("{size}", str(side.through)).replace("{root}", side.root)

    text = record_text(runs)
    assert fill(old) in text
    record = read_record(put(runs.parent / "odr", text.replace(fill(old), fill(new))))
    with pytest.raises(BadInputError, match=message):
        pack_record(record, runs)
    assert not (runs.parent / "odr" / "evidence").exists()
