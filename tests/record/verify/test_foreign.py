"""Files that no signed event names: each is listed, and none makes a run unsound."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from tests.helpers.resumed_run import resumed_run

PLACES = (
    "",
    "policies/",
    "blobs/",
    "checkpoints/",
    "checkpoints/resume-00000009/",
    "log/1-0/",
    "log/1-0/torn/",
    "log/7-0x/",
    "other/deep/",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two attempts with a checkpoint, whose first log has lost its unfinished tail."""
    runs = tmp_path_factory.mktemp("foreign")
    resumed_run(runs)
    return RunFolder(runs, "a")


def foreign(folder):
    return {finding.place for finding in verify_run(folder).findings if finding.kind == "foreign"}


def test_run_as_it_was_written_has_no_foreign_file(whole):
    """Events name policies, checkpoints and removed bytes."""
    assert foreign(whole) == set()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    place=st.sampled_from(PLACES), name=st.from_regex(r"[a-zA-Z0-9_-]{1,20}(\.[a-z]{1,5})?", fullmatch=True)
)
def test_planted_file_is_listed_and_does_not_change_the_result(whole, tmp_path_factory, place, name):
    """The place and the name do not matter."""
    folder = RunFolder(tmp_path_factory.mktemp("planted"), "a")
    shutil.copytree(whole.path, folder.path)
    path = folder.path / place / name
    if path.exists() or name in {"lock", "reserve", "checkpoint", "checkpoints"}:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"planted")
    assert foreign(folder) == {f"{place}{name}"}
    assert verify_run(folder).sound


def test_planted_link_is_listed_and_not_followed(whole, tmp_path):
    """Also a link to a folder."""
    folder = RunFolder(tmp_path, "a")
    shutil.copytree(whole.path, folder.path)
    (folder.path / "policies" / "link").symlink_to("/etc")
    assert foreign(folder) == {"policies/link"}
