"""Statements of docs/verification.md, docs/threat-model.md and docs/reference/commands.md."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

from ockham.cli import build_app
from ockham.errors import OckhamError
from ockham.record.checkpoints import CheckpointFiles
from ockham.record.ledger import append_entry
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.pin import make_pin
from ockham.record.verify.report import CLASS_DESCRIPTIONS, NOTE_CLASSES
from ockham.record.verify.run import MIN_SEGMENTS_PER_WORKER, verify_run
from ockham.run import Run
from tests.helpers.events import REGISTRATION
from tests.helpers.runs import make_run

PAGE = Path(__file__).parents[3] / "docs" / "verification.md"


needs_docs = pytest.mark.skipif(not PAGE.exists(), reason="an installed package has no docs")


@needs_docs
def test_documented_table_has_every_class_and_exit_status():
    """Notes have status 0, all others 1."""
    table = PAGE.read_text(encoding="utf-8").partition("| result | meaning | exit |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (note: )?([a-z ]+?) \|.*\| ([0-3]) \|$", table, re.MULTILINE)
    content = {name: (bool(note), status) for note, name, status in rows if name != "sound"}
    assert content == {
        name: (name in NOTE_CLASSES, "0" if name in NOTE_CLASSES else "1") for name in CLASS_DESCRIPTIONS
    }


@pytest.fixture
def older(tmp_path):
    """A run, its newest pin, and its log restored to an earlier state: lines, heads and tiles."""
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


def test_older_state_is_sound_without_a_pin(older):
    """A pin counts the missing events."""
    folder, pin, whole = older
    report = verify_run(folder)
    assert report.sound
    left = report.logs[0].events
    found = verify_run(folder, pins=[pin]).findings
    assert [f.kind for f in found if f.kind == "tampering"] == ["tampering"]
    assert any(
        f"{whole} events were pinned, but {left} exist: {whole - left} are missing" in f.message
        for f in found
    )


def test_log_without_signature_is_unsigned(older):
    """The exit status is 1, and it is not tampering."""
    folder, _, _ = older
    for path in folder.log_dir(1, 0).glob("checkpoint*"):
        path.unlink()
    kinds = verify_run(folder, keys=[load_or_create_signer().verifier]).counts.keys()
    assert {"unsigned", "not signed"} <= kinds
    assert not kinds & {"tampering", "corruption"}
    assert status(folder, "a") == 1


def status(folder, *words, command="verify"):
    done = CliRunner().invoke(build_app(), ["--runs", str(folder.runs), command, *words])
    return done.exception.exit_status if isinstance(done.exception, OckhamError) else done.exit_code


@needs_docs
def test_default_number_of_processes_is_documented():
    """The page has the formula of the source."""
    assert f"`min(cores, segments // {MIN_SEGMENTS_PER_WORKER})`" in PAGE.read_text(encoding="utf-8")


def save_weights(metadata, state):
    described = {name: json.dumps(value) for name, value in metadata.items()}
    return CheckpointFiles(
        {"model.safetensors": save({"w": np.zeros(1, np.float32)}, metadata=described)}, "0" * 64
    )


def test_lineage_without_key_exits_2_where_verify_adds_a_note(tmp_path, monkeypatch):
    """An auditor's machine has no key of its own: lineage needs --key there, and verify does not."""
    with Run(plugins=[], runs=tmp_path / "runs", run_id="a") as run:
        ctx = run.start_batch(0, 2.0)
        run.end_batch(ctx)
        run.save_checkpoint(ctx, "rollback", save_weights)
        key = str(load_or_create_signer().verifier)
    (weights,) = run.folder.path.rglob("*.safetensors")
    assert status(run.folder, str(weights), "--key", key, command="lineage") == 0
    monkeypatch.setenv("OCKHAM_KEY_DIR", str(tmp_path / "no-keys"))
    assert status(run.folder, str(weights), command="lineage") == 2
    assert status(run.folder, "a") == 0


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_lineage_of_weights_without_metadata_exits_2(metadata, tmp_path):
    """Also for the files of Hugging Face, whose metadata is of another kind."""
    run = make_run(tmp_path / "runs", batches=3)
    file = tmp_path / "model.safetensors"
    file.write_bytes(save({"w": np.zeros(1, np.float32)}, metadata=metadata))
    assert (
        status(run.folder, str(file), "--key", str(load_or_create_signer().verifier), command="lineage") == 2
    )


def test_verify_exit_status_is_documented(tmp_path):
    """0 sound, 1 findings, 2 no such run, 3 no log or no key."""
    run = make_run(tmp_path, batches=3).folder
    assert status(run, "a") == 0
    assert status(run, "z") == 2
    assert status(run, "a", "--key", "x") == 2
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    assert status(run, "a", "--key-file", str(tmp_path / "key")) == 2
    (tmp_path / "pin").touch()
    assert status(run, "a", "--pin", str(tmp_path / "pin")) == 2
    about = run.run_json.read_bytes()
    run.run_json.write_bytes(b"{}")
    assert status(run, "a") == 3
    run.run_json.write_bytes(about + b" ")
    assert status(run, "a") == 1
    shutil.rmtree(run.path / "log")
    assert status(run, "a") == 3


@pytest.mark.timeout(120)
def test_ledger_folder_with_a_huge_number_is_handled(tmp_path):
    """Missing entries are counted, not stored."""
    append_entry(tmp_path, "odr.registered", REGISTRATION)
    ledger = RunFolder(tmp_path, LEDGER)
    ledger.log_dir(999_999_999, 0).mkdir()
    assert verify_run(ledger).counts["gap"] > 100
