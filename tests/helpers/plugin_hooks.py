"""One hook of a plugin on one context. Each function returns the context and the reason codes."""

from __future__ import annotations

from ockham.context import OccamContext

HookResult = tuple[OccamContext, list[str]]


def start_batch(plugin, **fields) -> HookResult:
    """Run `on_batch_start`."""
    ctx = _make_context(fields)
    plugin.on_batch_start(ctx)
    return ctx, _reason_codes(ctx)


def end_batch(plugin, gauges=None, **fields) -> HookResult:
    """Run `on_batch_end` with gauges."""
    ctx = _make_context(fields)
    ctx.set_gauges(**(gauges or {}))
    plugin.on_batch_end(ctx)
    return ctx, _reason_codes(ctx)


def evaluate(plugin, gauges=None, **fields) -> HookResult:
    """Run `on_evaluate` with gauges."""
    ctx = _make_context(fields)
    ctx.set_gauges(**(gauges or {}))
    plugin.on_evaluate(ctx)
    return ctx, _reason_codes(ctx)


def _make_context(fields) -> OccamContext:
    return OccamContext(fields.pop("iter_num", 5), fields.pop("task_loss", 2.0), **fields)


def _reason_codes(ctx) -> list[str]:
    return [note.reason_code for note in ctx.notes]
