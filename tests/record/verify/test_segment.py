"""Verification by segments, on one core or several: the findings equal those of a single file."""

from __future__ import annotations

import functools
import random
import shutil

import orjson
import pytest

from ockham.record import attempt
from ockham.record.log_writer import LogWriter
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.merkle import leaf_hash, root_from_leaves
from ockham.record.tlog.tiles import WIDTH
from ockham.record.verify import segment as segment_module
from ockham.record.verify.run import verify_run
from ockham.record.verify.segment import SegmentTask, verify_segment
from ockham.record.verify.tree import LogTree
from tests.helpers.events import lines
from tests.helpers.log_edits import sign_log
from tests.helpers.runs import make_run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run in many segments. Each boundary is inside a batch."""
    folder = tmp_path_factory.mktemp("segments")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "LogWriter", functools.partial(LogWriter, segment_events=37))
        patch.setattr(attempt.Attempt, "_derive_in_background", lambda *_: None)
        make_run(folder, batches=180, nan_at=7)
    return folder


@pytest.fixture
def run(original, tmp_path):
    shutil.copytree(original / "a", tmp_path / "a")
    return RunFolder(tmp_path, "a")


def expected(run, **kwargs):
    """Return the findings without their location, and the other parts of the report."""
    report = verify_run(run, parquet=False, **kwargs)
    words = [(f.kind, f.sequence, f.message) for f in report.findings]
    return report.counts, sorted(words, key=repr), report.checked, report.logs


def joined(run, to):
    """Copy a run, and join its segments to one."""
    shutil.copytree(run.path, to / "a")
    one = RunFolder(to, "a")
    whole = b"".join(segment.read_bytes() for segment in one.segments(1, 0))
    for segment in one.segments(1, 0):
        segment.unlink()
    (one.log_dir(1, 0) / f"{0:012d}.jsonl").write_bytes(whole)
    return one


def test_honest_run_of_many_segments_is_sound(run):
    """Parquet files are checked too."""
    report = verify_run(run)
    assert len(run.segments(1, 0)) > 12
    assert report.sound, report.findings
    assert report.checked["Parquet files"] >= 3
    assert report.checked["events"] == len(lines(run))


def test_two_processes_give_the_result_of_one(run):
    """Findings, counts and roots are equal."""
    segment = run.segments(1, 0)[4]
    segment.write_bytes(segment.read_bytes().replace(b'"observed":2', b'"observed":3', 3))
    one, two = verify_run(run, jobs=1), verify_run(run, jobs=2)
    assert one.to_dict() == two.to_dict()
    assert not one.sound


def test_many_segments_give_the_result_of_one(run, tmp_path):
    """Twelve logs with changed, dropped, doubled or swapped lines."""
    draw = random.Random(23)
    before = {segment: segment.read_bytes() for segment in run.segments(1, 0)}
    for number in range(12):
        for _ in range(draw.randint(1, 3)):
            segment = draw.choice(list(before))
            segment.write_bytes(changed(segment.read_bytes(), draw))
        sign_log(run)
        counts = [segment.read_bytes().count(b"\n") for segment in before]
        one = joined(run, tmp_path / str(number))
        many = expected(run)
        moved = [found for found in many[1] if "was expected" in found[2]]
        assert len(moved) == sum(sum(counts[:i]) != 37 * i for i in range(len(counts)))
        rest = [found for found in many[1] if found not in moved]
        assert (rest, *many[2:]) == expected(one)[1:], number
        for path, data in before.items():
            path.write_bytes(data)
        shutil.rmtree(tmp_path / str(number))


def changed(data, draw):
    """Return the lines of a segment with one change."""
    found = data.splitlines(keepends=True)
    at = draw.randrange(len(found))
    what = draw.choice(["drop", "double", "swap", "garbage", "knob", "micro", "hook", "count", "policy"])
    event = orjson.loads(found[at])
    if what == "drop":
        del found[at]
    elif what == "double":
        found.insert(at, found[at])
    elif what == "swap":
        found[at], found[0] = found[0], found[at]
    elif what == "garbage":
        found[at] = b'{"no": "event"}\n'
    elif what == "knob" and event["data"].get("changes"):
        event["data"]["changes"][0]["before"] = 12.5
    elif what == "micro" and "micro_step" in event["data"]:
        event["data"]["micro_step"] += 1
    elif what == "hook" and "order" in event["data"]:
        event["data"]["hook"] = "on_evaluate"
    elif what == "count" and "decisions" in event["data"]:
        event["data"]["decisions"]["count"] += 1
    elif what == "policy" and "policy_revision" in event["data"]:
        event["data"]["policy_revision"] = "sha256:" + "0" * 64
    if what in ("knob", "micro", "hook", "count", "policy"):
        found[at] = orjson.dumps(event) + b"\n"
    return b"".join(found)


def test_tree_of_the_parts_equals_the_tree_of_the_whole(run):
    """Roots, leaves and blocks are those of the plain algorithm."""
    hashes = [leaf_hash(line) for line in lines(run)]
    tree = LogTree(run.log_dir(1, 0), {1, 256, 300})
    first = 0
    for segment in run.segments(1, 0):
        judged = verify_segment(SegmentTask(run, 1, 0, segment, None, False, first))
        tree.add(segment, judged.leaves, judged.block_offsets)
        first += len(judged.leaves) // 32
    tree.close()
    assert tree.size == len(hashes) > 2 * WIDTH
    for size in (0, 1, 37, 255, 256, 257, 300, 512, 513, len(hashes)):
        assert tree.root_at(size) == root_from_leaves(hashes[:size]), size
    assert tree.root_at(len(hashes) + 1) is None
    for block in range(len(hashes) // WIDTH + 1):
        assert tree.leaves(block) == hashes[block * WIDTH : (block + 1) * WIDTH]
    assert tree.leaves(99) == []
    assert tree.mismatched_tiles == set()


def test_missing_segment_is_a_gap(run):
    """It is in the middle."""
    run.segments(1, 0)[3].unlink()
    report = verify_run(run, parquet=False)
    assert any(f.kind == "gap" and "begins with event 148" in f.message for f in report.findings)
    assert "tampering" in report.counts


def test_bytes_at_the_end_of_an_inner_segment_are_damage(run):
    """A crash tears only the last segment."""
    with run.segments(1, 0)[2].open("ab") as file:
        file.write(b"torn")
    assert "corruption" in verify_run(run, parquet=False).counts


@pytest.mark.parametrize("block", [97, 3000])
def test_block_size_does_not_change_the_result(run, monkeypatch, block):
    """Lines can be longer than a block in both directions."""
    segment = run.segments(1, 0)[4]
    segment.write_bytes(segment.read_bytes().replace(b'"observed":2', b'"observed":3', 3))
    whole = expected(run)
    monkeypatch.setattr(segment_module, "CHUNK", block)
    assert expected(run) == whole
    assert not verify_run(run, parquet=False).sound


def test_one_segment_per_line_gives_the_result_of_one(tmp_path):
    """Batches span several segments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "LogWriter", functools.partial(LogWriter, segment_events=2))
        patch.setattr(attempt.Attempt, "_derive_in_background", lambda *_: None)
        patch.setattr(attempt, "update_parquet", lambda *_, **__: None)
        run = make_run(tmp_path / "two", batches=12).folder
    assert len(run.segments(1, 0)) > 20
    one = joined(run, tmp_path / "one")
    assert expected(run)[1:] == expected(one)[1:]
    assert verify_run(run, parquet=False).sound
    changes = sum(line.count(b'"before"') for line in lines(run))
    assert changes > 3
    for each in (run, one):
        for segment in each.segments(1, 0):
            segment.write_bytes(segment.read_bytes().replace(b'"before":', b'"before":12.5,"x":', 1))
        sign_log(each)
    assert "corruption" in expected(run)[0]


