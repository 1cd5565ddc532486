"""The chain of one batch in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ockham.errors import BadInputError
from ockham.formatting import format_cell

Row = Mapping[str, Any]
_CONTEXTS = "select * from contexts where run_id = $run and iter_num = $iter order by attempt, rank, sequence"
_DECISIONS = """
select d.*, r.meaning from decisions d left join plugin_uses u using (run_id, policy_revision, plugin)
left join reason_codes r on r.plugin = u.use and r.reason_code = d.reason_code
where d.run_id = $run and d.iter_num = $iter order by d.attempt, d.rank, d.sequence
"""
_FAILURES = """
select attempt, data ->> '$.plugin' as plugin, data ->> '$.hook' as hook, data ->> '$.error_type' as error_type,
    data ->> '$.message' as message
from events where run_id = $run and iter_num = $iter and type = 'ockham.plugin.failed.v1' and rank = 0 order by attempt
"""
_WHEN = {"on_batch_start": "before the step", "on_batch_end": "after the step", "on_evaluate": "at the evaluation",
         "on_consolidate": "when the anchor moved"}  # fmt: skip


def explain_iteration(catalog: Any, run_id: str, iter_num: int) -> Iterator[str]:
    """Lines that tell what was given, who decided what and why, and what was done; whatever the log holds may stand in them.

    Raises:
        BadInputError: if the run has no such iteration.

    """
    where = {"run": run_id, "iter": iter_num}
    contexts, decisions, failures = (catalog.rows(sql, where) for sql in (_CONTEXTS, _DECISIONS, _FAILURES))
    if not contexts and (decisions or failures):
        yield f"Iteration {iter_num} of {run_id}: the run ended inside it, so its context was never recorded"
        yield from _format_decisions([made for made in decisions if made["rank"] == 0])
    elif not contexts:
        last = catalog.rows(
            "select max(iter_num) as last from contexts where run_id = $run", {"run": run_id}
        )[0]["last"]
        accepted = "it has none yet" if last is None else f"it has 0 to {last}"
        raise BadInputError(f"run {run_id!r} has no iteration {iter_num}: {accepted}")
    several = len({context["rank"] for context in contexts}) > 1
    for context in contexts:
        if several:
            yield f"Rank {context['rank']}"
        own = [d for d in decisions if _belongs(d, context)]
        yield from _batch(context, own) if context["hook"] == "batch" else _format_other_hook(context, own)
    for failed in failures:
        what = f"failed in {failed['hook']} (attempt {failed['attempt']}): {failed['error_type']}: {failed['message']}"
        yield f"  plugin {failed['plugin']} {what}"


def _belongs(decision: Row, context: Row) -> bool:
    first = context["first_decision"]
    place = ("attempt", "rank")
    return (
        first is not None
        and all(decision[key] == context[key] for key in place)
        and first <= decision["sequence"] < context["sequence"]
        and (
            decision["hook"].startswith("on_batch")
            if context["hook"] == "batch"
            else decision["hook"] == context["hook"]
        )
        and decision["micro_step"] == context["micro_step"]
    )


def _batch(context: Row, decisions: Sequence[Row]) -> Iterator[str]:
    superseded = ", superseded by a later attempt" if context["superseded"] else ""
    micro = f", micro-batch {context['micro_step']}" if context["micro_step"] else ""
    yield f"Iteration {context['iter_num']}{micro} of {context['run_id']} (attempt {context['attempt']}{superseded})"
    yield (
        f"  given: loss {_format_number(context['task_loss'])} nats/token, learning rate {_format_number(context['base_learning_rate'])}, "
        f"lambda {_format_number(context['base_lambda_ockham'])}"
    )
    yield from _format_decisions(decisions)
    step = "the optimizer took a step" if context["applied_update"] else "the optimizer took no step"
    asked = (
        ""
        if bool(context["updated"]) == bool(context["applied_update"])
        else f", though updated was {format_cell(context['updated'])}"
    )
    # Without a backward pass the gauge is still that of the batch before.
    norm = f"gradient norm {_format_number(context['grad_norm'])}, " if context["updated"] else ""
    yield (
        f"  done: {step}{asked}; learning rate {_format_number(context['learning_rate'])}, {norm}"
        f"drift {_format_number(context['complexity_cost'])}, update rate so far {_format_number(context['update_rate'])}"
    )


def _format_other_hook(context: Row, decisions: Sequence[Row]) -> Iterator[str]:
    if context["hook"] == "on_evaluate":
        yield f"  evaluation: validation loss {_format_number(context['val_loss'])} nats/token, drift {_format_number(context['complexity_cost'])}"
    else:
        yield "  consolidation: the anchor moved to the present weights"
    yield from _format_decisions(decisions)


def _format_decisions(decisions: Sequence[Row]) -> Iterator[str]:
    if not decisions:
        yield "    no plugin decided anything"
    for d in decisions:
        shadow = " (in shadow: nothing was changed)" if d["shadow"] else ""
        judged = ""
        if d["observed"] is not None:
            limit = "" if d["threshold"] is None else f" against {_format_number(d['threshold'])}"
            judged = f": {_format_number(d['observed'])}{limit}"
        yield f"    {d['plugin']}, {_WHEN.get(d['hook'], d['hook'])}: {d['action']} because {d['reason_code']}{judged}{shadow}"
        if d["meaning"]:
            yield f"      {d['meaning']}"
        for change in d["changes"]:
            yield f"      {change['field']}: {change['before']} -> {change['after']}"
        yield f"      decision {d['decision_id']}"


def _format_number(value: Any) -> str:
    return "unknown" if value is None else f"{value:.4g}" if isinstance(value, float) else format_cell(value)
