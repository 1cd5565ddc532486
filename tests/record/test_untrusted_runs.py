"""Untrusted run folders: verify returns findings with their class, without a traceback or blocking."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import stat

import orjson
import pytest

from ockham.catalog import Catalog
from ockham.errors import OckhamError, UnverifiableError
from ockham.record.run_folder import RunFolder, open_regular_file
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.report import MAX_FINDINGS_PER_CLASS, NOTE_CLASSES
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.replay.trajectory import load_trajectory
from tests.helpers.events import lines
from tests.helpers.log_edits import find_line, replace_data, rewrite_lines
from tests.helpers.runs import make_run

HOSTILE = (
    "",
    "../x",
    "A/b",
    "a\0b",
    "x" * 5000,
    "\u2028",
    -1,
    0,
    1.5,
    2.0,
    2**53 - 1,
    float(2**53 - 2),
    2**63,
    1e300,
    True,
    None,
    [],
    {},
    [[]],
    {"a": 1},
    ["NaN"],
    "NaN",
    "9999-12-31T23:59:59.999999Z",
    "0000-01-01T00:00:00.000000Z",
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    make_run(folder, batches=40)
    return folder / "a"


@pytest.fixture
def run(original, tmp_path):
    shutil.copytree(original, tmp_path / "a")
    return RunFolder(tmp_path, "a")


def found_in(run, **kwargs):
    return verify_run(run, **kwargs).counts.keys() - NOTE_CLASSES


def places(value, at=()):
    """Yield the path of every value in an event."""
    yield at
    inside = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inside = enumerate(value[:1])
    for key, item in inside:
        yield from places(item, (*at, key))


def with_value(line, at, value):
    event = orjson.loads(line)
    inner = event
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return orjson.dumps(event)


@pytest.mark.timeout(120)
def test_hostile_event_value_never_breaks_verify(run):
    """Every field of every kind gets every hostile value."""
    draw = random.Random(5)
    before = lines(run)
    one_each = {orjson.loads(line)["type"]: at for at, line in enumerate(before)}
    tried = 0
    for at in one_each.values():
        for place in list(places(orjson.loads(before[at])))[1:]:
            for value in draw.sample(HOSTILE, 1):
                changed = with_value(before[at], place, value)
                if changed == before[at]:
                    continue
                rewrite_lines(
                    run, lambda _, at=at, changed=changed: [*before[:at], changed, *before[at + 1 :]]
                )
                assert found_in(run, parquet=tried % 4 == 0), (place, value)
                tried += 1
    assert tried > 120


@pytest.mark.parametrize(
    ("kind", "metadata", "classes"),
    [
        ("checkpoint.saved", {"snapshot_id": "Accepted-00000009"}, {"tampering", "derived"}),
        ("checkpoint.saved", {"snapshot_id": "../../etc"}, {"tampering", "derived"}),
        (
            "checkpoint.saved",
            {"files": [{"name": "a\0b", "sha256": "0" * 64, "bytes": 1}]},
            {"tampering", "derived"},
        ),
        ("checkpoint.saved", {"log_size": 3.0}, {"tampering", "derived"}),
        ("run.started", {"world_size": 2.0}, {"tampering", "derived"}),
        ("run.started", {"world_size": 2**53 - 1}, {"tampering", "derived"}),
    ],
)
@pytest.mark.timeout(120)
def test_known_hostile_value_is_reported_with_its_class(run, kind, metadata, classes):
    """The broken signature is reported too."""

    def change(found):
        at = find_line(found, kind)
        return [*found[:at], replace_data(found[at], **metadata), *found[at + 1 :]]

    rewrite_lines(run, change)
    assert found_in(run) == classes
    assert verify_run(run).counts.get("gap", 0) <= MAX_FINDINGS_PER_CLASS


@pytest.mark.parametrize("depth", [200, 254, 300, 900])
@pytest.mark.parametrize("field", ["ext", "custom"])
def test_deep_nesting_is_handled_at_any_depth(run, field, depth):
    """Every JSON library has its own limit."""
    nested = b'{"a":' * depth + b"1" + b"}" * depth
    at = find_line(lines(run), "context.recorded")
    part = b'"ext":' if field == "ext" else b'"given":{"custom":'
    old, new = (
        (b'"data":{', b'"data":{' + part + nested + b",")
        if field == "ext"
        else (b'"given":{', part + nested + b",")
    )
    rewrite_lines(run, lambda found: [*found[:at], found[at].replace(old, new, 1), *found[at + 1 :]])
    assert found_in(run)
    with contextlib.suppress(OckhamError):
        assert not replay_run(run, processes=1).identical or field == "ext"
    with contextlib.suppress(OckhamError):
        load_trajectory(run)


@pytest.mark.parametrize("kind", ["decision.made", "plugin_state.recorded", "run.started", "policy.loaded"])
def test_deep_nesting_in_other_events_is_a_finding(run, kind):
    """Replay returns a result or one error."""
    at = find_line(lines(run), kind)
    field = {
        "decision.made": "changes",
        "plugin_state.recorded": "state",
        "run.started": "settings",
        "policy.loaded": "plugins",
    }[kind]
    event = orjson.loads(lines(run)[at])
    event["data"][field] = "HERE"
    nested = b'{"a":' * 500 + b"1" + b"}" * 500
    rewrite_lines(
        run, lambda found: [*found[:at], orjson.dumps(event).replace(b'"HERE"', nested), *found[at + 1 :]]
    )
    assert found_in(run)
    with contextlib.suppress(OckhamError):
        replay_run(run, processes=1)
    with contextlib.suppress(OckhamError):
        load_trajectory(run)


SOMETHING_ELSE = {
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "device": lambda path: os.symlink("/dev/zero", path),
}


@pytest.mark.parametrize("what", SOMETHING_ELSE)
@pytest.mark.timeout(120)
def test_verify_does_not_block_on_named_pipes(run, what):
    """Each file in turn is replaced by a pipe."""
    paths = [path for path in sorted(run.path.rglob("*")) if path.is_file() and "lock" not in path.name]
    assert len(paths) > 12
    for path in paths:
        aside = path.with_name(".aside")
        path.rename(aside)
        SOMETHING_ELSE[what](path)
        try:
            assert found_in(run), path
        except UnverifiableError:
            # No key then.
            assert path == run.run_json
        (os.rmdir if what == "folder" else os.unlink)(path)
        aside.rename(path)
    assert not found_in(run)


def test_only_regular_files_are_opened(tmp_path):
    """A link to a regular file is followed."""
    (tmp_path / "file").write_bytes(b"whole")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    with open_regular_file(tmp_path / "link") as file:
        assert file.read() == b"whole"
    with pytest.raises(OSError, match="not a regular file"):
        open_regular_file(tmp_path / "pipe")


def test_deeply_nested_run_json_is_a_finding(run):
    """Other commands show the rest."""
    run.run_json.write_bytes(b"[" * 200_000)
    with pytest.raises(UnverifiableError, match="names no verifier key"):
        verify_run(run)
    assert not verify_run(run, keys=[load_or_create_signer().verifier]).sound
    assert Catalog(run.runs).rows("select run_id from runs") == [{"run_id": "a"}]
