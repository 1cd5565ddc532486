"""Tree heads of one log: all readers take the same ones, whatever their order and number is."""

from __future__ import annotations

import contextlib
import io

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ockham.errors import LogError
from ockham.record.evidence import check_signed_prefix, read_evidence
from ockham.record.signed_heads import find_note, match_heads, read_heads
from ockham.record.tlog.merkle import leaf_hash, root_from_leaves
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.tlog.tree_head import TreeHead, checkpoint_body, origin
from ockham.record.verify import standalone
from ockham.record.verify.run import verify_run
from tests.helpers.events import lines, log_folder

FALSE = b"\1" * 32


def keys():
    return [load_or_create_signer().verifier]


def note(size, root):
    return load_or_create_signer().sign(checkpoint_body(origin("a", 1, 0), TreeHead(size, root)))


def signed_sizes(folder):
    """Return the number of signed lines by `ockham verify`, by the packed verifier, and as evidence."""
    report = verify_run(folder, keys=keys(), parquet=False)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        key = standalone.parse_key(str(keys()[0]))
        status = standalone.verify_archive(standalone.load(folder.path), "a", key, known=True)
    printed = out.getvalue().partition("signed to ")[2].partition(",")[0]
    assert status == (0 if report.sound else 1)
    return report.logs[0].signed, int(printed), read_evidence(folder, keys()).logs[1, 0].signed


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("size", [26, 10])
def test_two_heads_of_one_size_give_one_signed_size(tmp_path, order, size):
    """One of two heads fits the lines. The order does not matter, and all readers report tampering."""
    folder = log_folder(tmp_path)
    root = root_from_leaves([leaf_hash(line) for line in lines(folder)[:size]])
    notes = [note(size, root), note(size, FALSE)][::order]
    (folder.log_dir(1, 0) / "checkpoints").write_bytes(b"".join(each + b"\n" for each in notes))
    (folder.log_dir(1, 0) / "checkpoint").write_bytes(notes[-1])
    assert signed_sizes(folder) == (size, size, size)
    assert "tampering" in verify_run(folder, keys=keys(), parquet=False).counts
    with pytest.raises(LogError, match=f"two signed tree heads of size {size} with different roots"):
        check_signed_prefix(folder, 1, 0, keys())


@given(
    heads=st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=6),
    newest=st.integers(0, 5),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_set_of_heads_gives_one_signed_size(tmp_path_factory, heads, newest):
    """The largest head with the root of the lines counts. Other heads can be larger."""
    folder = log_folder(tmp_path_factory.mktemp("heads"))
    leaves = [leaf_hash(line) for line in lines(folder)]
    notes = [note(size, root_from_leaves(leaves[:size]) if fits else FALSE) for size, fits in heads]
    (folder.log_dir(1, 0) / "checkpoints").write_bytes(b"".join(each + b"\n" for each in notes))
    (folder.log_dir(1, 0) / "checkpoint").write_bytes(notes[newest % len(notes)])
    expected = max((size for size, fits in heads if fits and size <= len(leaves)), default=0)
    assert signed_sizes(folder) == (expected, expected, expected)


def test_lines_up_to_a_head_that_does_not_fit_are_not_judged(tmp_path):
    """A line that is not an event is after the matching head and before a larger false one."""
    folder = log_folder(tmp_path)
    events = len(lines(folder))
    with folder.segments(1, 0)[-1].open("ab") as file:
        file.write(b"garbage\n")
    for size in (events + 1, events + 9):
        false = note(size, FALSE)
        history = folder.log_dir(1, 0) / "checkpoints"
        before = history.read_bytes()
        history.write_bytes(before + false + b"\n")
        report = verify_run(folder, keys=keys(), parquet=False)
        history.write_bytes(before)
        assert {"tampering", "not signed"} <= set(report.counts)
        assert "corruption" not in report.counts
        assert (report.logs[0].signed, report.logs[0].events) == (events, events + 1)
        assert report.checked["events"] == events


def test_pinned_lines_without_their_head_are_reported(tmp_path):
    """The tree heads were cut back to that of the empty log, and a pin names more events."""
    folder = log_folder(tmp_path)
    pin = (folder.log_dir(1, 0) / "checkpoint").read_bytes()
    empty = note(0, root_from_leaves([]))
    (folder.log_dir(1, 0) / "checkpoint").write_bytes(empty)
    (folder.log_dir(1, 0) / "checkpoints").write_bytes(empty + b"\n")
    assert verify_run(folder, keys=keys(), parquet=False).sound
    report = verify_run(folder, keys=keys(), pins=[pin], parquet=False)
    [finding] = [finding for finding in report.findings if finding.kind == "unsigned"]
    assert finding.message == "26 events were signed when they were pinned, now 0 are"


def test_matching_heads_are_those_of_the_lines():
    """Sizes beyond the lines are lost, and one of several roots is enough."""
    roots = {0: (b"0",), 2: (b"x", b"2"), 3: (b"x",), 9: (b"9",)}
    match = match_heads(roots, 4, lambda size: str(size).encode() if size <= 4 else None)
    assert match == (2, 9, 4, (2, 3))
    assert match.describe("signed") == [
        "9 events were signed, but 4 exist: 5 are missing",
        "the first 2 events differ from the signed ones",
    ]


def test_note_of_a_head_is_found_in_both_files(tmp_path):
    """A note of another root is not."""
    folder = log_folder(tmp_path)
    path = folder.log_dir(1, 0)
    size, roots = max(read_heads(folder, 1, 0, keys()).roots.items())
    head = TreeHead(size, roots[0])
    newest = (path / "checkpoint").read_bytes()
    assert find_note(folder, 1, 0, head, keys()) == newest
    (path / "checkpoint").unlink()
    assert find_note(folder, 1, 0, head, keys()) == newest
    assert find_note(folder, 1, 0, TreeHead(size, FALSE), keys()) == b""
    assert find_note(folder, 1, 0, head, []) == b""


def test_other_keys_in_the_run_file_are_not_trusted(tmp_path):
    """Only the given keys count."""
    folder = log_folder(tmp_path)
    assert orjson.loads(folder.run_json.read_bytes())["verifier_key"] == str(keys()[0])
    assert read_heads(folder, 1, 0, []).roots == {}
