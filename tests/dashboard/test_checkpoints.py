"""Checkpoints page and search: a file is identified by its digest, and a name opens what it names."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging

import pytest

from dashboard.search import find_matches
from ockham.record.checkpoints import CheckpointFiles
from ockham.record.ledger import append_entry
from ockham.record.repair import rebuild
from ockham.record.requests import event_fields
from tests.helpers.requests import signed_request
from tests.helpers.runs import make_run
from tests.helpers.tampering import change_one_digit

pytestmark = pytest.mark.filterwarnings("ignore")
logging.getLogger("streamlit").setLevel(logging.CRITICAL)


def saved_events(run):
    """Return the data of all events about saved checkpoints, from the lines of the log."""
    lines = [line for path in run.folder.segments(1, 0) for line in path.read_bytes().splitlines()]
    return [
        event["data"] for event in map(json.loads, lines) if event["type"] == "ockham.checkpoint.saved.v1"
    ]


@pytest.fixture
def run(tmp_path):
    run = make_run(tmp_path, "first", batches=60)
    assert len(saved_events(run)) >= 2
    return run


def shown_files(test):
    return test.dataframe[0].value


def test_page_lists_each_file_with_digest_and_decision(open_page, tmp_path, run, verify_all):
    """Names, digests and decisions are those of the lines of the log."""
    open_page(tmp_path, "checkpoints", run="first")
    verify_all()
    test = open_page(tmp_path, "checkpoints", run="first")
    assert not test.exception
    expected = {
        (data["snapshot_id"], file["name"], file["sha256"], data["decision_id"])
        for data in saved_events(run)
        for file in data["files"]
    }
    table = shown_files(test)
    names = ("snapshot_id", "file_name", "sha256", "decision_id")
    assert set(zip(*(table[name] for name in names), strict=True)) == expected
    assert set(table["file_state"]) == {"intact"}
    count = len(saved_events(run))
    expected = f"first has {count} checkpoints: the memory accepted {count}, people approved 0."
    assert test.text[0].value == f"{expected} Files: {count} intact."


def test_digest_in_the_address_answers_whether_the_file_was_accepted(open_page, tmp_path, run, verify_all):
    """The answer names file, run, iteration, reason, decision and state. Runs are searched together."""
    make_run(tmp_path, "other", batches=12)
    data = saved_events(run)[0]
    file = run.folder.path / "checkpoints" / data["snapshot_id"] / data["files"][0]["name"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    open_page(tmp_path, "checkpoints")
    verify_all()
    test = open_page(tmp_path, "checkpoints", digest=digest.upper())
    answers = [text.value for text in test.text]
    answer = next(text for text in answers if data["snapshot_id"] in text)
    assert f"in first, saved at iteration {data['iter_num']}" in answer
    assert f"decision {data['decision_id']}" in answer
    assert "accepted: first valid candidate, decision" in answer
    assert answer.endswith("; intact.")
    unknown = open_page(tmp_path, "checkpoints", digest="0" * 64)
    assert unknown.text[0].value.startswith("No. The log does not contain this file")


def test_approval_is_next_to_the_approved_file_only(open_page, tmp_path, monkeypatch):
    """The person and the reason are those of the signed event."""
    numbers = itertools.count()
    monkeypatch.setattr(
        "tests.helpers.runs.pack", lambda *_: CheckpointFiles({"w.bin": b"w"}, f"{next(numbers):064x}")
    )
    run = make_run(tmp_path, "first", batches=60)
    first, *others = saved_events(run)
    request = {"target": first["snapshot_id"], "digest": first["weights_sha256"]}
    append_entry(tmp_path, *event_fields(signed_request(run.folder, "APPROVE", **request)))
    test = open_page(tmp_path, "checkpoints", run="first")
    table = shown_files(test)
    approvals = dict(zip(table["snapshot_id"], table["approved_by"], strict=True))
    assert approvals.pop(first["snapshot_id"]) == "alice"
    assert len(approvals) == len({data["snapshot_id"] for data in others})
    assert not any(isinstance(person, str) for person in approvals.values())
    assert "people approved 1." in test.text[0].value
    answer = open_page(tmp_path, "checkpoints", checkpoint=first["snapshot_id"]).text[0].value
    assert "; approved by alice (" in answer


def test_changed_removed_and_unverified_files_are_not_intact(open_page, tmp_path, run, verify_all):
    """A changed file differs from the log. Without a verification the state is unknown."""
    data = saved_events(run)[0]
    file = run.folder.path / "checkpoints" / data["snapshot_id"] / data["files"][0]["name"]
    file.write_bytes(b"x" * file.stat().st_size)
    table = shown_files(open_page(tmp_path, "checkpoints", run="first"))
    assert set(table["file_state"]) == {"not verified yet"}
    verify_all()
    table = shown_files(open_page(tmp_path, "checkpoints", run="first"))
    states = dict(zip(table["snapshot_id"], table["file_state"], strict=True))
    assert states.pop(data["snapshot_id"]) == "file differs from the log"
    assert set(states.values()) == {"the log is broken"}


def test_no_file_of_a_run_with_a_changed_log_is_intact(open_page, tmp_path, run, verify_all):
    """A log that was changed proves nothing about a file."""
    change_one_digit(run.folder)
    open_page(tmp_path, "checkpoints", run="first")
    verify_all()
    table = shown_files(open_page(tmp_path, "checkpoints", run="first"))
    assert set(table["file_state"]) == {"the log is broken"}


def test_checkpoints_page_without_checkpoints_and_with_unknown_run(open_page, tmp_path):
    """An empty run has no table. An unknown run stays unknown."""
    make_run(tmp_path, "empty", batches=5)
    test = open_page(tmp_path, "checkpoints", run="empty")
    assert test.text[0].value.startswith("empty has 0 checkpoints")
    test = open_page(tmp_path, "checkpoints", run="../x")
    assert test.error
    assert not test.dataframe
    assert not test.exception


@pytest.mark.parametrize(
    ("kind", "choose"),
    [
        ("run", lambda data: "first"),
        ("checkpoint", lambda data: data["snapshot_id"]),
        ("checkpoint", lambda data: data["files"][0]["sha256"][:12]),
        ("checkpoint", lambda data: data["weights_sha256"]),
        ("decision", lambda data: data["decision_id"]),
        ("decision", lambda data: data["decision_id"][:20]),
    ],
)
def test_search_finds_names_ids_and_digests(monkeypatch, tmp_path, run, kind, choose):
    """Each of them leads to the run."""
    monkeypatch.setenv("OCKHAM_RUNS", str(tmp_path))
    monkeypatch.setenv("OCKHAM_ODR", str(tmp_path / "no-odr"))
    assert rebuild(run.folder)
    rows = find_matches(choose(saved_events(run)[-1]))
    assert ("first", kind) in {(row["run_id"], row["kind"]) for row in rows}


def test_search_box_is_on_every_page_and_opens_a_single_match(open_page, tmp_path, run):
    """The box is emptied, so that the next page does not search again."""
    decision = saved_events(run)[0]["decision_id"]
    for page in ("runs", "gate", "odr"):
        test = open_page(tmp_path, page)
        test.text_input(key="search-text").set_value(f"  {decision.upper()} ").run()
        assert not test.exception
        assert decision in next(code.value for code in test.code if "decision   " in code.value)
        assert test.text_input(key="search-text").value == ""


def test_search_without_or_with_several_matches_lists_them(open_page, tmp_path, run):
    """Untrusted text of the address is shown as code."""
    make_run(tmp_path, "second", batches=60)
    name = saved_events(run)[0]["snapshot_id"]
    test = open_page(tmp_path, "search", q=name)
    assert test.text[0].value == "2 matches."
    test = open_page(tmp_path, "search", q="**<b>nothing</b>**")
    assert test.text[0].value == "Nothing has this name, ID or digest."
    assert test.code[0].value == "**<b>nothing</b>**"
    assert not test.exception


def test_decision_page_names_the_checkpoint_it_accepted(open_page, tmp_path, run):
    """Name and digest of the weights are on the page of the decision, with a link to the files."""
    data = saved_events(run)[0]
    test = open_page(tmp_path, "decision", decision=data["decision_id"])
    expected = f"Checkpoint {data['snapshot_id']}, SHA-256 of the weights {data['weights_sha256']}"
    assert expected in [text.value for text in test.text]
    queries = [link.proto.query_string for link in test.get("page_link")]
    assert f"run=first&checkpoint={data['snapshot_id']}" in queries
