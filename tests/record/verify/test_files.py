"""Files that events name: the content of checkpoints, and the tree head in their metadata."""

from __future__ import annotations

import hashlib
import io
import json

import pytest

import tests.helpers.runs
from ockham.record.checkpoints import CheckpointFiles, write_checkpoint
from ockham.record.log_writer import LogWriter
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.merkle import leaf_hash
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.files import MAX_HEADER_BYTES, check_log_references, read_safetensors_metadata
from ockham.record.verify.log_summary import LogSummary
from ockham.record.verify.report import Finding, VerificationReport
from ockham.record.verify.run import verify_run
from tests.helpers.events import REVISION, decision, lines, run_folder
from tests.helpers.log_edits import sign_log
from tests.helpers.runs import make_run
from tests.helpers.safetensors_file import make_safetensors
from tests.odr.small_runs import FINISHED

MISSING = "is missing, or no regular file; a copy that was made while the run was written can lack it"


def found_in(tmp_path, monkeypatch, data_of):
    """Return the findings of a run whose checkpoints contain `data_of(metadata)`, and the run folder."""
    monkeypatch.setattr(
        tests.helpers.runs,
        "pack",
        lambda metadata, _: CheckpointFiles({"model.safetensors": data_of(metadata)}, "ab" * 32),
    )
    run = make_run(tmp_path, batches=40)
    report = verify_run(run.folder, keys=[load_or_create_signer().verifier], parquet=False)
    assert report.checked["checkpoint files"] >= 1
    return {(f.kind, f.message) for f in report.findings if f.kind != "not pinned"}, run.folder


def test_weights_with_their_tree_head_give_no_finding(tmp_path, monkeypatch):
    """Weights without metadata are accepted too."""
    assert found_in(tmp_path / "1", monkeypatch, make_safetensors)[0] == set()
    assert found_in(tmp_path / "2", monkeypatch, lambda _: make_safetensors({}))[0] == set()


@pytest.mark.parametrize(
    ("data_of", "expected"),
    [
        (
            lambda metadata: make_safetensors({**metadata, "log_size": metadata["log_size"] - 1}),
            "names another tree head than the log does",
        ),
        (
            lambda metadata: make_safetensors({**metadata, "log_root": "00" * 32}),
            "names another tree head than the log does",
        ),
        (
            lambda metadata: make_safetensors({"log_size": metadata["log_size"]}),
            "names another tree head than the log does",
        ),
        (lambda _: b"weights", "not a safetensors file"),
        (lambda _: b"", "not a safetensors file"),
    ],
)
def test_weights_with_other_metadata_are_reported(tmp_path, monkeypatch, data_of, expected):
    """Their digest is the recorded one."""
    assert found_in(tmp_path, monkeypatch, data_of)[0] == {("checkpoint", expected)}


def test_changed_or_missing_weights_are_reported(tmp_path, monkeypatch):
    """The finding names file and event."""
    _, folder = found_in(tmp_path, monkeypatch, make_safetensors)
    path = next(folder.checkpoints.glob("accepted-*")) / "model.safetensors"
    for data, expected in (
        (path.read_bytes() + b"\0", "has other bytes than recorded"),
        (None, MISSING),
    ):
        path.unlink() if data is None else path.write_bytes(data)
        [found] = [f for f in verify_run(folder, parquet=False).findings if f.kind == "checkpoint"]
        assert (found.place, found.message) == (f"checkpoints/{path.parent.name}/model.safetensors", expected)
        assert found.sequence > 0


