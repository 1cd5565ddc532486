"""One hook on one context, and what was said."""

from __future__ import annotations

from ockham.context import OccamContext


def start(plugin, ctx=None, **fields):
    ctx = ctx or OccamContext(fields.pop("iter_num", 5), fields.pop("task_loss", 2.0), **fields)
    plugin.on_batch_start(ctx)
    return ctx, [note.reason_code for note in ctx.notes]


def end(plugin, gauges=None, **fields):
    ctx = OccamContext(fields.pop("iter_num", 5), fields.pop("task_loss", 2.0), **fields)
    ctx.set_gauges(**(gauges or {}))
    plugin.on_batch_end(ctx)
    return ctx, [note.reason_code for note in ctx.notes]


def evaluate(plugin, gauges=None, **fields):
    ctx = OccamContext(fields.pop("iter_num", 5), 2.0, **fields)
    ctx.set_gauges(**(gauges or {}))
    plugin.on_evaluate(ctx)
    return ctx, [note.reason_code for note in ctx.notes]
