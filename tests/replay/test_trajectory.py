"""Trajectory of a run: its contexts in order, and one clear error for unreadable input."""

from __future__ import annotations

import hashlib
import json

import orjson
import pytest

from ockham.errors import OckhamError, RunError, UnverifiableError
from ockham.record.checkpoints import find_resume_point
from ockham.record.run_folder import RunFolder
from ockham.replay.trajectory import backward_over_forward, load_trajectory
from ockham.run import Run
from tests.helpers.log_edits import change_event
from tests.helpers.runs import make_run, pack


def batches(run, numbers, **kwargs):
    for i in numbers:
        ctx = run.end_batch(run.start_batch(i, 4.0 - i / 20), **kwargs)
    return ctx


@pytest.fixture
def folder(tmp_path):
    with Run("balanced", runs=tmp_path, run_id="a", settings={"grad_clip": 2.0}) as run:
        batches(run, range(12), seconds={"forward": 1.0, "backward": 1.5, "optimizer": 0.5})
    return run.folder


def resumed(folder, keep, last):
    """Return a run that was killed at batch *last*, and resumed from the checkpoint after *keep* batches."""
    with Run("balanced", runs=folder, run_id="b") as run:
        ctx = batches(run, range(keep))
        run.save_checkpoint(
            ctx,
            "resume",
            lambda m, s: pack(m, s)._replace(
                files={"state.json": orjson.dumps({**s, "trainer": {"settings": {}}})}
            ),
        )
        batches(run, range(keep, last))
    start = find_resume_point(folder, "b")
    with Run(runs=folder, run_id="b", resumed=start) as run:
        run.load_state_dict(start.state["run"])
        batches(run, range(start.iter_num, last + 3))
    return run.folder


def test_superseded_batches_are_left_out(tmp_path):
    """Each iteration occurs once."""
    legs = load_trajectory(resumed(tmp_path, 8, 11))
    assert [[step.iter_num for step in leg.steps if step.hook == "batch"] for leg in legs] == [
        list(range(8)),
        list(range(8, 14)),
    ]


def test_attempt_without_a_line_is_skipped(folder):
    """It was killed at its start."""
    folder.log_dir(2, 0).mkdir()
    (folder.log_dir(2, 0) / f"{0:012d}.jsonl").write_bytes(b'{"torn')
    assert len(load_trajectory(folder)) == 1


def test_backward_over_forward_is_a_ratio_of_means(folder, tmp_path):
    """The optimizer is included. None without measurements."""
    legs = load_trajectory(folder)
    assert legs[0].settings["grad_clip"] == 2.0
    assert backward_over_forward(legs) == pytest.approx(2.0)
    with Run("balanced", runs=tmp_path, run_id="c") as run:
        batches(run, range(5))
    assert backward_over_forward(load_trajectory(run.folder)) is None


def test_unreadable_run_is_an_error(folder, tmp_path):
    """Missing, empty, or of another rank."""
    with pytest.raises(RunError, match="no run 'z'"):
        load_trajectory(RunFolder(tmp_path, "z"))
    with pytest.raises(UnverifiableError, match="no signed contexts to ask about"):
        load_trajectory(folder, rank=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["given"].update(learning_rate={}), "the context at sequence .* cannot be read"),
        (lambda data: data["given"].pop("task_loss"), "the context at sequence .* cannot be read"),
        (lambda data: data["left"].update(nothing_of_ours=1.0), "the context at sequence .* cannot be read"),
        (lambda data: data["measured"].update(grad_norm="much"), "the context at sequence .* cannot be read"),
        (lambda data: data["seconds"].update(forward="long"), "the context at sequence .* cannot be read"),
        (
            lambda data: data.update(seconds=None),
            "a line that cannot be replayed: .*seconds is not an object",
        ),
    ],
)
def test_malformed_context_is_an_error(folder, change, message):
    """The error names its sequence number."""
    change_event(folder, "context.recorded", change, nth=5)
    with pytest.raises(UnverifiableError, match=message):
        load_trajectory(folder)


def test_custom_gauges_are_not_context_fields(tmp_path):
    """They are skipped."""
    with Run("balanced", runs=tmp_path, run_id="a") as run:
        for i in range(3):
            ctx = run.start_batch(i, 3.0)
            ctx.custom["accuracy"] = 0.5 + i
            run.end_batch(ctx)
    metadata = [step.data["measured"]["custom"] for step in load_trajectory(run.folder)[0].steps]
    assert metadata == [{"accuracy": 0.5 + i} for i in range(3)]


@pytest.mark.parametrize(
    "opening",
    [
        b"no event",
        b"[]",
        b'{"data":7}',
        b'{"type":"x"}',
        b'{"data":"x"}',
        b'{"data":{"policy_revision":7}}',
        b'{"data":{"policy_revision":"x","settings":"x"}}',
        b'{"data":{"policy_revision":"x","iter_num":"x"}}',
    ],
)
def test_log_with_another_first_event_is_an_error(folder, opening):
    """The error names the log."""
    segment = folder.segments(1, 0)[0]
    segment.write_bytes(opening + b"\n" + segment.read_bytes())
    with pytest.raises(UnverifiableError, match="log 1-0 of run 'a': the first event is not valid"):
        load_trajectory(folder)


def test_missing_files_are_an_error(folder, monkeypatch):
    """A policy or a segment."""
    policy = next((folder.path / "policies").iterdir())
    policy.rename(folder.path / "aside")
    with pytest.raises(
        UnverifiableError, match=r"cannot read the policy .*/policies/[0-9a-f]{64}\.json: No such file"
    ):
        load_trajectory(folder)
    (folder.path / "aside").rename(policy)
    gone = folder.segments(1, 0)[0].with_name("gone.jsonl")
    monkeypatch.setattr(RunFolder, "segments", lambda *_: [gone])
    with pytest.raises(UnverifiableError, match=r"cannot read .*/gone\.jsonl: No such file"):
        load_trajectory(folder)


@pytest.mark.parametrize(
    "given", [{"grad_clip": [[]]}, {"grad_clip": "x"}, {"evaluations": {}}, {"pull": []}]
)
def test_policy_with_a_non_finite_number_is_an_error(tmp_path, given):
    """Its bytes have the named digest."""
    make_run(tmp_path, batches=5)
    folder = RunFolder(tmp_path, "a")
    path = next((folder.path / "policies").iterdir())
    content = json.loads(path.read_bytes())
    content["hyperparameters"].update(given)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    digest = hashlib.sha256(canonical).hexdigest()
    path.with_name(f"{digest}.json").write_bytes(canonical)
    segment = folder.segments(1, 0)[0]
    segment.write_bytes(segment.read_bytes().replace(path.stem.encode(), digest.encode()))
    with pytest.raises(OckhamError, match=f"{next(iter(given))} takes"):
        load_trajectory(folder)
