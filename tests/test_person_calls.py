"""Requests of people to a running loop: applied once, recorded first, equal on all ranks."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import tempfile
import timeit
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ockham.errors import OckhamWarning, RunStoppedError
from ockham.event import event_kind
from ockham.policy import load_policy
from ockham.record.checkpoints import ResumePoint
from ockham.record.request_folder import FOLDER
from ockham.record.run_folder import RunFolder
from ockham.record.tlog.note import load_or_create_signer
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.replay.trajectory import load_trajectory
from ockham.replay.whatif import whatif
from ockham.run import Run
from tests.helpers.events import events, plain_validator
from tests.helpers.ranks import run_on_threads
from tests.helpers.requests import ask, new_signer, signed_request

PEOPLE = {
    "note.added",
    "intervention.applied",
    "stop.requested",
    "checkpoint.approved",
    "request.refused",
}


def train(run, first=0, last=30, at=None):
    """Train on fixed losses. `at` contains a function per iteration, which is called before its batch."""
    draw = random.Random(7)
    losses = [3.0 + draw.gauss(0, 0.3) for _ in range(200)]
    for iter_num in range(first, last):
        (at or {}).get(iter_num, lambda: None)()
        ctx = run.start_batch(iter_num, losses[iter_num], learning_rate=1e-3)
        ctx = run.end_batch(ctx, stepped=ctx.updated, grad_norm=1.0)
        if ctx.halt or run.stop_requested:
            break
    return ctx


def select_data(kind, folder, attempt=1, rank=0):
    return [event["data"] for event in events(folder, attempt, rank) if event["type"] == f"ockham.{kind}.v1"]


def people(folder, attempt=1, rank=0):
    kinds = (event_kind(event["type"]) for event in events(folder, attempt, rank))
    return [kind for kind in kinds if kind in PEOPLE]


def requests(folder):
    return sorted(os.listdir(folder.path / FOLDER))


@pytest.fixture
def changed(tmp_path):
    """A run whose target rate was changed to 0.9 before iteration 11."""
    run = Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30})
    with run:
        train(run, at={10: lambda: ask(run.folder, "INTERVENE", settings=("gate.target=0.9",))})
    return run


def test_intervention_changes_the_policy_from_the_next_batch_on(changed):
    """The event has who, why, what, and the old and new value."""
    [data] = select_data("intervention.applied", changed.folder)
    assert (data["by"], data["reason"], data["iter_num"]) == ("alice", "because of the loss", 11)
    assert data["changes"] == [{"setting": "gate.target", "before": 0.6, "after": 0.9}]
    before, after = load_policy("balanced"), changed.policy
    assert (data["from_policy_revision"], data["policy_revision"]) == (before.revision, after.revision)
    revisions = [context["policy_revision"] for context in select_data("context.recorded", changed.folder)]
    assert revisions == [before.revision] * 11 + [after.revision] * 19
    gate = next(plugin for plugin in changed.chain.plugins if plugin.name == "gate")
    assert gate.target == 0.9
    assert requests(changed.folder) == []


def test_events_of_people_pass_the_independent_validator(changed):
    """jsonschema validates each event, and verify accepts the run."""
    for event in events(changed.folder):
        if event_kind(event["type"]) in PEOPLE:
            plain_validator(event_kind(event["type"])).validate(event)
    report = verify_run(changed.folder)
    assert report.sound
    assert report.checked["requests"] == 1


def test_replay_is_identical_across_an_intervention(changed):
    """Plugins of the new policy start from the state of the old ones."""
    report = replay_run(changed.folder)
    assert report.identical
    # The state at the start, and that at the intervention.
    assert report.total("frames") == 2
    assert report.total("decisions") == len(select_data("decision.made", changed.folder))
    assert replay_run(changed.folder, iteration=20).identical


def test_whatif_of_the_recorded_settings_is_exact_until_the_intervention(changed):
    """Each part of the run is compared under its own policy."""
    legs = load_trajectory(changed.folder)
    assert [len(leg.steps) for leg in legs] == [11, 19]
    before = load_policy("balanced")
    assert [leg.policy.revision for leg in legs] == [before.revision, changed.policy.revision]
    result = whatif(legs, before, "as before")
    assert [row.recorded for row in result.rows[:11]] == [row.whatif for row in result.rows[:11]]


def test_state_of_plugins_survives_an_intervention(tmp_path):
    """A change to the same kind of value does not reset the threshold of the gate."""
    runs = [Run("balanced", runs=tmp_path, run_id=name, facts={"max_iters": 30}) for name in ("a", "b")]
    asks = {10: lambda: ask(runs[0].folder, "INTERVENE", settings=("hyperparameters.grad_clip=0.5",))}
    for run, at in zip(runs, (asks, {}), strict=True):
        with run:
            train(run, at=at)
    knobs = [[c["left"] for c in select_data("context.recorded", run.folder)] for run in runs]
    assert knobs[0] == knobs[1]
    given = [context["given"]["grad_clip"] for context in select_data("context.recorded", runs[0].folder)]
    assert given[11:] == [0.5] * 19


def resume(folder, iter_num=0):
    point = ResumePoint(iter_num, None, None, {}, {}, {})
    return Run(runs=folder.runs, run_id=folder.run_id, facts={"max_iters": 30}, resumed=point)


def test_resume_keeps_the_changed_policy(changed):
    """Without --policy a resume uses the last policy of the run."""
    with resume(changed.folder) as run:
        assert run.policy.revision == changed.policy.revision
        train(run, last=5)
    assert people(changed.folder, attempt=2) == []
    assert replay_run(changed.folder).identical


def test_resume_with_a_policy_warns_that_it_replaces_the_changed_one(changed):
    """The named policy is used, as without an intervention."""
    point = ResumePoint(0, None, None, {}, {}, {})
    options = {"runs": changed.folder.runs, "run_id": "a", "facts": {"max_iters": 30}, "resumed": point}
    with pytest.warns(OckhamWarning, match="replaces the one that a person has changed"):
        run = Run("balanced", **options)
    assert run.policy.revision == load_policy("balanced").revision
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Run("balanced", overrides=["gate.target=0.9"], **options)


def test_request_that_was_applied_is_refused_in_a_later_attempt(tmp_path):
    """A copy of the request that an attacker has kept is not applied twice."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30}) as run:
        signed = signed_request(run.folder, "INTERVENE", settings=("gate.target=0.9",))
        path = run.folder.path / FOLDER / f"{signed.request.request_id}.note"
        path.parent.mkdir()
        path.write_text(signed.note)
        train(run, last=5, at={3: lambda: path.write_text(signed.note)})
    assert people(run.folder) == ["intervention.applied", "request.refused"]
    with resume(run.folder) as again:
        path.write_text(signed.note)
        train(again, last=5)
    [refused] = select_data("request.refused", run.folder, attempt=2)
    assert (refused["reason_code"], refused["request_id"]) == ("DUPLICATE", signed.request.request_id)
    assert requests(run.folder) == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("gate.target=2.0", "target"),
        ("gate.targte=0.5", "did you mean"),
        ("nothing.x=1", "no plugin"),
        ("gate.target=0.6", "has the value 0.6 already"),
        ("hyperparameters.evaluations=7", "read once"),
        ("gate.target=[", "not a YAML value"),
    ],
)
def test_intervention_that_cannot_be_applied_is_refused(tmp_path, setting, message):
    """The policy remains, and the event names the reason."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30}) as run:
        revision = run.policy.revision
        train(run, last=5, at={1: lambda: ask(run.folder, "INTERVENE", settings=(setting,))})
        assert run.policy.revision == revision
    [refused] = select_data("request.refused", run.folder)
    assert (refused["reason_code"], refused["by"]) == ("NOT_ACCEPTED", "alice")
    assert message in refused["message"]
    assert requests(run.folder) == []
    assert verify_run(run.folder).sound


def test_requests_without_a_trusted_key_are_refused_and_recorded(tmp_path):
    """Unsigned, of another key, of another run: nothing is applied."""
    other = Run("balanced", runs=tmp_path, run_id="b", facts={"max_iters": 30})
    with other:
        train(other, last=2)
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30}) as run:
        (run.folder.path / FOLDER).mkdir()
        unsigned = signed_request(run.folder, "STOP")
        copies = {
            unsigned.request.request_id: unsigned.note.partition("\n\n")[0] + "\n",
            (wrong := signed_request(run.folder, "STOP", new_signer())).request.request_id: wrong.note,
            (foreign := signed_request(other.folder, "STOP")).request.request_id: foreign.note,
        }
        for request_id, note in copies.items():
            path = run.folder.path / FOLDER / f"{request_id}.note"
            path.write_text(note)
            os.utime(path, (1e9, 1e9))
        ctx = train(run, last=10)
    assert ctx.iter_num == 9
    refused = {data["reason_code"]: data for data in select_data("request.refused", run.folder)}
    assert set(refused) == {"UNSIGNED", "WRONG_SIGNATURE", "OTHER_RUN"}
    # Only an authenticated request has a person.
    assert {code: data["by"] for code, data in refused.items()} == {
        "UNSIGNED": None,
        "WRONG_SIGNATURE": None,
        "OTHER_RUN": "alice",
    }
    assert select_data("run.finished", run.folder)[0]["reason_code"] == "COMPLETED"
    assert verify_run(run.folder).sound


def test_request_of_a_trusted_key_is_applied(tmp_path):
    """`request_keys` is recorded, and verify accepts the key only with it."""
    friend = new_signer()
    options = {"runs": tmp_path, "run_id": "a", "facts": {"max_iters": 30}}
    with Run("balanced", request_keys=[friend.verifier], **options) as run:
        train(run, last=5, at={1: lambda: ask(run.folder, "NOTE", friend)})
    assert select_data("run.started", run.folder)[0]["request_keys"] == [str(friend.verifier)]
    assert select_data("note.added", run.folder)[0]["key"] == str(friend.verifier)
    assert verify_run(run.folder).sound


def test_flood_is_recorded_in_few_events(tmp_path):
    """64 hostile files of one step make five events, and training continues."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30}) as run:
        (run.folder.path / FOLDER).mkdir()
        for number in range(200):
            (run.folder.path / FOLDER / f"\x1b[31m{number}").write_bytes(b"x" * 100_000)
        ask(run.folder, "NOTE")
        train(run, last=6)
    refused = select_data("request.refused", run.folder)
    assert sum(data["count"] for data in refused) == 200
    assert len(refused) <= 5 * 6
    assert all(data["file"].isprintable() for data in refused)
    assert people(run.folder).count("note.added") == 1
    assert requests(run.folder) == []


