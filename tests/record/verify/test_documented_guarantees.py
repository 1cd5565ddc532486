"""What docs/proofs.md and docs/threat-model.md promise in words, held against what verify says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import OckhamError
from ockham.record.ledger import append_entry
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from ockham.record.verify.report import CLASS_DESCRIPTIONS, NOTE_CLASSES
from ockham.record.verify.run import verify_run
from ockham.run import Run
from tests.helpers.runs import made_run
from tests.record.test_ledger import SAID

PROOFS = Path(__file__).parents[2] / "docs" / "proofs.md"


@pytest.mark.skipif(not PROOFS.exists(), reason="a checkout has the docs, a wheel has not")
def test_the_table_has_every_verdict_with_its_exit_status():
    """Notes leave the status at 0, all others end with 1."""
    rows = re.findall(r"^\| (note: )?([a-z ]+?) \|.*\| ([0-3]) \|$", PROOFS.read_text(), re.MULTILINE)
    told = {name: (bool(note), status) for note, name, status in rows if name != "sound"}
    assert told == {
        name: (name in NOTE_CLASSES, "0" if name in NOTE_CLASSES else "1") for name in CLASS_DESCRIPTIONS
    }


@pytest.fixture
def older(tmp_path):
    """A run, its newest pin, and its log put back to how it stood in the middle: lines, heads and tiles."""
    with Run(plugins=[], runs=tmp_path, run_id="a") as run:
        run.end_batch(run.start_batch(0, 2.0))
        run.flush()
        log = run.folder.log_dir(1, 0)
        shutil.copytree(log, tmp_path / "then")
        for i in range(1, 6):
            run.end_batch(run.start_batch(i, 2.0))
    pin = make_pin(run.folder)
    whole = verify_run(run.folder).logs[0].events
    for name in ("contexts", "decisions", "events"):
        shutil.rmtree(run.folder.path / name)
    shutil.rmtree(log)
    shutil.move(tmp_path / "then", log)
    return run.folder, pin, whole


def test_an_older_state_is_sound_but_for_a_pin(older):
    """Whoever deletes the newest heads and the lines behind an older one needs no key; the pin says how many are gone."""
    folder, pin, whole = older
    report = verify_run(folder)
    assert report.sound
    left = report.logs[0].events
    found = verify_run(folder, pins=[pin]).findings
    assert [f.kind for f in found if f.kind == "tampering"] == ["tampering"]
    assert any(
        f"{whole} events were pinned, and {left} are there: {whole - left} are gone" in f.message
        for f in found
    )


def test_a_log_without_any_signature_is_unsigned(older):
    """Exit status 1, and not called tampering: a crash in the first moments leaves the same."""
    folder, _, _ = older
    for path in folder.log_dir(1, 0).glob("checkpoint*"):
        path.unlink()
    kinds = verify_run(folder, keys=[load_or_create_signer().verifier]).counts.keys()
    assert {"unsigned", "not signed"} <= kinds
    assert not kinds & {"tampering", "corruption"}
    assert status(folder, "a") == 1


def status(folder, *words):
    done = CliRunner().invoke(build_app(), ["--runs", str(folder.runs), "verify", *words])
    return done.exception.exit_status if isinstance(done.exception, OckhamError) else done.exit_code


def test_the_exit_status_of_verify(tmp_path):
    """0 sound, 1 found, 2 no such run, 3 no log or no key."""
    run = made_run(tmp_path, batches=3).folder
    assert status(run, "a") == 0
    assert status(run, "z") == 2
    assert status(run, "a", "--key", "x") == 2
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    assert status(run, "a", "--key", str(tmp_path / "key")) == 2
    about = run.run_json.read_bytes()
    run.run_json.write_bytes(b"{}")
    assert status(run, "a") == 3
    run.run_json.write_bytes(about + b" ")
    assert status(run, "a") == 1
    shutil.rmtree(run.path / "log")
    assert status(run, "a") == 3


@pytest.mark.timeout(20)
def test_a_ledger_with_a_folder_of_a_billion(tmp_path):
    """The sayings that are missing before it are counted, not held."""
    append_entry(tmp_path, "odr.registered", SAID)
    ledger = RunFolder(tmp_path, LEDGER)
    ledger.log_dir(999_999_999, 0).mkdir()
    assert verify_run(ledger).counts["gap"] > 100
