"""What events say of files and losses is held against what is there."""

from __future__ import annotations

import pytest

from ockham.record.lines import StateRecord
from ockham.record.log import LogWriter
from ockham.record.note import signer
from ockham.record.verify import verify_run
from tests.made import made_run
from tests.samples import REVISION, run_folder


def found_in(folder):
    """What is found but for what a log of a few events of one kind cannot have: an opening, a policy, a pin."""
    report = verify_run(folder, keys=[signer().verifier], derived=False)
    found = [f for f in report.findings if f.kind not in ("not pinned", "policy missing")]
    return [
        (f.sequence, f.kind, f.place, f.message)
        for f in found
        if not f.message.startswith("a log opens with")
    ]


def test_run_json_is_the_one_that_was_started_with(tmp_path):
    """Gone, or another one: what it says of key and data is nobody's word then."""
    folder = made_run(tmp_path, batches=5).folder
    assert found_in(folder) == []
    odd = (0, "tampering", "run.json", "is not the file whose digest run.started gives")
    folder.run_json.write_bytes(folder.run_json.read_bytes() + b"\n")
    assert odd in found_in(folder)
    folder.run_json.unlink()
    assert odd in found_in(folder)


def test_a_log_that_says_what_it_lost(tmp_path):
    """A full disk and a gap: each is told with its reason and its number, as a gap and as nothing worse."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    gap = {"from_attempt": 1, "from_sequence": 1, "reason_code": "WRITER_FAILED", "count": None}
    writer.append("log.gap", gap, subject="log")
    writer.append("log.gap", {**gap, "count": 7}, subject="log")
    writer.append("log.halted", {"reason_code": "ENOSPC", "message": "full", "lost_events": 3}, subject="log")
    writer.close()
    assert found_in(folder) == [
        (0, "gap", "log/1-0", "the log says that an unknown number of events are missing (WRITER_FAILED)"),
        (1, "gap", "log/1-0", "the log says that 7 events are missing (WRITER_FAILED)"),
        (2, "gap", "log/1-0", "the log was halted (ENOSPC): 3 events were lost"),
    ]


@pytest.mark.parametrize("size", [1, 3000])
def test_the_state_of_a_key_frame_is_the_one_recorded(tmp_path, size):
    """In its line, or in a blob: that one may be gone or be another."""
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision=REVISION)
    state = {"gate": {"history": [i + 0.123456789 for i in range(size)]}}
    writer.append("plugin_state.recorded", StateRecord(0, 0, "START", state), iter_num=0)
    writer.close()
    assert found_in(folder) == []
    assert verify_run(folder, keys=[signer().verifier]).checked["key frames"] == 1
    if size == 1:
        assert not (folder.path / "blobs").exists()
        return
    [blob] = (folder.path / "blobs").iterdir()
    place = f"blobs/{blob.name}"
    blob.write_bytes(b"{}")
    assert found_in(folder) == [(0, "tampering", place, "the plugin state is not the one recorded")]
    blob.unlink()
    assert found_in(folder) == [(0, "corruption", place, "the plugin state of a key frame is missing")]
