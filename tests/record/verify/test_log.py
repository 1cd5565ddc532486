"""Findings about changed, moved, added or missing tree heads: class, location and message."""

from __future__ import annotations

import shutil

import pytest

from ockham.errors import UnverifiableError
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.merkle import CompactRange, leaf_hash
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import TreeHead, checkpoint_body
from ockham.record.verify import log as log_module
from ockham.record.verify.run import verify_run
from tests.helpers.events import log_folder
from tests.helpers.tree_files import tree_findings, write_history

# 700 decisions and one seal. The tree has two full tiles, a partial one, and a tile of two hashes.
EVENTS = 701


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return log_folder(tmp_path_factory.mktemp("log"), count=700, segment_events=400).path


@pytest.fixture
def log(original, tmp_path):
    shutil.copytree(original, tmp_path / "a")
    return tmp_path / "a/log/1-0"


def test_honest_log_gives_no_finding(log):
    """All tiles are counted."""
    odd, report = tree_findings(log)
    assert odd == set()
    assert report.checked["tiles"] == sum(path.is_file() for path in (log / "tile").rglob("*")) >= 4
    assert (report.logs[0].events, report.logs[0].signed) == (EVENTS, EVENTS)
    assert (
        report.checked["signed tree heads"] == (log / "checkpoints").read_bytes().count(b"\xe2\x80\x94") + 1
    )


def heads(log):
    """Return the notes of the history."""
    parts = (log / "checkpoints").read_bytes().split(b"\n\n")
    return [parts[i] + b"\n\n" + parts[i + 1] + b"\n" for i in range(0, len(parts) - 1, 2)]


def note(size, root=b"\1" * 32, where="ockham/runs/a/1-0"):
    return load_or_create_signer().sign(checkpoint_body(where, TreeHead(size, root)))


@pytest.fixture
def three(log):
    """Write a history of three tree heads: of 10, of 20 and of all events."""
    lines = (log / "000000000000.jsonl").read_bytes().splitlines()
    earlier, tree = [], CompactRange()
    for size, line in enumerate(lines[:20], 1):
        tree.append(leaf_hash(line))
        earlier += [note(size, tree.root())] if size in (10, 20) else []
    [last] = heads(log)[-1:]
    write_history(log, *earlier, last, newest=last)
    assert tree_findings(log)[0] == set()
    return [*earlier, last]


def test_newest_head_can_be_older_or_newer_than_the_history(log, three):
    """All heads are compared with the lines. With a history of one it can be missing."""
    first, second, last = three
    write_history(log, *three, newest=second)
    assert tree_findings(log)[0] == set()
    # A copy that was made while the run was written.
    write_history(log, *three, newest=first)
    assert tree_findings(log)[0] == set()
    write_history(log, first, second, newest=last)
    assert tree_findings(log)[0] == set()
    write_history(log, *three, newest=b"")
    expected = "is missing, and the history has more than one tree head"
    assert tree_findings(log)[0] == {("tampering", "checkpoint", expected)}
    (log / "checkpoint").write_bytes(b"")
    write_history(log, second, last, newest=b"")
    assert tree_findings(log)[0] == {("tampering", "checkpoint", expected)}
    (log / "checkpoint").write_bytes(b"")
    write_history(log, last, newest=b"")
    expected = "is missing: the first tree head is only in the history"
    assert tree_findings(log)[0] == {("crash tail", "checkpoint", expected)}
    (log / "checkpoint").write_bytes(last)
    (log / "checkpoints").write_bytes(b"".join(n + b"\n" for n in three) + last[:40])
    assert tree_findings(log)[0] == {("crash tail", "checkpoints", "40 bytes of an unfinished tree head")}