def plant(folder, kind, number):
    """Put one entry of an attacker, or a true request, into the folder. Return True for a true one."""
    path = folder.path / FOLDER
    signed = signed_request(folder, "NOTE")
    name = f"{signed.request.request_id}.note"
    note = signed.note
    if kind == "true":
        (path / name).write_text(note)
        return True
    if kind == "copy":
        (path / name).write_text(note)
        other = signed_request(folder, "NOTE").request.request_id
        (path / f"{other}.note").write_text(note)
        return True
    notes = {
        "changed": note.replace("alice", "mally"),
        "unsigned": note.partition("\n\n")[0],
        "other key": signed_request(folder, "NOTE", new_signer()).note,
        "garbage": "\x00" * number,
        "huge": note * 200,
    }
    if kind == "pipe":
        os.mkfifo(path / name)
    elif kind == "folder":
        (path / name / "x").mkdir(parents=True)
    else:
        (path / name).write_text(notes[kind])
        os.utime(path / name, (1e9, 1e9))
    return False


_KINDS = ("true", "copy", "changed", "unsigned", "other key", "garbage", "huge", "pipe", "folder")


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 7), st.sampled_from(_KINDS)), max_size=14))
def test_run_applies_exactly_the_true_requests_among_hostile_ones(entries):
    """Each true request has one event, everything else is refused, and the log stays valid."""
    with tempfile.TemporaryDirectory() as scratch:
        true = []
        with Run("balanced", runs=scratch, run_id="a", facts={"max_iters": 30}) as run:
            (run.folder.path / FOLDER).mkdir()

            def plant_all(iter_num):
                kinds = [kind for at, kind in entries if at == iter_num]
                true.extend(plant(run.folder, kind, number) for number, kind in enumerate(kinds))

            train(run, last=10, at={i: functools.partial(plant_all, i) for i in range(8)})
        noted = select_data("note.added", run.folder)
        assert len(noted) == len({data["request_id"] for data in noted}) == sum(true)
        refused = sum(data["count"] for data in select_data("request.refused", run.folder))
        assert refused == len(true) - sum(true) + sum(kind == "copy" for _, kind in entries)
        assert verify_run(run.folder).sound


