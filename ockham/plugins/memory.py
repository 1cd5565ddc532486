"""OckhamMemory: accepts or rejects weights by quality, complexity and the Occam Quotient.

All three gates are evaluated and logged. The reason is the first gate that fails. The first candidate that
passes the first two gates cannot be compared with others and is accepted. The baseline is the last accepted
candidate. With a fixed architecture OQ is 1/loss times a constant, so the third gate requires a relative fall
of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from ockham.acceptance import MIN_EVALUATIONS, explain_no_acceptance
from ockham.candidates import (
    ModelSnapshot,
    OccamMetrics,
    pareto_frontier,
    save_weights,
    snapshot_from_dict,
    snapshot_to_dict,
)
from ockham.context import OccamContext
from ockham.errors import BadInputError
from ockham.plugin import OccamPlugin
from ockham.quotient import (
    Performance,
    QuotientSpec,
    relative_improvement,
)

# Gates whose limit is a setting.
_LIMITED = ("REJECTED_QUALITY", "REJECTED_COMPLEXITY")


class Verdict(NamedTuple):
    """Result of `should_accept_update`. It unpacks as `accept, reason`."""

    accept: bool
    reason: str


class _Gate(NamedTuple):
    name: str
    value: float
    limit: float
    passed: bool
    reason: str


class OckhamMemory(OccamPlugin):
    """Three gates for candidates, a baseline, a Pareto frontier, and statistics.

    Args:
        quality_threshold: Maximum loss in nats per token. None uses `quality_fraction`.
        complexity_threshold: Maximum relative drift from the anchor, below the limiter's ceiling. None sets
            no limit.
        min_oq_improvement: Minimum relative gain of OQ over the baseline.
        quality_fraction: Maximum loss as a fraction of ln(vocab_size), which fits bytes and BPE.
        performance: `inverse_loss`, or `bits_saved` across models of different size.

    """

    name = "memory"
    # The accepted weights remain saved. Otherwise worse weights could be accepted after a rollback.
    survives_rollback: ClassVar[bool] = True
    reasons: ClassVar[Mapping[str, str]] = {
        "ACCEPTED_FIRST_VALID": "The first candidate that passes quality and complexity.",
        "ACCEPTED_OQ_IMPROVEMENT": "The Occam Quotient is better than the baseline's by the minimum or more.",
        "REJECTED_NONFINITE": "Loss or drift is not finite.",
        "REJECTED_QUALITY": "The loss is over the quality threshold.",
        "REJECTED_COMPLEXITY": "The drift is over the complexity threshold.",
        "REJECTED_OQ_INSUFFICIENT": "The Occam Quotient is not better than the baseline's by the minimum.",
        "REJECTED_INCOMPARABLE": "Candidate and baseline have quotients with different specs.",
        "REJECTED_NO_COST": "No quotient: neither FLOPs and MB nor the number of parameters are known.",
        "REJECTED_NO_PERFORMANCE": (
            "No positive quotient: the model is not better than guessing, or its loss is not positive."
        ),
        "INVALID_BASELINE": "The baseline's quotient is not finite and positive.",
    }
    limits: ClassVar[Mapping[str, str]] = {
        "quality_threshold": "(0, inf]",
        "quality_fraction": "(0, inf]",
        "complexity_threshold": "[0, inf]",
        "min_oq_improvement": "(-1, inf)",
    }

    def __init__(
        self,
        quality_threshold: float | None = None,
        complexity_threshold: float | None = 0.18,
        min_oq_improvement: float = 0.05,
        *,
        quality_fraction: float | None = None,
        performance: Performance = "inverse_loss",
    ) -> None:
        self.quality_threshold = quality_threshold
        self.complexity_threshold = complexity_threshold
        self.min_oq_improvement = min_oq_improvement
        self.quality_fraction = quality_fraction
        self.performance = performance
        self.check_settings()
        # A trainer may inject its function.
        self.store: Callable[[Any, OccamContext, str], str] | None = None
        self.baseline: ModelSnapshot | None = None
        self.frontier: list[ModelSnapshot] = []
        self.evaluations = 0
        self.nonfinite = 0
        self.reasons_given: dict[str, int] = {}
        # Lowest rejected value of this attempt and its limit, by reason code. It decides nothing.
        self.closest: dict[str, tuple[float, float]] = {}

    def on_evaluate(self, ctx: OccamContext) -> OccamContext:
        """Judge the candidate. The verdict is `ctx.accepted`."""
        verdict, gates, numbers = self._evaluate_gates(ctx, self.baseline)
        # Without a baseline the quality gate decides.
        default = gates[1] if verdict.reason == "ACCEPTED_FIRST_VALID" else gates[-1]
        decisive = next((gate for gate in gates if not gate.passed), default)
        self._count(ctx, verdict, gates)
        ctx.accepted = verdict.accept
        action = "ACCEPT" if verdict.accept else "REJECT"
        return ctx.decide(action, verdict.reason, decisive.value, decisive.limit, numbers=numbers)

    def should_accept_update(self, ctx: OccamContext, prev: ModelSnapshot | None = None) -> Verdict:
        """Judge a context outside of a chain. *prev* replaces the baseline for this call."""
        verdict, gates, _ = self._evaluate_gates(ctx, prev or self.baseline)
        self._count(ctx, verdict, gates)
        return verdict

    def save_checkpoint(
        self, model: Any, ctx: OccamContext, folder: str | Path = "checkpoints"
    ) -> ModelSnapshot:
        """Save a model's weights as safetensors, with the injected store or with numpy.

        Args:
            model: Any object with a `state_dict()` of tensors.
            ctx: Context that was accepted.
            folder: Target folder if no store was injected.

        Raises:
            BadInputError: If the weights were not accepted, or others have been accepted since.

        """
        snapshot = self.baseline
        if snapshot is None or snapshot.iter_num != ctx.iter_num:
            raise BadInputError(
                f"memory: iteration {ctx.iter_num} is not the last accepted one; save right after acceptance"
            )
        if self.store is not None:
            path = self.store(model, ctx, snapshot.snapshot_id)
        else:
            path = save_weights(model, Path(folder) / f"{snapshot.snapshot_id}.safetensors")
        saved = replace(snapshot, path=path)
        self.frontier = [saved if item.snapshot_id == saved.snapshot_id else item for item in self.frontier]
        self.baseline = saved
        return saved

    def statistics(self) -> dict[str, float]:
        """Return counts by reason, evaluations, and accepted / finite evaluations (NaN before the first)."""
        finite = self.evaluations - self.nonfinite
        accepted = sum(count for reason, count in self.reasons_given.items() if reason.startswith("ACCEPTED"))
        return {
            "evaluations": self.evaluations,
            "accept_rate": accepted / finite if finite else math.nan,
            **self.reasons_given,
        }

    def explain_no_acceptance(self) -> str | None:
        """Return why nothing was accepted so far, and the setting to change.

        None if something was accepted, in shadow, and after few evaluations.
        """
        if self.shadow or self.baseline is not None or self.evaluations < MIN_EVALUATIONS:
            return None
        settings = {"quality_threshold": self.quality_threshold, "quality_fraction": self.quality_fraction}
        settings["complexity_threshold"] = self.complexity_threshold
        return explain_no_acceptance(self.reasons_given, self.closest, settings, self.name)

    def state_dict(self) -> dict[str, Any]:
        """Return baseline, frontier and counters."""
        return {
            "baseline": None if self.baseline is None else snapshot_to_dict(self.baseline),
            "frontier": [snapshot_to_dict(snapshot) for snapshot in self.frontier],
            "evaluations": self.evaluations,
            "nonfinite": self.nonfinite,
            "reasons_given": dict(self.reasons_given),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state saved by `state_dict`."""
        self.baseline = None if state["baseline"] is None else snapshot_from_dict(state["baseline"])
        self.frontier = [snapshot_from_dict(item) for item in state["frontier"]]
        self.evaluations, self.nonfinite = state["evaluations"], state["nonfinite"]
        self.reasons_given = dict(state["reasons_given"])

    def _evaluate_gates(
        self, ctx: OccamContext, baseline: ModelSnapshot | None
    ) -> tuple[Verdict, list[_Gate], dict[str, float]]:
        candidate = self.measure(ctx)
        loss, drift = candidate.loss, candidate.complexity_cost
        finite = math.isfinite(loss) and math.isfinite(drift)
        quality = self._quality_limit(ctx)
        complexity = math.inf if self.complexity_threshold is None else self.complexity_threshold
        nonfinite_value = drift if math.isfinite(loss) else loss
        gates = [
            _Gate("finite", nonfinite_value, math.inf, finite, "REJECTED_NONFINITE"),
            _Gate("quality", loss, quality, loss <= quality, "REJECTED_QUALITY"),
            _Gate("complexity", drift, complexity, drift <= complexity, "REJECTED_COMPLEXITY"),
            self._evaluate_efficiency(candidate, baseline),
        ]
        numbers = {"oq": candidate.occam_quotient, "loss": loss, "drift": drift}
        if baseline is not None:
            numbers["oq_baseline"] = baseline.metrics.occam_quotient
        for gate in gates[1:]:
            numbers |= {
                f"{gate.name}_value": gate.value,
                f"{gate.name}_limit": gate.limit,
                f"{gate.name}_passed": float(gate.passed),
            }
        failed = next((gate for gate in gates if not gate.passed), None)
        if failed is not None:
            return Verdict(accept=False, reason=failed.reason), gates, numbers
        return Verdict(accept=True, reason=gates[-1].reason), gates, numbers

    def _evaluate_efficiency(self, candidate: OccamMetrics, baseline: ModelSnapshot | None) -> _Gate:
        """Return the third gate. Its reason is the reason of the resulting verdict."""
        min_gain = self.min_oq_improvement
        if not candidate.occam_quotient > 0:
            has_cost = candidate.flops > 0 and candidate.megabytes > 0
            reason = "REJECTED_NO_PERFORMANCE" if has_cost else "REJECTED_NO_COST"
            return _Gate("efficiency", candidate.occam_quotient, min_gain, passed=False, reason=reason)
        if baseline is None:
            return _Gate("efficiency", math.inf, min_gain, passed=True, reason="ACCEPTED_FIRST_VALID")
        if baseline.metrics.spec != candidate.spec:
            return _Gate("efficiency", math.nan, min_gain, passed=False, reason="REJECTED_INCOMPARABLE")
        gain = relative_improvement(candidate.occam_quotient, baseline.metrics.occam_quotient)
        if math.isnan(gain):
            return _Gate("efficiency", gain, min_gain, passed=False, reason="INVALID_BASELINE")
        passed = gain >= min_gain
        reason = "ACCEPTED_OQ_IMPROVEMENT" if passed else "REJECTED_OQ_INSUFFICIENT"
        return _Gate("efficiency", gain, min_gain, passed, reason)

    def measure(self, ctx: OccamContext) -> OccamMetrics:
        """Return the metrics of a context, from its validation loss, or else from `task_loss`."""
        loss = ctx.task_loss if ctx.val_loss is None else ctx.val_loss
        flops, megabytes = ctx.cost()
        is_measured = ctx.inference_flops > 0 and ctx.memory_footprint_mb > 0
        vocab_size = ctx.vocab_size if self.performance == "bits_saved" else 0
        spec = QuotientSpec(
            self.performance,
            "measured" if is_measured else "from_params",
            ctx.inference_tokens if is_measured else 1,
            vocab_size,
        )
        quotient = ctx.quotient_of_loss(loss, self.performance)
        quotient = math.nan if quotient is None else quotient
        return OccamMetrics(loss, ctx.complexity_cost, quotient, flops, megabytes, spec.digest)

    def _quality_limit(self, ctx: OccamContext) -> float:
        if self.quality_threshold is not None:
            return self.quality_threshold
        if self.quality_fraction is None:
            return math.inf
        if ctx.vocab_size < 2:
            raise BadInputError(
                "memory: quality_fraction requires vocab_size in the context; set it in the facts of the run"
            )
        return self.quality_fraction * math.log(ctx.vocab_size)

    def _count(self, ctx: OccamContext, verdict: Verdict, gates: list[_Gate]) -> None:
        self.evaluations += 1
        self.nonfinite += verdict.reason == "REJECTED_NONFINITE"
        self.reasons_given[verdict.reason] = self.reasons_given.get(verdict.reason, 0) + 1
        failed = next((gate for gate in gates if not gate.passed), None)
        if failed is not None and failed.reason in _LIMITED:
            lowest, _ = self.closest.get(failed.reason, (math.inf, 0.0))
            self.closest[failed.reason] = (min(failed.value, lowest), failed.limit)
        if verdict.accept:
            self.baseline = self._snapshot(ctx)
            self.frontier = pareto_frontier([*self.frontier, self.baseline])

    def _snapshot(self, ctx: OccamContext) -> ModelSnapshot:
        return ModelSnapshot(f"accepted-{ctx.iter_num:08d}", ctx.iter_num, self.measure(ctx))


# Name in the first documents.
OckhamMemoryV2 = OckhamMemory
