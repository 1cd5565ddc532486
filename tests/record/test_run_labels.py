"""Names, tags, archived runs and tombstones in the ledger."""

from __future__ import annotations

import hashlib
import json
import shutil

import filelock
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.errors import BadInputError, RunError
from ockham.record.ledger import read_entries
from ockham.record.run_folder import LEDGER, RunFolder, list_runs
from ockham.record.run_labels import (
    RunLabels,
    find_named_run,
    read_labels,
    remove_run,
    set_archived,
    set_name,
    set_tags,
)
from ockham.record.verify.run import verify_run
from tests.helpers.events import lines
from tests.helpers.runs import make_run


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path, "a", batches=3).folder


def merkle_root(leaves):
    """Return the root of RFC 6962, computed as the text of the standard defines it."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    middle = 1
    while middle * 2 < len(leaves):
        middle *= 2
    parts = merkle_root(leaves[:middle]) + merkle_root(leaves[middle:])
    return hashlib.sha256(b"\1" + parts).digest()


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("tag"), st.sampled_from("ab"), st.sets(st.sampled_from("xyz"), min_size=1)),
        st.tuples(st.just("untag"), st.sampled_from("ab"), st.sets(st.sampled_from("xyz"), min_size=1)),
        st.tuples(st.just("archive"), st.sampled_from("ab"), st.booleans()),
        st.tuples(st.just("name"), st.sampled_from("ab"), st.sampled_from([None, "n1", "n2"])),
    ),
    max_size=6,
)


@settings(max_examples=15, deadline=None)
@given(ACTIONS)
def test_labels_equal_those_of_a_plain_model_after_any_actions(tmp_path_factory, actions):
    """Refused actions change nothing. All labels are read from the ledger."""
    runs = tmp_path_factory.mktemp("runs")
    expected = {}
    for run_id in "ab":
        RunFolder(runs, run_id).create({"run.json": json.dumps({"run_id": run_id}).encode()})
        expected[run_id] = RunLabels()
    for action, run_id, value in actions:
        folder, old = RunFolder(runs, run_id), expected[run_id]
        try:
            if action == "tag":
                set_tags(folder, sorted(value), "me", "", remove=False)
                expected[run_id] = old._replace(tags=old.tags | value)
            elif action == "untag":
                set_tags(folder, sorted(value), "me", "", remove=True)
                assert value <= old.tags
                expected[run_id] = old._replace(tags=old.tags - value)
            elif action == "archive":
                set_archived(folder, "me", "", archived=value)
                expected[run_id] = old._replace(archived=value)
            else:
                set_name(folder, value, "me", "")
                assert value is None or value not in {expected[x].name for x in "ab" if x != run_id}
                expected[run_id] = old._replace(name=value)
        except BadInputError:
            assert action == "name" or not value <= old.tags
    found = read_labels(runs)
    assert {run_id: found.get(run_id, RunLabels()) for run_id in "ab"} == expected


def test_removal_leaves_a_tombstone_with_size_and_root_of_each_log(folder):
    """A copy of the run can still be compared with it."""
    leaves = lines(folder)
    digest = hashlib.sha256(folder.run_json.read_bytes()).hexdigest()
    remove_run(folder, "alice", "wrong data")
    assert list(folder.runs.iterdir()) == [folder.runs / LEDGER]
    data = json.loads(read_entries(folder.runs)[-1])["data"]
    assert (data["action"], data["run_id"], data["by"], data["reason"]) == (
        "REMOVE",
        "a",
        "alice",
        "wrong data",
    )
    assert data["run_json_sha256"] == digest
    root = merkle_root(leaves).hex()
    assert data["logs"] == [{"attempt": 1, "rank": 0, "size": len(leaves), "root": root}]
    assert verify_run(RunFolder(folder.runs, LEDGER), parquet=True).sound


def test_another_run_of_the_same_id_has_no_labels_of_the_removed_one(folder):
    """Labels belong to a run.json, not to a name."""
    set_tags(folder, ["x"], "me", "", remove=False)
    set_name(folder, "named", "me", "")
    assert find_named_run(folder.runs, "named") == "a"
    remove_run(folder, "me", "")
    assert read_labels(folder.runs) == {}
    make_run(folder.runs, "a", batches=4)
    assert read_labels(folder.runs) == {}


def test_unsigned_or_changed_entries_do_not_count(folder):
    """Someone without the key cannot tag or hide a run."""
    set_tags(folder, ["x"], "me", "", remove=False)
    ledger = RunFolder(folder.runs, LEDGER)
    segment = ledger.segments(1, 0)[0]
    segment.write_bytes(segment.read_bytes().replace(b'"TAG"', b'"ARCHIVE"'))
    assert read_labels(folder.runs) == {}
    shutil.rmtree(ledger.path)
    assert read_labels(folder.runs) == {}


def test_running_linked_and_renamed_runs_are_not_removed(folder, tmp_path):
    """Each is one clear error, and nothing is written."""
    with filelock.FileLock(folder.log_dir(1, 0) / "lock"), pytest.raises(RunError, match="is running"):
        remove_run(folder, "me", "")
    (tmp_path / "b").symlink_to(folder.path)
    with pytest.raises(RunError, match="rename it to that name"):
        remove_run(RunFolder(tmp_path, "b"), "me", "")
    folder.path.rename(tmp_path.parent / "elsewhere-a")
    folder.path.symlink_to(tmp_path.parent / "elsewhere-a")
    with pytest.raises(RunError, match="is a link"):
        remove_run(folder, "me", "")
    with pytest.raises(RunError, match="no run 'z'"):
        remove_run(RunFolder(tmp_path, "z"), "me", "")
    assert read_entries(tmp_path) == []
    shutil.rmtree(tmp_path.parent / "elsewhere-a")


@pytest.mark.parametrize("tag", ["", "UPPER", "a b", "-x", "x" * 41, "\n"])
def test_invalid_tag_is_refused(folder, tag):
    """The message contains the accepted characters."""
    with pytest.raises(BadInputError, match="use 1 to 40 of a-z"):
        set_tags(folder, [tag], "me", "", remove=False)


def test_invalid_names_and_texts_are_refused(folder):
    """Names are unique among names and IDs."""
    make_run(folder.runs, "b", batches=3)
    with pytest.raises(BadInputError, match="another run has it"):
        set_name(folder, "b", "me", "")
    set_name(folder, "same", "me", "")
    with pytest.raises(BadInputError, match="another run has it"):
        set_name(RunFolder(folder.runs, "b"), "same", "me", "")
    with pytest.raises(BadInputError, match="accepted are 1 to 64 of a-z"):
        set_name(folder, "../x", "me", "")
    with pytest.raises(BadInputError, match="use one line"):
        set_archived(folder, "me", "two\nlines", archived=True)
    with pytest.raises(BadInputError, match="more than 32 tags"):
        set_tags(folder, [f"t{i}" for i in range(33)], "me", "", remove=False)
    assert list_runs(folder.runs) == ["a", "b"]