def test_stop_ends_the_run_after_the_present_step(tmp_path):
    """The end has its own reason, and a resume continues."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30}) as run:
        ctx = train(run, at={10: lambda: ask(run.folder, "STOP")})
        assert ctx.iter_num == 10
        assert run.stop_message == "stopped by alice: because of the loss"
    ended = select_data("run.finished", run.folder)[0]
    assert (ended["reason_code"], ended["message"]) == ("STOPPED_BY_USER", run.stop_message)
    assert select_data("stop.requested", run.folder)[0]["iter_num"] == 10
    with resume(run.folder, 11) as again:
        assert train(again, first=11).iter_num == 29
    assert select_data("run.finished", run.folder, attempt=2)[0]["reason_code"] == "COMPLETED"
    assert verify_run(run.folder).sound


def test_loop_that_ignores_a_stop_is_ended(tmp_path):
    """The next batch raises, and the run ends with the same reason."""
    run = Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30})
    with pytest.raises(RunStoppedError, match="stopped by alice"), run:
        for iter_num in range(30):
            if iter_num == 3:
                ask(run.folder, "STOP")
            run.end_batch(run.start_batch(iter_num, 3.0))
    assert select_data("run.finished", run.folder)[0]["reason_code"] == "STOPPED_BY_USER"
    assert len(select_data("context.recorded", run.folder)) == 4


def test_two_ranks_apply_the_same_requests_at_the_same_step(tmp_path):
    """Rank 0 reads. Both logs replay, and both ends agree."""

    def work(rank, gather):
        options = {"rank": rank, "world_size": 2, "all_gather": gather, "facts": {"max_iters": 30}}
        with Run("balanced", runs=tmp_path, run_id="a", **options) as run:

            def write(action, **fields):
                return lambda: rank or ask(run.folder, action, **fields)

            at = {5: write("INTERVENE", settings=("gate.target=0.9",)), 9: write("NOTE"), 20: write("STOP")}
            return train(run, at=at).iter_num, run.policy.revision

    results = run_on_threads(work)
    assert results[0] == results[1]
    assert results[0][0] == 20
    folder = RunFolder(tmp_path, "a")
    for kind in ("intervention.applied", "stop.requested"):
        first, second = (select_data(kind, folder, rank=rank)[0] for rank in (0, 1))
        assert (first["request"], first["iter_num"]) == (second["request"], second["iter_num"])
    assert people(folder, rank=1) == ["intervention.applied", "stop.requested"]
    assert replay_run(folder).identical
    assert verify_run(folder).sound


def test_ranks_without_messages_refuse_what_only_one_would_follow(tmp_path):
    """A note is recorded; a stop of one rank would leave the others waiting."""
    run = Run("balanced", runs=tmp_path, run_id="a", world_size=2, facts={"max_iters": 30})
    with run:
        train(run, last=5, at={1: lambda: [ask(run.folder, "STOP"), ask(run.folder, "NOTE")]})
    assert people(run.folder) == ["request.refused", "note.added"]
    assert select_data("request.refused", run.folder)[0]["reason_code"] == "RANKS_NOT_CONNECTED"


_VICTIM = """
import os, signal, sys
from ockham.record import log_writer, request_folder
from ockham.run import Run
from tests.helpers.requests import ask
from tests.test_person_calls import resume, train
from ockham.record.run_folder import RunFolder

