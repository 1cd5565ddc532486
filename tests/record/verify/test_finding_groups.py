"""Findings are grouped by cause, and changed lines are never rebuilt into Parquet files."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import RunError
from ockham.record.ledger import append_entry
from ockham.record.repair import compact, rebuild
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.report import VerificationReport
from ockham.record.verify.run import verify_run
from tests.helpers.events import REGISTRATION
from tests.helpers.runs import make_run

# The run has enough checkpoints for several signed tree heads.
BATCHES = 300


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("causes")
    make_run(folder, batches=BATCHES)
    return folder / "a"


@pytest.fixture
def run(original, tmp_path):
    shutil.copytree(original, tmp_path / "a")
    return RunFolder(tmp_path, "a")


def change_one_byte(run):
    path = run.segments(1, 0)[0]
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"observed":3.1', b'"observed":3.2', 1))
    assert path.read_bytes() != data


def ockham(runs, *words):
    return CliRunner().invoke(build_app(), ["--runs", str(runs), *words])


def test_one_changed_byte_is_one_printed_line(run):
    """-f json contains every finding with its cause."""
    change_one_byte(run)
    report = verify_run(run)
    assert report.counts["tampering"] > 3
    assert len(report.group_by_cause("tampering")) == 1
    assert report.group_by_cause("tampering")[0][1] == report.counts["tampering"] - 1
    metadata = ockham(run.runs, "verify", "a")
    assert metadata.exit_code == 1
    assert metadata.stdout.count("differ from the signed ones") == 1
    assert f"and {report.counts['tampering'] - 1} more like it" in metadata.stdout
    listed = json.loads(ockham(run.runs, "verify", "a", "-f", "json").stdout)
    assert len([f for f in listed["findings"] if f["kind"] == "tampering"]) == report.counts["tampering"]
    assert {f["cause"] for f in listed["findings"] if f["kind"] == "tampering"} == {"the lines of log 1-0"}


def test_findings_without_a_cause_are_not_grouped():
    """Equal kind and location can have two causes."""
    report = VerificationReport("a")
    for message in ("one", "other"):
        report.add("contradiction", "log/1-0", message)
    report.add("contradiction", "log/1-0", "like", cause="c")
    report.add("contradiction", "log/1-0", "like too", cause="c")
    assert [(f.message, more) for f, more in report.group_by_cause("contradiction")] == [
        ("one", 0),
        ("other", 0),
        ("like", 1),
    ]


def test_finding_contains_sequence_of_first_changed_line(run):
    """Readers of the report find the line without reading messages."""
    before = run.segments(1, 0)[0].read_bytes().splitlines()
    change_one_byte(run)
    after = run.segments(1, 0)[0].read_bytes().splitlines()
    [changed] = [i for i, lines in enumerate(zip(before, after, strict=True)) if lines[0] != lines[1]]
    report = verify_run(run)
    findings = [finding for finding in report.findings if finding.kind == "tampering"]
    assert {finding.sequence for finding in findings} == {changed}


def test_finding_contains_sequence_of_first_missing_line(run):
    """A deleted line at the end is the first missing one."""
    path = run.segments(1, 0)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]))
    report = verify_run(run)
    lost = next(finding for finding in report.findings if finding.kind == "tampering")
    assert lost.sequence == len(lines) - 3


def test_report_orders_findings_by_severity(run):
    """Causes come before consequences, notes come last."""
    change_one_byte(run)
    metadata = ockham(run.runs, "verify", "a", "-v").stdout
    assert (
        metadata.index("FOUND: tampering")
        < metadata.index("FOUND: derived")
        < metadata.index("note: key not pinned")
    )


@pytest.mark.parametrize("make", [rebuild, compact])
def test_tampered_lines_are_not_rebuilt(run, make):
    """The tiles still identify the changed line."""
    change_one_byte(run)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="the lines differ from the signed ones, so nothing is rebuilt"):
        make(run)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    done = ockham(run.runs, "repair", "a")
    assert isinstance(done.exception, RunError)


def test_crash_tail_does_not_prevent_a_rebuild(run):
    """A missing tile does not either."""
    path = run.segments(1, 0)[0]
    path.write_bytes(path.read_bytes() + b'{"specversion":"1.0","id"')
    shutil.rmtree(run.log_dir(1, 0) / "tile")
    assert rebuild(run).tiles > 0
    assert set(verify_run(run).counts) == {"crash tail", "key not pinned", "not pinned"}


@pytest.fixture
def ledger(tmp_path):
    """A ledger with three entries, a run, and a fourth entry."""
    for _ in range(3):
        append_entry(tmp_path, "odr.registered", REGISTRATION)
    make_run(tmp_path, "b", 3)
    append_entry(tmp_path, "odr.registered", REGISTRATION)
    return RunFolder(tmp_path, LEDGER)


def test_ledger_is_verified_by_its_name(ledger):
    """Its entries, run heads and pins are checked."""
    done = ockham(ledger.runs, "verify", LEDGER, "--key", str(load_or_create_signer().verifier))
    assert done.exit_code == 0, done.stdout
    assert "1 heads that runs name" in done.stdout
    pin = ledger.runs / "pin"
    assert ockham(ledger.runs, "pin", LEDGER, "-o", str(pin)).exit_code == 0
    assert verify_run(ledger, pins=[pin.read_bytes()]).logs[-1].pinned == 1
    shutil.rmtree(ledger.log_dir(4, 0))
    assert "tampering" in verify_run(ledger, pins=[pin.read_bytes()]).counts


@pytest.mark.parametrize(
    ("gone", "classes"), [((3,), {"gap", "tampering"}), ((3, 4), {"tampering"}), ((2,), {"gap", "tampering"})]
)
def test_shortened_ledger_contradicts_later_runs(ledger, gone, classes):
    """The ledger itself is valid."""
    for attempt in gone:
        shutil.rmtree(ledger.log_dir(attempt, 0))
    assert {kind for kind in verify_run(ledger).counts if "pinned" not in kind} == classes


def test_changed_ledger_entry_is_tampering(ledger):
    """Its signature and the run reveal it."""
    path = ledger.segments(2, 0)[0]
    path.write_bytes(path.read_bytes().replace(b'"title":"T"', b'"title":"S"'))
    assert verify_run(ledger).counts["tampering"] >= 2


def test_missing_ledger_has_its_own_message(tmp_path):
    """Other commands explain it too."""
    (tmp_path / "none").mkdir()
    assert "no ledger in" in str(ockham(tmp_path / "none", "verify", LEDGER).exception)
    assert "check it with `ockham verify _ledger`" in str(ockham(tmp_path, "why", LEDGER, "3").exception)


def test_verify_never_creates_a_key(tmp_path, monkeypatch):
    """A note reports the use of the local key."""
    make_run(tmp_path, "b", 3)
    event = next(iter(RunFolder(tmp_path, "b").segments(1, 0)[0].read_bytes().splitlines()))
    proof = tmp_path / "proof"
    assert ockham(tmp_path, "prove", json.loads(event)["id"], "-o", str(proof)).exit_code == 0
    done = ockham(tmp_path, "prove", "--check", str(proof))
    assert done.exit_code == 0
    assert "checked with the key of this machine" in done.stderr
    assert (
        "own key"
        not in ockham(
            tmp_path, "prove", "--check", str(proof), "--key", str(load_or_create_signer().verifier)
        ).stderr
    )
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "stranger"))
    done = ockham(tmp_path, "prove", "--check", str(proof))
    assert "pass the verifier key that you trust" in str(done.exception)
    assert not (tmp_path / "stranger").exists()
