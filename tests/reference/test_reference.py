"""The installed version reproduces the answers about runs that an earlier version wrote."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.reference import answers

DATA = Path(__file__).resolve().parent / "data"
EXPECTED = json.loads((DATA / "expected.json").read_text(encoding="utf-8"))
COMMANDS = {
    "roi": ("roi", "base"),
    "whatif": ("whatif", "base", "--set", "gate.target=0.3"),
    "uncited": ("ask", "uncited"),
    "odr lint": ("odr", "lint"),
    "odr check": ("odr", "check"),
    **{f"replay {run}": ("replay", run) for run in answers.RUNS},
}


def unpack(folder: Path) -> Path:
    with zipfile.ZipFile(DATA / "reference.zip") as archive:
        archive.extractall(folder)
    return folder


def to_bytes(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Unpacked reference data that tests only read."""
    return unpack(tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("run", [*answers.RUNS, "_ledger"])
def test_verify_of_a_reference_run_gives_the_recorded_report(reference, run):
    """Status, counts, logs and findings are equal; texts are not compared."""
    assert to_bytes(answers.verify(reference, run)) == to_bytes(EXPECTED[f"verify {run}"])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command_on_reference_runs_gives_the_recorded_data(reference, name):
    """Replay, studies and ODR commands report the same data."""
    assert to_bytes(answers.ockham_json(reference, *COMMANDS[name])) == to_bytes(EXPECTED[name])


def test_lineage_of_an_accepted_checkpoint_gives_the_recorded_decisions(reference):
    """The same decisions, in the same order."""
    checkpoint = f"runs/base/checkpoints/{answers.accepted_checkpoint(reference)}"
    answer = answers.ockham_json(reference, "lineage", checkpoint, "--key-file", answers.KEY_FILE)
    assert to_bytes(answer) == to_bytes(EXPECTED["lineage"])


def test_saved_questions_on_parquet_give_the_recorded_rows(reference):
    """All questions that existed when the reference was made."""
    answer = answers.ask_all(reference, EXPECTED["questions"])
    assert to_bytes(answer) == to_bytes(EXPECTED["questions"])


def test_saved_questions_without_parquet_give_the_recorded_rows(tmp_path):
    """The lines of the logs give the same rows as the Parquet files."""
    folder = unpack(tmp_path)
    answers.remove_parquet(folder)
    answer = answers.ask_all(folder, EXPECTED["questions"])
    assert to_bytes(answer) == to_bytes(EXPECTED["questions"])


def test_packed_verifier_on_the_stored_archive_gives_the_recorded_result(tmp_path):
    """The archive and its verify.py are those of the earlier version."""
    answer = answers.verify_standalone(unpack(tmp_path), "adapted.evidence.zip")
    assert answer == EXPECTED["stored archive"]


def test_fresh_export_of_a_reference_run_contains_the_recorded_files(tmp_path):
    """Lines, signatures, policies and run.json have the same bytes."""
    assert answers.export_evidence(unpack(tmp_path), "fresh.zip") == EXPECTED["fresh archive"]


def test_packed_verifier_on_a_fresh_archive_gives_the_recorded_result(tmp_path):
    """The installed version's verify.py gives the same result on the earlier version's run."""
    folder = unpack(tmp_path)
    answers.export_evidence(folder, "fresh.zip")
    assert answers.verify_standalone(folder, "fresh.zip") == EXPECTED["fresh archive verified"]


def test_verify_of_a_tampered_reference_run_gives_the_recorded_findings(tmp_path):
    """One changed digit gives the same findings."""
    assert to_bytes(answers.tampered_answers(unpack(tmp_path))) == to_bytes(EXPECTED["tampered"])
