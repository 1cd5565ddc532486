"""Gauges that are read a batch late, as on a GPU: the same decisions, values and weights as at once."""

from __future__ import annotations

import pytest

from ockham import Run
from ockham.nano import ProgressLine
from ockham.plugin import OccamPlugin
from ockham.policy import HYPERPARAMETERS, load_policy
from ockham.record.run_folder import RunFolder
from tests.helpers.events import events
from tests.helpers.tiny_trainer import same, train_py, trainer, weights

OVERRIDES = ("watchdog.every=3", "anchor.interval=9", "anchor.cooldown=1", "anchor.tolerance=9")


class Trouble(OccamPlugin):
    """A gradient that is not finite, a rollback and an end, at given iterations."""

    name = "trouble"

    def __init__(self, rollback: int = -1, halt: int = -1) -> None:
        self.rollback, self.halt = rollback, halt

    def on_batch_start(self, ctx):
        if ctx.iter_num == 7:
            ctx.updated, ctx.grad_noise_std = True, 1e39

    def on_batch_end(self, ctx):
        ctx.rollback = ctx.rollback or ctx.iter_num == self.rollback
        ctx.halt = ctx.halt or ctx.iter_num == self.halt


def story(runs):
    """All that was recorded of batches and decisions, but how long it took."""
    kinds = (
        "context.recorded",
        "decision.made",
        "evaluation.recorded",
        "rollback.performed",
        "anchor.consolidated",
    )
    found = []
    for event in events(RunFolder(runs, "a")):
        kind, data = event["type"].removeprefix("ockham.").removesuffix(".v1"), event["data"]
        if kind in kinds:
            left_out = ("seconds", "decision_id", "policy_revision")
            found.append((kind, {k: v for k, v in data.items() if k not in left_out}))
    return found


def run_one(folder, *, late, trouble, settings, monkeypatch):
    t = trainer(folder, "dropout=0.2", "warmup_iters=4", "max_iters=30", "checkpoint_every=11", *settings)
    t.deferred_metrics = late
    ahead = []
    forward = t.forward
    monkeypatch.setattr(t, "forward", lambda *at: (ahead.append((at, len(recorded))), forward(*at))[1])
    recorded = []
    for name, value in (("evaluations", 4), ("lambda_ockham", 5.0)):
        monkeypatch.setitem(HYPERPARAMETERS, name, value)
    built = [*load_policy("balanced", OVERRIDES).build(), trouble]
    with Run(plugins=built, runs=folder / str(late), run_id="a", facts=t.facts()) as run:
        end = run.end_batch
        monkeypatch.setattr(
            run, "end_batch", lambda ctx, **more: (recorded.append(ctx.iter_num), end(ctx, **more))[1]
        )
        t.required_measurements, t.pull_mode = run.chain.required_measurements(), "decoupled"
        with ProgressLine(0, 30, 32) as line:
            reason, _ = train_py().train(run, t, 0, line, lambda: False)
    return reason, t, ahead


@pytest.mark.parametrize(
    ("trouble", "settings", "ended"),
    [
        (Trouble(), (), "COMPLETED"),
        (Trouble(), ("gradient_accumulation_steps=2",), "COMPLETED"),
        (Trouble(rollback=16), (), "COMPLETED"),
        (Trouble(halt=17), (), "HALTED_BY_POLICY"),
    ],
)
def test_late_gauges_change_nothing(tmp_path, monkeypatch, trouble, settings, ended):
    """Decisions, gauges, order, evaluations and weights are those of reading at once, dropout and all.

    With a refused gradient, a consolidation, a rollback that throws away the forward already made, and a halt.
    """
    made = {}
    for late in (False, True):
        arguments = {"late": late, "trouble": trouble, "settings": settings, "monkeypatch": monkeypatch}
        reason, t, ahead = run_one(tmp_path, **arguments)
        assert reason == ended
        made[late] = weights(t.model), t.steps, ahead
    assert story(tmp_path / "True") == story(tmp_path / "False")
    assert same(made[True][0], made[False][0])
    assert made[True][1] == made[False][1] > 4
    kinds = {kind for kind, _ in story(tmp_path / "True")}
    assert {"evaluation.recorded", "anchor.consolidated"} <= kinds
    assert ("rollback.performed" in kinds) == (trouble.rollback > 0)
    micros = 1 + len(settings)
    of_batch = [number for (_, micro), number in made[False][2] if micro == 0]
    assert of_batch == [micros * i for i in range(len(of_batch))]  # every forward comes after all ends
    behind = [a - b for (_, a), b in zip(made[True][2], range(1000), strict=False)]
    assert -1 in behind  # a forward was made before the batch before had ended


def test_a_rollback_throws_away_the_forward_already_made(tmp_path, monkeypatch):
    """The batch after it is forwarded twice: once too early, once from the anchor's weights."""
    arguments = {"settings": (), "monkeypatch": monkeypatch}
    _, _, ahead = run_one(tmp_path, late=True, trouble=Trouble(rollback=16), **arguments)
    places = [at for at, _ in ahead]
    assert [at for at in places if places.count(at) > 1] == [(17, 0), (17, 0)]