def test_heads_that_contradict_the_lines_are_reported(log, three):
    """More events, other events, two trees of one size, another log."""
    *earlier, last = three
    forged = note(15)
    write_history(log, *earlier, forged, last, newest=last)
    expected = "the first 15 events differ from the signed ones"
    assert tree_findings(log)[0] == {("tampering", "", expected)}
    assert tree_findings(log)[1].logs[0].signed == EVENTS
    forged = note(EVENTS + 4)
    write_history(log, *three, forged, newest=forged)
    assert tree_findings(log)[0] == {
        (
            "tampering",
            "",
            f"{EVENTS + 4} events were signed, but {EVENTS} exist: 4 are missing{log_module.COPY_HINT}",
        )
    }
    forged = note(20)
    write_history(log, *earlier, forged, last, newest=last)
    assert (
        "tampering",
        "checkpoints",
        "two signed tree heads of size 20 with different roots",
    ) in tree_findings(log)[0]
    forged = note(15, where="ockham/runs/b/1-0")
    write_history(log, *earlier, forged, last, newest=last)
    expected = "a tree head of another log: 'ockham/runs/b/1-0'"
    assert tree_findings(log)[0] == {("tampering", "checkpoints", expected)}
    write_history(log, newest=b"")
    expected = "no tree head signed by a known key"
    behind = f"{EVENTS} events after the newest valid signed tree head"
    assert tree_findings(log)[0] == {("unsigned", "checkpoint", expected), ("not signed", "", behind)}


def test_untrusted_head_is_reported_with_its_reason(log, three, tmp_path):
    """Other heads still count."""
    strange = load_or_create_signer(tmp_path / "stranger").sign(
        checkpoint_body("ockham/runs/a/1-0", TreeHead(15, b"\1" * 32))
    )
    *earlier, last = three
    write_history(log, strange, *earlier, last, newest=last)
    odd, report = tree_findings(log)
    expected = "a tree head cannot be trusted: no known key has signed it"
    assert odd == {("tampering", "checkpoints", expected)}
    assert {f.cause for f in report.findings if f.message == expected} == {
        "log 1-0: no known key has signed it"
    }
    assert (report.logs[0].signed, report.logs[0].key) == (EVENTS, str(load_or_create_signer().verifier))
    assert report.checked["signed tree heads"] == len(three) + 1


def test_pins_that_contradict_the_lines_are_reported(log, three):
    """The largest matching pin counts."""
    first, second, _ = three
    folder = RunFolder(log.parents[2], "a")

    def pinned(*pins):
        report = verify_run(folder, keys=[load_or_create_signer().verifier], pins=pins, parquet=False)
        own = [(f.message, f.cause) for f in report.findings if f.kind == "tampering"]
        return own, report.logs[0].pinned

    cause = "the lines of log 1-0"
    assert pinned(second, first) == pinned(first, second) == ([], 20)
    assert pinned(first, note(15)) == ([("the first 15 events differ from the pinned ones", cause)], 10)
    gone = f"{EVENTS + 4} events were pinned, but {EVENTS} exist: 4 are missing"
    assert pinned(note(EVENTS + 4)) == ([(gone, cause)], 0)


def test_changed_line_is_located_by_its_tile(log):
    """Only the tile identifies it."""
    path = log / "000000000000.jsonl"
    data = path.read_bytes().splitlines(keepends=True)
    data[300] = data[300].replace(b'"micro_step":0', b'"micro_step":1', 1)
    path.write_bytes(b"".join(data))
    expected = f"the first {EVENTS} events differ from the signed ones; event 300 differs from its tile"
    assert ("tampering", "", expected) in tree_findings(log)[0]


def test_unreadable_segment_is_an_error(log, monkeypatch):
    """The error names it."""

    def refuses(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(log_module, "open_regular_file", refuses)
    with pytest.raises(UnverifiableError) as error:
        tree_findings(log)
    assert str(error.value) == f"{log / '000000000000.jsonl'} cannot be read: Permission denied"


def test_log_without_a_line_reports_missing_events(log):
    """All signed events are missing."""
    for segment in log.glob("*.jsonl"):
        segment.unlink()
    expected = f"{EVENTS} events were signed, but 0 exist: {EVENTS} are missing{log_module.COPY_HINT}"
    assert ("tampering", "", expected) in tree_findings(log)[0]
