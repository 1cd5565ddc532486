"""Verdicts on gradients in an own loop: the optimizer, the log, verify and replay agree."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ockham.errors import BadInputError, OckhamWarning, PluginError, RunError
from ockham.event import Change
from ockham.plugin import OccamPlugin
from ockham.plugins.limiter import LimiterPlugin
from ockham.policy import policy_from_plugins
from ockham.record.run_folder import RunFolder
from ockham.record.verify.run import verify_run
from ockham.replay.runner import replay_run
from ockham.replay.trajectory import load_trajectory
from ockham.replay.whatif import whatif
from ockham.run import Run
from tests.helpers.events import decision, events, plain_validator
from tests.helpers.plugins import OnGradients
from tests.record.verify.test_contradictions import context, found

STEPS = 16
RATES = (0.1, 0.3)


class Loop:
    """Trains with two parameter groups, and notes what the optimizer really did."""

    def __init__(self, run, *, micro_steps=1, calls=True, ignores=False):
        torch.manual_seed(3)
        self.run, self.micro_steps, self.calls, self.ignores = run, micro_steps, calls, ignores
        self.model = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 8))
        groups = [
            {"params": part.parameters(), "lr": rate} for part, rate in zip(self.model, RATES, strict=True)
        ]
        self.optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
        run.watch(self.optimizer, measure_norm=True)
        # Per step: whether weights moved, learning rates, norm before and norm at the step.
        self.truth = []
        self._at_step = None
        self.optimizer.register_step_pre_hook(self._read)

    def norm(self):
        return math.sqrt(sum(float(p.grad.double().square().sum()) for p in self.model.parameters()))

    def _read(self, optimizer, *_):
        self._at_step = (tuple(group["lr"] for group in optimizer.param_groups), self.norm())

    def train(self, steps=STEPS):
        for _ in range(steps):
            self.step()
        return self.truth

    def step(self):
        before = [p.detach().clone() for p in self.model.parameters()]
        norm, accepted, self._at_step = None, False, None
        for _ in range(self.micro_steps):
            tokens = torch.randint(0, 8, (16,))
            loss = nn.functional.cross_entropy(3 * self.model(tokens), (tokens + 1) % 8)
            ctx = self.run.start_batch(loss=loss.item(), micro_steps=self.micro_steps)
            if ctx.updated:
                loss.backward()
                accepted = True
            if ctx.ends_step and accepted:
                norm = self.norm()
                self.apply(ctx, norm)
            gauges = {} if norm is None or self.calls else {"grad_norm": norm}
            self.run.end_batch(ctx, **gauges)
        moved = any(not torch.equal(a, b) for a, b in zip(before, self.model.parameters(), strict=True))
        self.truth.append((moved, norm, self._at_step))

    def apply(self, ctx, norm):
        if self.calls:
            self.run.gradients(ctx, grad_norm=norm)
        if ctx.step or self.ignores:
            nn.utils.clip_grad_norm_(self.model.parameters(), ctx.grad_clip)
            with self.run.learning_rates(ctx):
                self.optimizer.step()
        self.optimizer.zero_grad()


def open_run(tmp_path, *plugins):
    return Run(plugins=plugins, runs=tmp_path, run_id="a", facts={"max_iters": STEPS})


def made_at(tmp_path, hook):
    """Return the data of all decisions or contexts of a hook."""
    found_events = events(RunFolder(tmp_path, "a"))
    return [event["data"] for event in found_events if event["data"].get("hook") == hook]


def batches(tmp_path):
    """Return the contexts that end a step."""
    contexts = [
        event["data"] for event in events(RunFolder(tmp_path, "a")) if event["data"].get("hook") == "batch"
    ]
    return [data for data in contexts if data["micro_step"] == data["given"].get("micro_steps", 1) - 1]


@pytest.mark.parametrize(("micro_steps", "skips"), [(1, False), (1, True), (2, True), (3, True), (4, False)])
def test_verdicts_on_gradients_are_those_of_the_optimizer(tmp_path, micro_steps, skips):
    """Whether it stepped, both learning rates and the clipped norm are in the log."""
    with open_run(tmp_path, OnGradients(skips=skips)) as run:
        truth = Loop(run, micro_steps=micro_steps).train()
    last_accepted = {}
    for event in events(RunFolder(tmp_path, "a")):
        data = event["data"]
        if data.get("hook") == "batch" and data["left"].get("updated", True):
            last_accepted[data["iter_num"]] = data["micro_step"]
    for data, (moved, norm, at_step) in zip(batches(tmp_path), truth, strict=True):
        turn, micro_step = data["iter_num"] % 4, last_accepted.get(data["iter_num"])
        assert ("gradients" in data) == (micro_step is not None)
        assert moved == (micro_step is not None and turn != 1) == bool(data["applied"]["updated"])
        if micro_step is not None:
            assert data["measured"]["grad_norm"] == norm
        if not moved:
            assert at_step is None
            continue
        factor = (1 - micro_step / 8) * (0.5 if turn == 2 else 1.0)
        assert at_step[0] == pytest.approx([rate * factor for rate in RATES], rel=1e-12)
        assert data["applied"]["learning_rates"] == list(at_step[0])
        assert at_step[1] == pytest.approx(norm / 2 if turn == 3 else norm, rel=1e-5)
        assert data["left"].get("learning_rate", data["given"]["learning_rate"]) == pytest.approx(
            at_step[0][0]
        )
    folder = RunFolder(tmp_path, "a")
    assert verify_run(folder).sound
    assert replay_run(folder, trust=True).identical
    assert replay_run(folder).identical


def test_events_of_gradients_fit_their_schemas(tmp_path):
    """The validator is the third-party package jsonschema."""
    with open_run(tmp_path, OnGradients(skips=True)) as run:
        Loop(run, micro_steps=3).train()
    kinds = ("context.recorded", "decision.made")
    validators = {f"ockham.{kind}.v1": plain_validator(kind) for kind in kinds}
    checked = [event for event in events(RunFolder(tmp_path, "a")) if event["type"] in validators]
    assert any(event["data"].get("gradients") for event in checked)
    assert any(event["data"].get("hook") == "on_gradients" for event in checked)
    for event in checked:
        validators[event["type"]].validate(event)


@pytest.mark.filterwarnings("ignore:iteration .* a verdict was not carried out")
def test_step_that_is_taken_although_refused_is_recorded(tmp_path):
    """The event names the knob `step`, and verify reports it."""
    with open_run(tmp_path, OnGradients()) as run:
        truth = Loop(run, ignores=True).train()
    assert all(moved for moved, _, _ in truth)
    kind = "ockham.verdict.not_applied.v1"
    found_events = [event for event in events(RunFolder(tmp_path, "a")) if event["type"] == kind]
    assert [event["data"]["iter_num"] for event in found_events] == [1, 5, 9, 13]
    for event in found_events:
        plain_validator("verdict.not_applied").validate(event)
        assert (event["data"]["field"], event["data"]["reason_code"]) == ("step", "WEIGHTS_CHANGED_ON_SKIP")
    assert verify_run(RunFolder(tmp_path, "a")).counts["not applied"] == 4


def test_missing_call_warns_once_and_runs_no_hook(tmp_path):
    """A plugin cannot refuse a step that was taken."""
    with (
        open_run(tmp_path, OnGradients()) as run,
        pytest.warns(OckhamWarning, match="run.gradients") as caught,
    ):
        Loop(run, calls=False).train()
    assert len(caught) == 1
    assert not any("gradients" in data for data in batches(tmp_path))


def test_plugin_in_shadow_sees_the_norm_without_the_call(tmp_path):
    """Its decisions are those with the call, and the training is that without the plugin."""
    decisions, truths = [], []
    for name, calls in (("with", True), ("without", False)):
        plugin = OnGradients()
        plugin.shadow = True
        with open_run(tmp_path / name, plugin) as run:
            truths.append(Loop(run, calls=calls).train())
        assert not run.acts_on_gradients
        decisions.append([{**made, "sequence": 0} for made in made_at(tmp_path / name, "on_gradients")])
        assert replay_run(RunFolder(tmp_path / name, "a"), trust=True).identical
    assert decisions[0] == decisions[1] != []
    assert truths[0] == truths[1]
    assert all(moved for moved, _, _ in truths[0])


def test_chain_without_the_hook_is_not_asked(tmp_path):
    """The limiter has a passive hook, which is not called on its own."""
    with open_run(tmp_path, LimiterPlugin()) as run:
        assert not run.acts_on_gradients
        Loop(run).train(4)
    assert made_at(tmp_path, "on_gradients") == []


class Raises(OccamPlugin):
    """Raises the knobs of the step."""

    name = "raises"

    def on_gradients(self, ctx):
        ctx.learning_rate *= 4.0
        ctx.grad_clip = math.inf
        ctx.decide("SCALE", "FASTER", ctx.grad_norm)


def test_ceilings_hold_for_a_plugin_that_decides_about_gradients(tmp_path):
    """The limiter caps what the plugin has raised, and both changes are attributed."""
    limiter = LimiterPlugin(None, grad_norm_ceiling=0.5, learning_rate_ceiling=0.2)
    with open_run(tmp_path, Raises(), limiter) as run:
        truth = Loop(run).train()
    for _, norm, (rates, clipped) in truth:
        assert rates == pytest.approx([0.2, 0.6])
        assert clipped == pytest.approx(min(norm, 0.5), rel=1e-5)
    made = [
        event["data"]
        for event in events(RunFolder(tmp_path, "a"))
        if event["data"].get("hook") == "on_gradients"
    ]
    assert {(data["plugin"], data["reason_code"]) for data in made} == {
        ("raises", "FASTER"),
        ("limiter", "LEARNING_RATE_CAPPED"),
        ("limiter", "GRADIENT_CAPPED"),
    }
    assert verify_run(RunFolder(tmp_path, "a")).sound


def test_limiter_reports_a_clip_only_where_one_happened(tmp_path):
    """Neither a refused step nor a gradient that is not finite was clipped."""
    limiter = LimiterPlugin(None, grad_norm_ceiling=1e-6)
    with open_run(tmp_path, OnGradients(), limiter) as run:
        truth = Loop(run).train()
        ctx = run.start_batch(loss=2.0)
        run.gradients(ctx, grad_norm=math.inf)
        run.end_batch(ctx, stepped=False)
    clipped = [
        event["data"]["iter_num"]
        for event in events(RunFolder(tmp_path, "a"))
        if event["data"].get("reason_code") == "GRADIENT_CLIPPED"
    ]
    assert clipped == [number for number, (moved, _, _) in enumerate(truth) if moved]


class BadKnob(OccamPlugin):
    """Changes a knob of another hook."""

    name = "bad"

    def on_gradients(self, ctx):
        ctx.updated = False


def test_knob_of_another_hook_is_refused_with_plugin_and_hook(tmp_path):
    """The run ends with one error."""
    message = r"'bad' failed in on_gradients .*updated can be changed by on_batch_start"
    with pytest.raises(PluginError, match=message), open_run(tmp_path, BadKnob()) as run:
        Loop(run).train()


def test_wrong_calls_are_refused(tmp_path):
    """Once per step, after the last micro-batch, for a batch that is not over."""
    with open_run(tmp_path, OnGradients()) as run:
        ctx = run.start_batch(loss=2.0, micro_steps=2)
        with pytest.raises(BadInputError, match="does not end the step"):
            run.gradients(ctx, grad_norm=1.0)
        with pytest.raises(RunError, match="no optimizer is watched"):
            run.learning_rates(ctx)
        run.end_batch(ctx)
        ctx = run.start_batch(loss=2.0, micro_steps=2)
        run.gradients(ctx, grad_norm=1.0)
        with pytest.raises(BadInputError, match="called twice"):
            run.gradients(ctx, grad_norm=1.0)
        run.end_batch(ctx, stepped=True)
        with pytest.raises(BadInputError, match="was not started, or has ended"):
            run.gradients(ctx, grad_norm=1.0)
    with pytest.raises(RunError, match=r"run\.gradients: run 'a' has ended"):
        run.gradients(ctx, grad_norm=1.0)


def test_schedule_continues_over_refused_steps(tmp_path):
    """A scheduler that multiplies the present rate sees the scheduled one."""
    with open_run(tmp_path, OnGradients()) as run:
        loop = Loop(run)
        schedule = torch.optim.lr_scheduler.ExponentialLR(loop.optimizer, 0.9)
        for number in range(STEPS):
            assert [group["lr"] for group in loop.optimizer.param_groups] == pytest.approx(
                [rate * 0.9**number for rate in RATES]
            )
            loop.step()
            schedule.step()


def test_whatif_runs_the_hook_on_recorded_norms(tmp_path):
    """The recorded chain has no such hook; the answer diverges where the step would be refused."""
    with open_run(tmp_path, LimiterPlugin(None, grad_norm_ceiling=None)) as run:
        Loop(run, calls=False).train()
    # Its changes of the knobs at the start of a batch multiply by 1.
    policy = policy_from_plugins([OnGradients()])
    answer = whatif(load_trajectory(RunFolder(tmp_path, "a")), policy, "other", trust=True)
    assert (answer.diverged_iter, answer.diverged_by) == (1, "step")


def gradients_context(*, micro_step=1, gradients=None, **left):
    return context(0, micro_step, **left)._replace(gradients=gradients)


LOWER = decision(hook="on_gradients", micro_step=1, changes=(Change("learning_rate", 0.0005, 0.0001),))
HALF = decision(changes=(Change("learning_rate", 0.001, 0.0005),))
SKIP = decision(micro_step=1, changes=(Change("updated", True, False),))
FIRST = [HALF, context(learning_rate=0.0005)]
TAKEN = {"learning_rate": 0.0005}


def test_knobs_of_an_earlier_micro_batch_are_consistent(tmp_path):
    """The step has the rate of the accepted micro-batch, and a decision lowers it."""
    end = gradients_context(updated=False, learning_rate=0.0001, gradients=TAKEN)
    assert found(tmp_path, *FIRST, SKIP, LOWER, end) == []


OTHER = gradients_context(updated=False, learning_rate=0.25, gradients={"learning_rate": 0.25})
ITSELF = gradients_context(learning_rate=0.0005, gradients=TAKEN)
NEXT = gradients_context(micro_step=0, gradients=TAKEN, learning_rate=0.0005)._replace(iter_num=1)
CONTRADICTIONS = {
    "other value": ([*FIRST, SKIP, OTHER], "learning_rate 0.25"),
    "accepted itself": ([*FIRST, ITSELF], "learning_rate 0.0005"),
    "first of the step": ([context(), NEXT], "learning_rate 0.0005"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_invented_knobs_of_a_step_are_a_contradiction(tmp_path, name):
    """No decision explains them, so they must be those of an accepted micro-batch."""
    payloads, text = CONTRADICTIONS[name]
    messages = [message for _, message in found(tmp_path, *payloads)]
    assert [message.startswith(f"the step has {text}") for message in messages] == [True]