@pytest.mark.parametrize(
    ("change", "said_of_it"),
    [
        (
            {"type": "ockham.decision.unmade.v1"},
            "does not fit its schema: unknown type 'ockham.decision.unmade.v1'",
        ),
        ({"type": "decision.made"}, "does not fit its schema: unknown type 'decision.made'"),
        ({"type": 7}, "is not an event of Ockham"),
        ({"data": []}, "is not an event of Ockham"),
        ({"ext": {"long": "x" * 66_000}}, "is too long"),
        ({"data.hook": "on_lunch"}, "does not fit its schema: decision.made: data/hook"),
        ({"data.rank": 3}, "but is at"),
    ],
)
def test_invalid_line_is_reported_with_its_reason(run, change, said_of_it):
    """The finding has its position."""
    segment = run.segments(1, 0)[2]
    found = segment.read_bytes().splitlines()
    at = next(i for i, line in enumerate(found) if b'"ockham.decision.made.v1"' in line)
    event = orjson.loads(found[at])
    for name, value in change.items():
        inner, key = (event["data"], name[5:]) if name.startswith("data.") else (event, name)
        (event["data"] if name == "ext" else inner)[key] = value
    found[at] = orjson.dumps(event)
    segment.write_bytes(b"".join(line + b"\n" for line in found))
    sign_log(run)
    report = verify_run(run, parquet=False)
    assert [f.sequence for f in report.findings if said_of_it in f.message] == [74 + at], report.findings
