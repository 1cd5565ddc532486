"""Tree heads of the writer: they cover the bytes on disk, and the tiles have the same root."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import subprocess
import sys
import time

import orjson
import pytest

from ockham.errors import LogError, LogHaltedError
from ockham.event import event_kind
from ockham.record import log_writer
from ockham.record.durable_io import atomic_write, write_complete
from ockham.record.log_writer import LogWriter
from ockham.record.payloads import StateRecord
from ockham.record.segment import Segment
from ockham.record.tlog import tiles, tree_head
from ockham.record.tlog.merkle import EMPTY, leaf_hash, node_hash, root_from_leaves
from ockham.record.tlog.note import NoteError, load_or_create_signer, open_note
from ockham.record.tlog.tiles import list_tiles, tile_path
from ockham.record.tlog.tree_head import (
    HeadWriter,
    TreeHead,
    checkpoint_body,
    is_unfinished_head,
    parse_head,
    split_history,
)
from ockham.record.verify.run import verify_run
from ockham.record.verify.standalone import is_cut_head, parse_key, read_heads
from tests.helpers.events import context_record, decision, lines, open_idle_writer, run_folder
from tests.odr.small_runs import FINISHED


def open_log(tmp_path, count, **kwargs):
    folder = run_folder(tmp_path)
    writer = LogWriter(folder, 1, 0, policy_revision="sha256:" + "ab" * 32, **kwargs)
    for i in range(count):
        writer.append("decision.made", decision(i), iter_num=i)
    return folder, writer


def test_signed_head_matches_the_lines(tmp_path):
    """Size, root, origin and signature are recomputed."""
    folder, writer = open_log(tmp_path, 70, segment_events=30)
    head = writer.flush()
    writer.close()
    written = lines(folder)
    note = (writer.path / "checkpoint").read_bytes()
    text, _ = open_note(note, [load_or_create_signer().verifier])
    where, signed = parse_head(text)
    assert where == "ockham/runs/a/1-0"
    assert signed.size == len(written) >= head.size >= 70
    assert signed.root == root_from_leaves([leaf_hash(line) for line in written])
    assert split_history((writer.path / "checkpoints").read_bytes())[0][-1] == note


@pytest.mark.parametrize("count", [1, 255, 256, 257, 700])
def test_tiles_contain_the_hashes_of_the_lines(tmp_path, count):
    """There are exactly the tiles of this size."""
    folder, writer = open_log(tmp_path, count)
    writer.close()
    hashes = [leaf_hash(line) for line in lines(folder)]
    assert len(hashes) == count
    named = {tile_path(*tile) for tile in list_tiles(count)}
    there = {str(p.relative_to(writer.path)) for p in (writer.path / "tile").rglob("*") if p.is_file()}
    assert there == named
    for level, index, width in list_tiles(count):
        data = (writer.path / tile_path(level, index, width)).read_bytes()
        span = 256**level
        first = index * 256 * span
        expected = [root_from_leaves(hashes[first + i * span : first + (i + 1) * span]) for i in range(width)]
        assert data == b"".join(expected)


def test_tile_paths_match_the_example_of_the_format():
    """The example is that of C2SP tlog-tiles."""
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path(0, 1234067, 17) == "tile/0/x001/x234/067.p/17"
    assert tile_path(3, 5) == "tile/3/005"
    assert list_tiles(70_000) == [
        *((0, i, 256) for i in range(273)),
        (0, 273, 112),
        (1, 0, 256),
        (1, 1, 17),
        (2, 0, 1),
    ]
    assert node_hash(b"", b"") != leaf_hash(b"")


def test_urgent_event_is_signed_at_once(tmp_path, monkeypatch):
    """No call asks for it, and the writer does not wait for its interval."""
    monkeypatch.setattr(log_writer, "SYNC_INTERVAL_SECONDS", 600.0)
    writer = open_idle_writer(run_folder(tmp_path))
    for i in range(4):
        writer.append("decision.made", decision(i), iter_num=i, urgent=i == 3)
    deadline = time.monotonic() + 60
    while writer._heads.head.size < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert writer._heads.head.size == 4
    writer.close()


def test_disk_that_returns_other_bytes_prevents_a_signature(tmp_path, monkeypatch):
    """The trainer gets an error."""
    folder, writer = open_log(tmp_path, 5)
    writer.flush()
    note = (writer.path / "checkpoint").read_bytes()
    segment = folder.segments(1, 0)[0]
    sync = Segment.sync

    def damage(opened):
        sync(opened)
        data = bytearray(segment.read_bytes())
        data[-20] ^= 1
        segment.write_bytes(bytes(data))

    monkeypatch.setattr(Segment, "sync", damage)
    writer.append("context.recorded", context_record(5), iter_num=5)
    with pytest.raises(LogHaltedError, match="gives back other bytes"):
        writer.flush()
    with pytest.raises(LogHaltedError):
        writer.close()
    assert (writer.path / "checkpoint").read_bytes() == note


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_disables_the_child_and_keeps_the_parent(tmp_path):
    """The log of the parent remains valid."""
    code = """