runs, stage, attempt = sys.argv[1], sys.argv[2], sys.argv[3]
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
if stage == "before the record":
    Run._record_intervention = die
elif stage == "while it is recorded":
    log_writer.LogWriter.set_policy_revision = die
elif stage == "before it is applied":
    Run._use_policy = die
elif stage == "before the file is removed":
    request_folder.RequestFolder.remove = die
folder = RunFolder(runs, "a")
run = Run("balanced", runs=runs, run_id="a", facts={"max_iters": 30}) if attempt == "1" else resume(folder)
with run:
    # A run without a durable line has nothing to resume.
    at = {5: lambda: [run.flush(), ask(folder, "INTERVENE", settings=("gate.target=0.9",))]}
    train(run, at=at if attempt == "1" else {})
"""
_STAGES = ("before the record", "while it is recorded", "before it is applied", "before the file is removed")


@pytest.mark.parametrize("stage", _STAGES)
def test_kill_at_each_stage_applies_a_request_exactly_once(tmp_path, stage):
    """No request has an effect without a signed record, and none is applied twice after a resume."""

    def start(stage, attempt):
        command = [sys.executable, "-c", _VICTIM, str(tmp_path), stage, attempt]
        return subprocess.run(command, check=False, timeout=120).returncode

    assert start(stage, "1") == -signal.SIGKILL
    folder = RunFolder(tmp_path, "a")
    assert len(requests(folder)) == 1
    assert start("", "2") == 0
    attempts = [attempt for attempt, _ in folder.logs()]
    applied = [data for attempt in attempts for data in select_data("intervention.applied", folder, attempt)]
    assert len(applied) == 1
    for attempt in attempts:
        own = select_data("intervention.applied", folder, attempt)
        changed = applied[0]["policy_revision"]
        for context in select_data("context.recorded", folder, attempt):
            is_later = attempt == 2 if not own else context["iter_num"] >= own[0]["iter_num"]
            assert (context["policy_revision"] == changed) == is_later
    assert requests(folder) == []
    assert verify_run(folder).sound
    assert replay_run(folder).identical


def test_step_without_a_request_stays_cheap(tmp_path):
    """The look at the folder takes less than 20 us per step."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30}) as run:
        train(run, last=3)
        # The fastest of several runs, because other processes share the machine.
        assert min(timeit.repeat(run._requests.poll, number=500, repeat=7)) / 500 < 20e-6


def test_stop_of_the_own_key_needs_no_setting(tmp_path):
    """The key of the log is trusted."""
    with Run("balanced", runs=tmp_path, run_id="a", facts={"max_iters": 30}) as run:
        train(run, at={2: lambda: ask(run.folder, "STOP", load_or_create_signer())})
    assert "request_keys" not in select_data("run.started", run.folder)[0]
    assert people(run.folder) == ["stop.requested"]
