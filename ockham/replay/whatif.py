"""What-if analysis: another policy over the recorded contexts of a run.

Until the other policy first changes the weights differently, its decisions are exact, because the contexts
would be the same. After that (`exact` is false) it evaluates losses and drifts of a model that it would not
have trained. Those rows show its decisions on the recorded run, not on its own run. A rerun shows those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ockham.chain import PluginChain, base_knobs, plugin_name
from ockham.context import FIELDS_BY_NAME, KNOBS, OccamContext, knob_values
from ockham.event import Decision, Value
from ockham.fields import STEP_KNOBS
from ockham.policy import Policy
from ockham.replay.log_reader import (
    Step,
    build_context,
    knobs_after_chain,
    measure,
    parse_field,
    run_gradients,
)
from ockham.replay.playback import PlaybackPlugin, build_plugins
from ockham.replay.trajectory import AttemptTrajectory, backward_over_forward
from ockham.replay.whatif_result import WhatIfResult, WhatIfRow

CEILINGS = ("grad_clip", "drift_ceiling")
COUNTED = ("updates", "update_rate")


def whatif(legs: list[AttemptTrajectory], policy: Policy, label: str, *, trust: bool = False) -> WhatIfResult:
    """Return the decisions of `policy` on the contexts of a run.

    Raises:
        PolicyError: If a plugin of it cannot be used.
        PluginError: If a plugin of it raises.

    """
    return _WhatIfReplay(legs, policy, label, trust=trust).run()


class _WhatIfReplay:
    def __init__(self, legs: list[AttemptTrajectory], policy: Policy, label: str, *, trust: bool) -> None:
        plugins = build_plugins(policy, trust=trust)
        self.legs, self.parameters = legs, policy.hyperparameters
        self.made: list[Decision] = []
        self.chain = PluginChain(plugins, self.made.append)
        self.stand_ins = [plugin for plugin in plugins if isinstance(plugin, PlaybackPlugin)]
        self.base = base_knobs(plugins, self.parameters)
        self.answer = WhatIfResult(label, policy, backward_over_forward=backward_over_forward(legs))
        # Updates more (or fewer) than were recorded so far.
        self.update_delta = 0
        self.last: OccamContext | None = None
        # Knobs of the last accepted micro-batch of the present step.
        self.accepted: dict[str, Value] | None = None
        self.evaluated = True
        # States of the plugins before the iterations to which rollbacks returned.
        self.states = {after: dict[str, Any]() for leg in legs for after in leg.restored.values()}

    def run(self) -> WhatIfResult:
        """Run the chain over all attempts."""
        for leg in self.legs:
            unmeasured = self._unmeasured(leg)
            for step in leg.steps:
                if self.answer.halted_iter is not None:
                    return self.answer
                for plugin in self.stand_ins:
                    plugin.recorded_decisions = [
                        made.data for made in step.decisions if made.data["plugin"] == plugin_name(plugin)
                    ]
                self.made.clear()
                if step.hook == "batch":
                    self._restore_saved_state(leg, step)
                    self._batch(leg, step, unmeasured)
                elif step.hook == "on_evaluate" and self.last is not None:
                    self._evaluation(step, self.last)
        return self.answer

    def _restore_saved_state(self, leg: AttemptTrajectory, step: Step) -> None:
        """Restore the plugins after a rollback that this policy has requested too, and save states."""
        if step.data["micro_step"]:
            return
        after = leg.restored.get(step.iter_num)
        if after is not None and self.last is not None and self.last.rollback:
            if not self.states[after]:
                self._diverges(step.iter_num, "rollback")
            self.chain.restore_saved_state(self.states[after])
        if step.iter_num in self.states:
            self.states[step.iter_num] = self.chain.state_dict()

    def _batch(self, leg: AttemptTrajectory, step: Step, unmeasured: str) -> None:
        if not self.evaluated and self.last is not None:
            self.answer.unanswered += 1
            self._diverges(self.last.iter_num, "consolidating")
        ctx = build_context(step)
        recorded = dict(zip(KNOBS, knobs_after_chain(step, knob_values(ctx)), strict=True))
        ctx.set_knobs(self._rebase_knobs(leg, ctx))
        self._adjust_counters(ctx)
        self.chain.on_batch_start(ctx)
        verdict = ctx.updated
        self._gradients(step, ctx)
        # No other batch counts as an update, whatever a chain lets through.
        if math.isfinite(ctx.task_loss):
            self.update_delta += int(verdict) - int(bool(recorded["updated"]))
        measure(ctx, step)
        self._adjust_counters(ctx)
        self.chain.on_batch_end(ctx)
        answer = self.answer
        answer.batches += 1
        answer.finite += math.isfinite(ctx.task_loss)
        answer.transitions[f"{_verdict_name(recorded['updated'])}>{_verdict_name(verdict)}"] += 1
        cause = unmeasured if unmeasured and (ctx.anchor_available or "example" in unmeasured) else ""
        cause = cause or self._divergence_cause(leg, ctx, recorded)
        # This batch's own verdict was still given on a context that would have come.
        answer.exact_batches += answer.diverged_iter is None
        answer.rows.append(
            WhatIfRow(
                step.iter_num,
                ctx.micro_step,
                ctx.task_loss,
                _verdict_name(recorded["updated"]),
                _verdict_name(verdict),
                self._reason(),
                answer.diverged_iter is None,
            )
        )
        if cause:
            self._diverges(step.iter_num, cause)
        if ctx.halt:
            answer.halted_iter = step.iter_num
        self.last, self.evaluated = ctx, not ctx.consolidating

    def _gradients(self, step: Step, ctx: OccamContext) -> None:
        """Run `on_gradients` on the recorded norm, if this policy accepts a batch of the step."""
        if ctx.micro_step == 0:
            self.accepted = None
        if ctx.updated:
            self.accepted = {name: getattr(ctx, name) for name in STEP_KNOBS}
        accepted = self.accepted
        if ctx.ends_step and accepted is not None and step.data["measured"].get("grad_norm") is not None:
            other = {name: value for name, value in accepted.items() if value != getattr(ctx, name)}
            run_gradients(self.chain, step, ctx, other)

    def _evaluation(self, step: Step, ctx: OccamContext) -> None:
        given, left = step.data["given"], step.data["left"]
        answer = self.answer
        answer.recorded_accepted += bool(left.get("accepted", False))
        moved = bool(left.get("consolidating", given.get("consolidating", False)))
        answer.recorded_consolidated += moved
        if step.trigger == "CONSOLIDATION" and not ctx.consolidating:
            # The other policy would not have evaluated here.
            return
        gauges = {
            k: v
            for k, v in given.items()
            if k in FIELDS_BY_NAME and FIELDS_BY_NAME[k].role == "gauge" and k not in COUNTED
        }
        ctx.set_gauges(**{name: parse_field(name, value) for name, value in gauges.items()})
        ctx.measured_gauges.intersection_update(step.data["measured"])
        self.chain.on_evaluate(ctx)
        answer.evaluations += 1
        answer.accepted += ctx.accepted
        answer.consolidated += ctx.consolidating
        self.evaluated = True
        if ctx.consolidating != moved:
            self._diverges(step.iter_num, "consolidating")
        if ctx.consolidating:
            self.chain.on_consolidate(ctx)
        if ctx.halt:
            answer.halted_iter = step.iter_num

    def _rebase_knobs(self, leg: AttemptTrajectory, ctx: OccamContext) -> dict[str, Value]:
        """Return knobs with the recorded policy's base values replaced by those of this policy."""
        knobs: dict[str, Value] = {}
        for name in {*leg.base, *self.base}:
            given, old = getattr(ctx, name), leg.base.get(name, FIELDS_BY_NAME[name].default)
            new: Any = self.base.get(name, FIELDS_BY_NAME[name].default)
            if name in CEILINGS:
                # The trainer's own value, if it has one.
                own = leg.settings.get(name, math.inf)
                knobs[name] = min(new, own if given == old else given)
            elif given == old:
                knobs[name] = new
        return knobs

    def _adjust_counters(self, ctx: OccamContext) -> None:
        if self.update_delta:
            finite = max(self.answer.finite, 1)
            ctx.set_gauges(
                updates=max(0, ctx.updates + self.update_delta),
                update_rate=min(1.0, max(0.0, ctx.update_rate + self.update_delta / finite)),
            )

    def _divergence_cause(
        self, leg: AttemptTrajectory, ctx: OccamContext, recorded: Mapping[str, Value]
    ) -> str:
        """Return the knob that would change the weights differently. Otherwise empty."""
        for name in ("updated", "step", "rollback", "halt", "consolidating"):
            if getattr(ctx, name) != recorded[name]:
                return name
        # The last micro-batch of a step carries the knobs of the step.
        if not (ctx.updated or (ctx.ends_step and self.accepted)) or not ctx.step:
            return ""
        for name in ("learning_rate", "grad_noise_std", "example_gain"):
            if getattr(ctx, name) != recorded[name]:
                return name
        pulls = (
            _pull(self.parameters["pull"], ctx, ctx.lambda_ockham),
            _pull(leg.hyperparameters["pull"], ctx, recorded["lambda_ockham"]),
        )
        if pulls[0] != pulls[1]:
            return "lambda_ockham"
        for name, seen in (("grad_clip", ctx.grad_norm), ("drift_ceiling", ctx.drift_raw)):
            new, old = getattr(ctx, name), recorded[name]
            if new != old and not seen <= min(new, old):
                return name
        return ""

    def _unmeasured(self, leg: AttemptTrajectory) -> str:
        """Return a gauge that this policy requires more often than it was measured.

        Otherwise empty.
        """
        then, now = leg.hyperparameters["evaluations"], self.parameters["evaluations"]
        if then != now:
            self._note(
                f"the run has {then} scheduled evaluations, this policy needs {now}; "
                "the recorded ones are used"
            )
        odd = {
            name: every
            for name, every in self.chain.required_measurements().items()
            if leg.required_measurements.get(name) != every
        }
        for name, every in odd.items():
            was = (
                f"every {leg.required_measurements[name]} updates"
                if name in leg.required_measurements
                else "never"
            )
            self._note(f"{name} was measured {was}, this policy wants it every {every}")
        return min(odd, default="")

    def _note(self, text: str) -> None:
        if text not in self.answer.notes:
            self.answer.notes.append(text)

    def _reason(self) -> str:
        turned = [
            d
            for d in self.made
            if d.hook == "on_batch_start" and not d.shadow and d.action in ("UPDATE", "SKIP")
        ]
        return turned[-1].reason_code if turned else ""

    def _diverges(self, iter_num: int, cause: str) -> None:
        if self.answer.diverged_iter is None:
            self.answer.diverged_iter, self.answer.diverged_by = iter_num, cause


def _pull(kind: str, ctx: OccamContext, strength: Any) -> tuple[str, float]:
    return (kind, strength) if kind != "none" and ctx.anchor_available and strength > 0 else ("none", 0.0)


def _verdict_name(updated: Any) -> str:
    return "UPDATE" if updated else "SKIP"