import os, sys
from ockham.errors import LogError
from ockham.record.log_writer import LogWriter
from tests.helpers.events import decision, run_folder
from pathlib import Path
folder = run_folder(Path(sys.argv[1]))
writer = LogWriter(folder, 1, 0)
writer.append("decision.made", decision(0)._replace(), iter_num=0)
child = os.fork()
if child == 0:
    try:
        writer.append("decision.made", decision(1), iter_num=1)
    except LogError as error:
        os._exit(7 if "fork" in str(error) else 1)
    os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
    )
    assert done.stdout.strip() == "7", done.stderr


def test_full_disk_writes_a_signed_halt(tmp_path, monkeypatch):
    """The log is truncated to its last complete line."""
    folder, writer = open_log(tmp_path, 3)
    writer.flush()
    real = os.write

    def full(descriptor, data):
        if descriptor == writer._segment._file and writer._reserve.path.exists():
            real(descriptor, bytes(data[:100]))
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    writer.append("decision.made", decision(3), iter_num=3)
    with pytest.raises(LogHaltedError, match="No space left"):
        writer.flush()
    with pytest.raises(LogError):
        writer.append("decision.made", decision(4), iter_num=4)
    with pytest.raises(LogError):
        writer.close()
    last = orjson.loads(lines(folder)[-1])
    assert last["type"] == "ockham.log.halted.v1"
    assert (last["data"]["sequence"], last["data"]["reason_code"], last["data"]["lost_events"]) == (
        3,
        "ENOSPC",
        1,
    )
    _, head = parse_head(
        open_note((writer.path / "checkpoint").read_bytes(), [load_or_create_signer().verifier])[0]
    )
    assert head.root == root_from_leaves([leaf_hash(line) for line in lines(folder)])


def fill_disk(monkeypatch, writer, pattern, accepted):
    """Reject writes to files whose path matches while the reserve exists. The first bytes are written."""
    write = os.write

    def is_full(path):
        return re.search(pattern, str(path)) and writer._reserve.path.exists()

    def full_write(descriptor, data):
        if is_full(os.readlink(f"/proc/self/fd/{descriptor}")):
            write(descriptor, bytes(data[:accepted]))
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    def reject_if_full(write_file):
        def full_write_file(path, data, **options):
            if is_full(path):
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            write_file(path, data, **options)

        return full_write_file

    monkeypatch.setattr(os, "write", full_write)
    for module in (log_writer, tiles, tree_head):
        monkeypatch.setattr(module, "atomic_write", reject_if_full(atomic_write))
    monkeypatch.setattr(tree_head, "write_complete", reject_if_full(write_complete))


@pytest.mark.parametrize(
    ("pattern", "accepted"),
    [(r"tile/0/000$", 0), (r"\.p/", 0), ("/checkpoints$", 0), ("/checkpoints$", 90), ("/checkpoint$", 0)],
)
def test_full_disk_at_a_file_of_the_tree_writes_a_signed_halt(tmp_path, monkeypatch, pattern, accepted):
    """All written lines are signed."""
    folder, writer = open_log(tmp_path, 0)
    fill_disk(monkeypatch, writer, pattern, accepted)
    for i in range(300):
        writer.append("decision.made", decision(i), iter_num=i)
    check_halt(folder, writer)


def test_full_disk_at_a_blob_writes_a_signed_halt(tmp_path, monkeypatch):
    """Events before it in the same group are lost and counted."""
    folder, writer = open_log(tmp_path, 3)
    writer.flush()
    fill_disk(monkeypatch, writer, "/blobs/", 0)
    delivered = []
    writer.on_durable = delivered.extend
    writer.append("decision.made", decision(3), iter_num=3)
    state = {"gate": {str(i): i for i in range(9000)}}
    writer.append("plugin_state.recorded", StateRecord(0, 0, "START", state), iter_num=3)
    check_halt(folder, writer)
    assert [event["type"] for event in delivered][-1] == "ockham.log.halted.v1"
    assert len(delivered) == len(lines(folder)) - 3


def test_full_disk_before_the_first_line_leaves_an_empty_log(tmp_path, monkeypatch):
    """A log begins with run.started."""
    folder, writer = open_log(tmp_path, 0)
    fill_disk(monkeypatch, writer, r"\.jsonl$", 7)
    writer.append("decision.made", decision(0), iter_num=0)
    with pytest.raises(LogHaltedError, match="No space left"):
        writer.close()
    assert lines(folder) == []
    assert folder.segments(1, 0)[0].stat().st_size == 0


@pytest.mark.parametrize("acknowledged", [True, False])
def test_full_disk_after_the_end_leaves_the_end_as_the_last_line(tmp_path, monkeypatch, acknowledged):
    """The end is signed from the reserve."""
    folder, writer = open_log(tmp_path, 3, segment_events=4)
    if not acknowledged:
        fill_disk(monkeypatch, writer, "/checkpoint$", 0)
    writer.append("run.finished", FINISHED)
    if acknowledged:
        # The seal of the first segment does not fit.
        fill_disk(monkeypatch, writer, r"4\.jsonl$", 0)
    with pytest.raises(LogHaltedError, match="No space left"):
        writer.close()
    assert [event_kind(orjson.loads(line)["type"]) for line in lines(folder)][3:] == ["run.finished"]
    assert verify_run(folder).logs[0].signed == 4


