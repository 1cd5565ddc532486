"""Plugins that make decisions at fixed batches."""

from __future__ import annotations

import math

from ockham.plugin import OccamPlugin


class EachThird(OccamPlugin):
    """Skips each third batch, halves the learning rate of the others, and can limit their gradient."""

    name = "third"

    def __init__(self, limit: float = math.inf) -> None:
        self.limit = limit

    def on_batch_start(self, ctx):
        if (ctx.iter_num + ctx.micro_step) % 3 == 0:
            ctx.updated = False
            ctx.decide("SKIP", "EACH_THIRD")
            return
        ctx.learning_rate *= 0.5
        ctx.grad_clip = min(ctx.grad_clip, self.limit)
        ctx.decide("SCALE", "HALVED", fields=("learning_rate", "grad_clip"))


class Stop(OccamPlugin):
    """Halts the run after six steps."""

    name = "stop"

    def on_batch_end(self, ctx):
        if ctx.iter_num == 5:
            ctx.halt = True
            ctx.decide("HALT", "SIX_STEPS_DONE")


class RollbackAt(OccamPlugin):
    """Requests a rollback after the steps `first` and `second`. Counts losses and rollbacks in its state."""

    name = "rollback_at"

    def __init__(self, first: int = 20, second: int = -1) -> None:
        self.first = first
        self.second = second
        self.losses = 0.0

    def on_batch_end(self, ctx):
        self.losses += ctx.task_loss
        if ctx.ends_step and ctx.iter_num in (self.first, self.second):
            ctx.rollback = True
            ctx.decide("ROLLBACK", "REQUESTED", self.losses, fields=("rollback",))


class RollbackCounter(OccamPlugin):
    """Counts the requests for a rollback of the plugins before it, also after the rollback."""

    name = "rollback_counter"
    survives_rollback = True

    def __init__(self) -> None:
        self.rollbacks = 0

    def on_batch_end(self, ctx):
        self.rollbacks += ctx.rollback
        if ctx.rollback:
            ctx.decide("COUNT", "ROLLBACK_REQUESTED", self.rollbacks)


class OnGradients(OccamPlugin):
    """Refuses, slows down, clips or leaves the step, by turns of four. Skips each third micro-batch."""

    name = "gradients"

    def __init__(self, skips: bool = False) -> None:
        self.skips = skips

    def on_batch_start(self, ctx):
        if self.skips and (ctx.iter_num + ctx.micro_step) % 3 == 0:
            ctx.updated = False
            ctx.decide("SKIP", "EACH_THIRD")
            return
        ctx.learning_rate *= 1.0 - ctx.micro_step / 8
        ctx.decide("SCALE", "BY_MICRO_STEP")

    def on_gradients(self, ctx):
        turn = ctx.iter_num % 4
        if turn == 1:
            ctx.step = False
            ctx.decide("SKIP", "REFUSED", ctx.grad_norm)
        elif turn == 2:
            ctx.learning_rate *= 0.5
            ctx.decide("SCALE", "SLOWER", ctx.grad_norm)
        elif turn == 3:
            ctx.grad_clip = ctx.grad_norm / 2
            ctx.decide("CLAMP", "CLIPPED", ctx.grad_norm, ctx.grad_clip)