@pytest.mark.parametrize(
    ("metadata", "pending"), [((), 0), (("on_batch_start",), 1), (("on_batch_start", "on_batch_end"), 2)]
)
def test_decisions_after_the_last_context_are_reported(tmp_path, metadata, pending):
    """A regular end leaves none."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    for hook in metadata:
        writer.append("decision.made", decision(0, hook=hook), iter_num=0)
    writer.append("run.finished", FINISHED)
    writer.close()
    report = verify_run(folder, keys=[load_or_create_signer().verifier], parquet=False)
    found = [f.message for f in report.findings if "belong to no context" in f.message]
    assert found == ([f"{pending} decisions at the end belong to no context"] if pending else [])


def check_references(folder, metadata, place=(2, 3)):
    """Return the findings about the facts that were collected from one log."""
    report = VerificationReport("a")
    check_log_references(folder, place, metadata, report)
    return report.findings


def test_policies_are_compared_with_their_names(tmp_path):
    """One is missing, one is right, one differs."""
    folder = RunFolder(tmp_path, "a")
    right, other = hashlib.sha256(b"{}").hexdigest(), "0" * 64
    (folder.path / "policies").mkdir(parents=True)
    for digest in (right, other):
        folder.policy(digest).write_bytes(b"{}")
    assert check_references(
        folder,
        LogSummary(policies={f"sha256:{digest}": i for i, digest in ((8, other), (5, right), (3, "f" * 64))}),
    ) == [
        Finding("policy missing", f"policies/{'f' * 64}.json", "is missing", 3),
        Finding("policy missing", f"policies/{other}.json", "has other bytes", 8),
    ]


@pytest.mark.parametrize(
    ("finished", "broken", "pending", "batches", "odd"),
    [
        (True, False, 3, 1, True),
        (True, True, 3, 1, False),
        (True, True, 3, 2, True),
        (True, True, 3, 0, True),
        (False, False, 3, 1, False),
        (True, False, 0, 0, False),
    ],
)
def test_abnormal_end_can_be_inside_one_batch(tmp_path, finished, broken, pending, batches, odd):
    """A log without an end is reported elsewhere."""
    metadata = LogSummary(finished=finished, ended_mid_batch=broken, pending=pending, pending_batches=batches)
    expected = Finding("contradiction", "log/2-3", "3 decisions at the end belong to no context")
    assert check_references(RunFolder(tmp_path, "a"), metadata) == ([expected] if odd else [])


def test_checkpoint_without_accepting_decision_is_reported(tmp_path):
    """The finding names both."""
    saved = {
        "snapshot_id": "accepted-7",
        "kind": "accepted",
        "decision_id": "d",
        "iter_num": 7,
        "sequence": 9,
    }
    assert (
        check_references(RunFolder(tmp_path, "a"), LogSummary(acceptances_and_checkpoints=[("d", 7), saved]))
        == []
    )
    assert check_references(
        RunFolder(tmp_path, "a"), LogSummary(acceptances_and_checkpoints=[("d", 6), saved])
    ) == [Finding("checkpoint", "accepted-7", "names decision d, which accepted nothing at iteration 7", 9)]


def test_every_checkpoint_is_checked(tmp_path):
    """A pruned one, an invalid name and a wrong root hide no other."""
    folder = run_folder(tmp_path)
    files = write_checkpoint(folder.checkpoint("resume-1"), {"a.bin": b"a", "b.bin": b"b"})
    gone = [{**file, "name": "c.bin"} for file in files[:1]]
    writer = LogWriter(folder, 2, 1, policy_revision=REVISION)
    writer.append("decision.made", decision(0), iter_num=0)
    writer.flush()
    root = leaf_hash(lines(folder, 2, 1)[0]).hex()
    for name, size, metadata in (
        ("resume-0", 1, files),
        ("Resume", 1, files),
        ("resume-2", 1, gone),
        ("resume-1", 1, files),
        ("resume-1", 0, files),
        ("resume-1", 99, gone + files),
    ):
        data = {
            "iter_num": 1,
            "snapshot_id": name,
            "kind": "resume",
            "decision_id": None,
            "weights_sha256": root,
        }
        writer.append(
            "checkpoint.saved", {**data, "files": metadata, "log_size": size, "log_root": root}, iter_num=1
        )
    pruned = {"snapshot_id": "resume-0", "kind": "resume", "iter_num": 1, "reason_code": "SUPERSEDED"}
    writer.append("checkpoint.pruned", pruned, iter_num=1)
    writer.close()
    report = verify_run(folder, keys=[load_or_create_signer().verifier], parquet=False)
    place, expected = "log/2-1", "checkpoint ID 'Resume' is not allowed: a-z, 0-9, '.', '_' and '-'"
    assert [f for f in report.findings if f.kind in ("checkpoint", "tampering")] == [
        Finding("checkpoint", place, expected, 2),
        Finding("checkpoint", "checkpoints/resume-2/c.bin", MISSING, 3),
        Finding("tampering", "resume-1", "names a root of 0 events that the log never had", 5),
        Finding("tampering", "resume-1", "names a root of 99 events that the log never had", 6),
        Finding("checkpoint", "checkpoints/resume-1/c.bin", MISSING, 6),
    ]
    assert report.checked["checkpoint files"] == 8


def test_lost_root_has_the_cause_of_the_loss(tmp_path):
    """One changed line is one cause."""
    folder = make_run(tmp_path, batches=40).folder
    segment = folder.segments(1, 0)[0]
    segment.write_bytes(segment.read_bytes().replace(b'"iter_num":0,', b'"iter_num":9,', 1))
    history = (folder.log_dir(1, 0) / "checkpoints").read_bytes()
    sign_log(folder)
    with (folder.log_dir(1, 0) / "checkpoints").open("ab") as file:
        file.write(history)
    found = [f for f in verify_run(folder, parquet=False).findings if f.message.startswith("names a root")]
    assert found
    assert {f.cause for f in found} == {"the lines of log 1-0"}


def header(value, size=None):
    data = json.dumps(value).encode()
    return (len(data) if size is None else size).to_bytes(8, "little") + data


@pytest.mark.parametrize(
    ("data", "metadata"),
    [
        (header({}), {}),
        (header({"__metadata__": {}}), {}),
        (header({"__metadata__": None}), {}),
        (header({"__metadata__": {"a": "1", "b": '{"c":[]}'}}) + bytes(8), {"a": 1, "b": {"c": []}}),
    ],
)
def test_safetensors_metadata_values_are_json(data, metadata):
    """Each value is parsed separately."""
    assert read_safetensors_metadata(io.BytesIO(data)) == metadata


def test_metadata_that_is_no_json_is_text():
    """Other programs write such values."""
    data = header({"__metadata__": {"format": "pt", "n": "1", "torn": "{"}})
    assert read_safetensors_metadata(io.BytesIO(data)) == {"format": "pt", "n": 1, "torn": "{"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "a safetensors header of 0 bytes"),
        (header({}, 0), "a safetensors header of 0 bytes"),
        (header({}, MAX_HEADER_BYTES + 1), "a safetensors header of 100000001 bytes"),
        (MAX_HEADER_BYTES.to_bytes(8, "little") + b"{", "unexpected end of data"),
        (header([]), "a safetensors header is an object$"),
        (header({"__metadata__": []}), "the metadata of a safetensors file is text by name$"),
        (header({"__metadata__": {"a": 1}}), "the metadata of a safetensors file is text by name$"),
        (header({}, 1), "unexpected end of data"),
    ],
)
def test_invalid_safetensors_file_is_one_error(data, expected):
    """At most the maximum header is read."""
    with pytest.raises(ValueError, match=f"^{expected}"):
        read_safetensors_metadata(io.BytesIO(data))