def check_halt(folder, writer):
    """Check that the last line is a signed halt with the number of lost events."""
    with pytest.raises(LogHaltedError, match="No space left"):
        writer.flush()
    with pytest.raises(LogHaltedError):
        writer.close()
    found = lines(folder)
    last = orjson.loads(found[-1])["data"]
    assert event_kind(orjson.loads(found[-1])["type"]) == "log.halted"
    assert (last["reason_code"], last["message"]) == ("ENOSPC", "No space left on device")
    assert last["sequence"] == len(found) - 1
    assert last["lost_events"] == writer.next_sequence - last["sequence"]
    report = verify_run(folder)
    assert report.logs[0].signed == len(found)
    assert {"tampering", "corruption"}.isdisjoint(report.counts), report.findings


def test_parsed_head_equals_the_written_one():
    """Sizes have at most nineteen digits and no leading zero."""
    for size in (0, 1, 10, 10**18, 10**19 - 1):
        head = TreeHead(size, bytes(range(32)))
        assert parse_head(checkpoint_body("o", head)) == ("o", head)
    for size, message in (
        ("9" * 20, "is not a tree size"),
        ("00", "is not a tree size"),
        ("", "is not a tree size"),
        ("\u0661", "is not a tree size"),
    ):
        with pytest.raises(NoteError, match=message):
            parse_head(f"o\n{size}\n{'A' * 43}=\n")
    for root in ("!", "", "AAAA", "A" * 44):
        with pytest.raises(NoteError, match=f"^{root!r} is not a root hash$"):
            parse_head(f"o\n1\n{root}\n")
    for text in ("", "o\n1\n", "\n1\nAAAA\n"):
        with pytest.raises(NoteError, match=r"^a tree head has an origin, a size and a root, a line each$"):
            parse_head(text)


def test_synced_lines_only_are_signed(tmp_path):
    """Later bytes are signed the next time."""
    own = load_or_create_signer(tmp_path / "keys")
    writer = HeadWriter(tmp_path, "o", own)
    assert writer.head == writer.sign() == TreeHead(0, EMPTY)
    segment, data = tmp_path / "s", [b"one\n", b"two\n", b"three\n"]
    segment.write_bytes(b"".join(data) + b"since\nthen\n")
    for count in (1, 3):
        whole = b"".join(data[:count])
        writer.ingest(segment, len(whole), hashlib.sha256(whole).digest())
        assert writer.sign() == TreeHead(
            count, root_from_leaves([leaf_hash(line[:-1]) for line in data[:count]])
        )
    assert stat.S_IMODE((tmp_path / "checkpoints").stat().st_mode) == 0o644 & ~umask()
    notes, rest = split_history((tmp_path / "checkpoints").read_bytes())
    assert [parse_head(open_note(note, [own.verifier])[0])[1].size for note in notes] == [0, 1, 3]
    assert rest == b""


def umask():
    now = os.umask(0)
    os.umask(now)
    return now


def test_history_ends_within_a_head_only_as_a_crash_leaves_it(tmp_path):
    """Each cut of a head, also with zeros after it, is an unfinished head. Changed line breaks are not."""
    where = "ockham/runs/a/1-0"
    body = checkpoint_body(where, TreeHead(123, leaf_hash(b"line")))
    note = load_or_create_signer().sign(body) + b"\n"
    for size in range(len(note)):
        for zeros in (0, 7):
            for is_cut in (is_unfinished_head, lambda data, name: is_cut_head(data.rstrip(b"\0"), name)):
                assert is_cut(note[:size] + bytes(zeros), where), size
    breaks = [at for at, byte in enumerate(note) if byte == ord("\n")]
    changed = [note[:at] + bytes([note[at] ^ 1 << bit]) + note[at + 1 :] for at in breaks for bit in range(8)]
    for data in [*changed, note, b"x", note.replace(b"runs/a", b"runs/b")[:-1]]:
        assert not is_unfinished_head(data, where)
        assert not is_cut_head(data, where)


@pytest.mark.parametrize("bit", range(8))
def test_changed_line_break_in_the_history_is_tampering(tmp_path, bit):
    """Both verifiers report it, although the newest tree head covers all lines."""
    folder, writer = open_log(tmp_path, 3)
    writer.close()
    history = folder.log_dir(1, 0) / "checkpoints"
    data = history.read_bytes()
    (folder.path / "run.json").write_bytes(b"{}")
    key = load_or_create_signer().verifier
    for at in [at for at, byte in enumerate(data) if byte == ord("\n")]:
        history.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
        assert "tampering" in verify_run(folder, keys=[key], parquet=False).counts, at
        files = {"log/1-0/checkpoints": history.read_bytes()}
        findings = read_heads(files, "1-0", parse_key(str(key)), "ockham/runs/a/1-0")[1]
        assert "tampering" in {kind for kind, _ in findings}, at
