"""Attestations of replays in the ledger: signed, with size and root of the replayed log."""

from __future__ import annotations

import orjson
import pytest

from ockham.record.checkpoints import find_resume_point
from ockham.record.ledger import read_entries
from ockham.record.run_folder import LEDGER, RunFolder
from ockham.record.schema import validate_event
from ockham.record.verify.run import verify_run
from ockham.replay.attest import attest
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers.log_edits import change_event
from tests.helpers.runs import make_run


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path, "a", 30).folder


def message(folder):
    event = orjson.loads(read_entries(folder.runs)[-1])
    validate_event("replay.attested", event)
    return event["id"], event["data"]


def test_attestation_contains_size_and_root_of_each_log(folder):
    """Also the digests of the code that decided again."""
    report = replay_run(folder)
    event_id = attest(folder, report)
    found, data = message(folder)
    assert found == event_id
    assert (data["run_id"], data["decisions"], data["identical"]) == (
        "a",
        report.total("decisions"),
        report.total("identical"),
    )
    [log] = verify_run(folder, parquet=False).logs
    assert data["attempt_size"] == [{"attempt": 1, "rank": 0, "size": log.events, "root": log.root}]
    assert data["code_sha256"].keys() == report.logs[0].code.keys()
    assert all(
        data["code_sha256"][name] == each["replayed_sha256"] for name, each in report.logs[0].code.items()
    )
    assert (RunFolder(folder.runs, LEDGER).log_dir(1, 0) / "checkpoint").exists()


def test_attestation_of_a_difference_is_written(folder):
    """It records the result, good or not."""
    change_event(folder, "decision.made", lambda data: data.update(observed=99.0), nth=5)
    report = replay_run(folder)
    attest(folder, report)
    _, data = message(folder)
    assert data["identical"] == data["decisions"] - 1


def test_attestation_lists_each_attempt_and_replayed_code_only(folder):
    """A plugin that was not trusted has no digest."""
    start = find_resume_point(folder.runs, "a")
    with Run(runs=folder.runs, run_id="a", resumed=start, data=start.data) as again:
        again.end_batch(again.start_batch(0, 3.0))
    report = replay_run(folder)
    report.logs[0].code["stranger"] = {"recorded_sha256": "0" * 64, "replayed_sha256": None}
    attest(folder, report)
    _, data = message(folder)
    assert [(log["attempt"], log["rank"]) for log in data["attempt_size"]] == [(1, 0), (2, 0)]
    assert "stranger" not in data["code_sha256"]
