"""Replay: unchanged runs are identical, and each change is found at its exact event."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import sys

import orjson
import pytest

from ockham.errors import BadInputError, PolicyError, RunError, UnverifiableError
from ockham.plugin import OccamPlugin
from ockham.record.checkpoints import find_resume_point
from ockham.record.run_folder import RunFolder
from ockham.replay.runner import replay_run
from ockham.run import Run
from tests.helpers.log_edits import change_event, list_segments
from tests.helpers.runs import make_run, pack

THIRD = """
from ockham.plugin import OccamPlugin
with open({mark!r}, "a") as file:
    file.write("imported\\n")

class Loud(OccamPlugin):
    def __init__(self, factor: float = 0.5) -> None:
        self.factor = factor
        self.seen = 0

    def on_batch_start(self, ctx):
        self.seen += 1
        if self.seen % 3 == 0 and ctx.updated:
            ctx.learning_rate *= self.factor
            ctx.decide("TURN", "LOUD", self.seen)
"""


class Counting(OccamPlugin):
    """Plugin that hides a counter from key frames."""

    hidden = 0

    def on_batch_start(self, ctx):
        Counting.hidden += 1
        ctx.decide("COUNT", "COUNTED", Counting.hidden)


def first(report):
    one = report.differences[0][1]
    return one.plugin, one.iter_num, one.field


@pytest.fixture
def folder(tmp_path):
    make_run(tmp_path, "a", 60)
    return RunFolder(tmp_path, "a")


@pytest.mark.parametrize("policy", ["tight", "balanced", "exploratory", "observe", "adapt"])
def test_every_preset_replays_to_the_last_bit(tmp_path, policy):
    """Presets in shadow and `adapt` are included."""
    measured = ("gate.familiar_mean=2.5", "gate.familiar_sd=0.2") if policy == "adapt" else ()
    make_run(tmp_path, "a", 120, policy=policy, overrides=measured)
    report = replay_run(RunFolder(tmp_path, "a"))
    assert report.identical
    assert report.total("identical") == report.total("decisions") > 120


def test_nan_and_random_draws_replay(tmp_path):
    """Saturation and the random gate draw numbers."""
    overrides = ("gate.mode=random",)
    (tmp_path / "noisy.yaml").write_text(
        "extends: balanced\nplugins: {limiter: null, saturation: {drive: 0.1}}\n"
    )
    make_run(tmp_path, "a", 60, nan_at=30, policy=tmp_path / "noisy.yaml", overrides=overrides)
    assert replay_run(RunFolder(tmp_path, "a")).identical


def test_resumed_run_replays_with_both_attempts(tmp_path):
    """The second one starts from the state at the checkpoint."""
    with Run("balanced", runs=tmp_path, run_id="a", settings={}) as run:
        ctx = run.end_batch(run.start_batch(0, 4.0))
        for i in range(1, 30):
            ctx = run.end_batch(run.start_batch(i, 4.0 - i / 20 + (i * 7 % 5) / 9))
        run.save_checkpoint(
            ctx,
            "resume",
            lambda m, s: pack(m, s)._replace(
                files={"state.json": orjson.dumps({**s, "trainer": {"settings": {}}})}
            ),
        )
        run.end_batch(run.start_batch(30, 4.4))
    start = find_resume_point(tmp_path, "a")
    with Run(runs=tmp_path, run_id="a", resumed=start) as run:
        run.load_state_dict(start.state["run"])
        for i in range(start.iter_num, 50):
            run.end_batch(run.start_batch(i, 3.0 + (i * 3 % 7) / 9))
    folder = RunFolder(tmp_path, "a")
    report = replay_run(folder)
    assert [log.attempt for log in report.logs] == [1, 2]
    assert report.identical, report.differences
    path = folder.segments(2, 0)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b"plugin_state.recorded" in line)
    event = orjson.loads(lines[at])
    event["data"]["state"]["gate"]["q"] += 1
    event["data"]["state_sha256"] = hashlib.sha256(
        orjson.dumps(event["data"]["state"], option=orjson.OPT_SORT_KEYS)
    ).hexdigest()
    lines[at] = orjson.dumps(event) + b"\n"
    path.write_bytes(b"".join(lines))
    assert ("gate", "state") in {(one.plugin, one.field) for _, one in replay_run(folder).differences}


def test_chunks_replay_in_several_processes(tmp_path, monkeypatch):
    """The result equals that of one process."""
    monkeypatch.setattr("ockham.record.recorder.KEY_FRAME_BATCHES", 20)
    make_run(tmp_path, "a", 100)
    folder = RunFolder(tmp_path, "a")
    one, two = replay_run(folder, processes=1), replay_run(folder, processes=2)
    assert one.identical
    assert two.processes == 2
    assert {**one.to_dict(), "seconds": 0, "processes": 0, "decisions_per_second": 0} == {
        **two.to_dict(),
        "seconds": 0,
        "processes": 0,
        "decisions_per_second": 0,
    }
    part = replay_run(folder, iteration=50)
    assert 0 < part.total("decisions") < one.total("decisions") / 2
    with pytest.raises(BadInputError, match="no iteration 9999"):
        replay_run(folder, iteration=9999)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("observed", 9.25),
        ("threshold", math.pi),
        ("reason_code", "SURPRISING_"),
        ("action", "HOLD"),
        ("shadow", True),
    ],
)
def test_changed_decision_field_is_named(folder, name, value):
    """Only plugin, iteration and field of the change."""
    event = change_event(folder, "decision.made", lambda data: data.update({name: value}), nth=40)
    report = replay_run(folder)
    assert not report.identical
    assert first(report) == (event["plugin"], event["iter_num"], name)
    assert report.total("found") == 1
    assert report.total("identical") == report.total("decisions") - 1


def test_smallest_change_of_a_double_is_found(folder):
    """One unit in the last place is a difference."""
    event = change_event(
        folder, "decision.made", lambda d: d.update(observed=math.nextafter(d["observed"], 9)), nth=30
    )
    assert first(replay_run(folder)) == (event["plugin"], event["iter_num"], "observed")


def test_changed_number_and_knob_change_are_named(folder):
    """Nested fields are named by their path."""
    event = change_event(
        folder, "decision.made", lambda data: data["numbers"].update(q=0.5), nth=30, plugin="gate"
    )
    assert first(replay_run(folder)) == ("gate", event["iter_num"], "numbers.q")
    change_event(
        folder, "decision.made", lambda data: data["changes"][0].update(after=0.25), nth=20, plugin="gate"
    )
    assert first(replay_run(folder))[2] == "changes.0.after"


def test_changed_loss_is_found_at_its_decision(folder):
    """The decision does not follow from the context."""
    event = change_event(folder, "context.recorded", lambda data: data["given"].update(task_loss=3.0), nth=30)
    assert first(replay_run(folder))[:2] == ("gate", event["iter_num"])


def test_changed_knob_is_named(folder):
    """The knobs after the chain are recomputed too."""
    event = change_event(folder, "context.recorded", lambda data: data["left"].update(grad_clip=5.0), nth=30)
    assert first(replay_run(folder)) == ("chain", event["iter_num"], "left.grad_clip")


def test_dropped_and_added_decisions_are_found(folder):
    """Each is a difference."""
    path = list_segments(folder)[0]
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    at = [i for i, line in enumerate(lines) if b"decision.made" in line][25]
    path.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
    assert first(replay_run(folder))[2] == "decisions"
    path.write_bytes(b"".join(lines[: at + 1] + lines[at:]))
    assert first(replay_run(folder))[2] == "decisions"


def test_dropped_context_is_found(folder):
    """Its decisions cannot be recomputed."""
    path = list_segments(folder)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    at = [i for i, line in enumerate(lines) if b"context.recorded" in line][25]
    path.write_bytes(b"".join(lines[:at] + lines[at + 1 :]))
    assert "context" in {one.field for _, one in replay_run(folder).differences}


def test_changed_key_frame_state_is_named(tmp_path, monkeypatch):
    """Plugin and part of the state."""
    monkeypatch.setattr("ockham.record.recorder.KEY_FRAME_BATCHES", 20)
    make_run(tmp_path, "a", 60)
    folder = RunFolder(tmp_path, "a")
    change_event(folder, "plugin_state.recorded", lambda data: data["state"]["gate"].update(mean=1.0), nth=1)
    report = replay_run(folder)
    named = {(one.plugin, one.field) for _, one in report.differences if one.iter_num == 20}
    assert {("gate", "state.mean"), ("chain", "state_sha256")} <= named


def test_start_that_is_not_fresh_is_found(folder):
    """The first state is that of new plugins."""
    change_event(folder, "plugin_state.recorded", lambda data: data["state"]["gate"].update(q=-3.0))
    assert ("gate", 0, "state.q") in {
        (o.plugin, o.iter_num, o.field) for _, o in replay_run(folder).differences
    }


def test_exchanged_policy_is_found(folder):
    """Its bytes do not match the revision."""
    path = next((folder.path / "policies").iterdir())
    path.write_bytes(path.read_bytes().replace(b'"target":0.6', b'"target":0.3'))
    report = replay_run(folder)
    assert first(report)[0] == "policy"
    assert "gate" in {one.plugin for _, one in report.differences}


def test_hidden_state_is_found_at_the_key_frame(tmp_path, monkeypatch):
    """The first batch after a key frame differs."""
    monkeypatch.setattr("ockham.record.recorder.KEY_FRAME_BATCHES", 10)
    Counting.hidden = 0
    with Run(plugins=[Counting()], runs=tmp_path, run_id="a") as run:
        for i in range(25):
            run.end_batch(run.start_batch(i, 3.0))
    Counting.hidden = 0
    report = replay_run(RunFolder(tmp_path, "a"), trust=True, iteration=12)
    assert first(report) == ("Counting", 10, "observed")


class Forgetful(OccamPlugin):
    """Plugin that stores a counter in the instance and not in its state."""

    def __init__(self):
        self.seen = 0

    def state_dict(self):
        return {}

    def on_batch_start(self, ctx):
        self.seen += 1
        ctx.decide("COUNT", "COUNTED", self.seen)


@pytest.mark.parametrize(
    ("plugin", "batches", "caught_at"), [(Forgetful, 25, 10), (Counting, 25, 0), (Counting, 5, 0)]
)
def test_hidden_state_is_found_by_a_complete_replay(tmp_path, monkeypatch, plugin, batches, caught_at):
    """State in the class is found in a single chunk too."""
    monkeypatch.setattr("ockham.record.recorder.KEY_FRAME_BATCHES", 10)
    Counting.hidden = 0
    with Run(plugins=[plugin()], runs=tmp_path, run_id="a") as run:
        for i in range(batches):
            run.end_batch(run.start_batch(i, 3.0))
    Counting.hidden = 0
    report = replay_run(RunFolder(tmp_path, "a"), trust=True)
    assert first(report) == (plugin.__name__, caught_at, "observed")
    one = report.differences[0][1]
    assert float(one.recorded) == caught_at + 1
    assert float(one.replayed) != caught_at + 1


def test_third_party_code_is_imported_with_trust_only(tmp_path, monkeypatch):
    """Otherwise its decisions are played back."""
    mark = tmp_path / "mark"
    (tmp_path / "third_loud.py").write_text(THIRD.format(mark=str(mark)))
    (tmp_path / "loud.yaml").write_text(
        "extends: balanced\nplugins: {loud: {use: 'third_loud:Loud', factor: 0.5}}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    make_run(tmp_path / "runs", "a", 60, policy=tmp_path / "loud.yaml")
    sys.modules.pop("third_loud")
    imported = mark.read_text()
    folder = RunFolder(tmp_path / "runs", "a")
    report = replay_run(folder)
    assert mark.read_text() == imported
    assert "third_loud" not in sys.modules
    assert report.identical, report.differences
    assert report.total("not_replayed") > 0
    assert report.logs[0].code["loud"]["replayed_sha256"] is None
    trusted = replay_run(folder, trust=True)
    assert trusted.identical
    assert trusted.total("not_replayed") == 0
    assert trusted.total("decisions") == report.total("decisions") + report.total("not_replayed")
    assert trusted.logs[0].code["loud"]["replayed_sha256"] == trusted.logs[0].code["loud"]["recorded_sha256"]
    sys.modules.pop("third_loud")
    (tmp_path / "third_loud.py").unlink()
    with pytest.raises(PolicyError, match="third_loud"):
        replay_run(folder, trust=True)


def test_unfinished_batch_is_counted_and_not_compared(folder):
    """A kill leaves one."""
    path = list_segments(folder)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    at = [i for i, line in enumerate(lines) if b"decision.made" in line][-1]
    path.write_bytes(b"".join(lines[: at + 1]) + b'{"torn')
    report = replay_run(folder)
    assert report.total("found") == 0
    assert report.total("unfinished") >= 1


def test_replay_without_its_inputs_is_unverifiable(folder):
    """Missing run, policy, log or key frame."""
    with pytest.raises(RunError):
        replay_run(RunFolder(folder.runs, "b"))
    path = list_segments(folder)[0]
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b"plugin_state" not in line))
    with pytest.raises(UnverifiableError):
        replay_run(folder, iteration=5)
    path.write_bytes(lines[0] + lines[1] + b"not json of policy.loaded ockham.plugin_state.recorded.v1\n")
    with pytest.raises(UnverifiableError):
        replay_run(folder)
    path.write_bytes(whole)
    next((folder.path / "policies").iterdir()).unlink()
    with pytest.raises(UnverifiableError, match="policy"):
        replay_run(folder)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("context.recorded", lambda data: data.update(given="x")),
        ("context.recorded", lambda data: data.pop("measured")),
        ("context.recorded", lambda data: data.update(iter_num=[])),
        ("context.recorded", lambda data: data["given"].pop("task_loss")),
        ("context.recorded", lambda data: data["given"].update(learning_rate={})),
        ("context.recorded", lambda data: data["left"].update(surprise_threshold="x")),
        ("context.recorded", lambda data: data.pop("policy_revision")),
        ("decision.made", lambda data: data.update(changes=None)),
        ("plugin_state.recorded", lambda data: data["state"].update(gate=[])),
        ("plugin_state.recorded", lambda data: data.update(state=None)),
        ("plugin_state.recorded", lambda data: data.update(state=["NaN"])),
        ("plugin_state.recorded", lambda data: data.update(iter_num="")),
        ("plugin_state.recorded", lambda data: data.update(trigger=[])),
        ("policy.loaded", lambda data: data.update(plugins=[None, {"plugin": {}}])),
        ("policy.loaded", lambda data: data.pop("policy_revision")),
    ],
)
def test_malformed_line_is_a_difference_or_an_error(folder, kind, change):
    """Code digests have no effect."""
    change_event(folder, kind, change)
    with contextlib.suppress(UnverifiableError):
        assert not replay_run(folder).identical or kind == "policy.loaded"
    with contextlib.suppress(UnverifiableError):
        replay_run(folder, iteration=5)


def test_policy_loaded_with_text_is_an_error(folder):
    """It must be a mapping."""
    path = list_segments(folder)[0]
    data = path.read_bytes()
    path.write_bytes(b'{"type":"ockham.policy.loaded.v1","data":"NaN"}\n' + data)
    with pytest.raises(UnverifiableError, match="not an event of Ockham"):
        replay_run(folder)


def test_minus_zero_differs_from_zero(folder):
    """The bits differ."""
    change_event(folder, "context.recorded", lambda data: data["left"].update(grad_noise_std=-0.0), nth=30)
    report = replay_run(folder)
    assert report.total("found") == 1
    assert (report.differences[0][1].recorded, report.differences[0][1].replayed) == ("-0.0", "0.0")


def test_decision_of_another_writer_is_compared_by_value(folder):
    """Key order and `ext` have no effect."""
    path = list_segments(folder)[0]
    lines = path.read_bytes().splitlines()
    at = next(i for i, line in enumerate(lines) if b"decision.made" in line)
    event = orjson.loads(lines[at])
    event["data"] = {**dict(reversed(event["data"].items())), "ext": {"theirs": 1}}
    lines[at] = orjson.dumps(event)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    report = replay_run(folder)
    assert report.total("found") == 0
    assert report.total("identical") == report.total("decisions")
    event["data"]["observed"] = math.nextafter(event["data"]["observed"], 9)
    lines[at] = orjson.dumps(event)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    assert first(replay_run(folder))[2] == "observed"


@pytest.mark.parametrize("what", ["policies/*.json", "log/1-0/*.jsonl"])
def test_pipe_in_place_of_a_file_does_not_block(folder, what):
    """The run is unverifiable."""
    (path,) = folder.path.glob(what)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnverifiableError, match=r"not a regular file|no log whose events can be read"):
        replay_run(folder)
