"""The explanation of one batch that `ockham why` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ockham.cli.output import is_verbose
from ockham.errors import BadInputError
from ockham.formatting import format_cell

Row = Mapping[str, Any]
DECISION_COLUMNS = (
    "decision_id",
    "attempt",
    "rank",
    "iter_num",
    "micro_step",
    "hook",
    "plugin",
    "action",
    "reason_code",
    "meaning",
    "observed",
    "threshold",
    "shadow",
    "signed",
    "changes",
)
_CONTEXTS = "select * from contexts where run_id = $run and iter_num = $iter order by attempt, rank, sequence"
_DECISIONS = """
select d.*, r.meaning from decisions d left join plugin_uses u using (run_id, policy_revision, plugin)
left join reason_codes r on r.plugin = u.use and r.reason_code = d.reason_code
where d.run_id = $run and d.iter_num = $iter order by d.attempt, d.rank, d.sequence
"""
_NOT_APPLIED = """
select attempt, rank, data ->> '$.field' as field, data ->> '$.decided' as decided,
    data ->> '$.applied' as applied, data ->> '$.reason_code' as reason_code
from events
where run_id = $run and iter_num = $iter and type = 'ockham.verdict.not_applied.v1'
order by attempt, rank, sequence
"""
_FAILURES = """
select attempt, data ->> '$.plugin' as plugin, data ->> '$.hook' as hook,
    data ->> '$.error_type' as error_type, data ->> '$.message' as message
from events
where run_id = $run and iter_num = $iter and type = 'ockham.plugin.failed.v1' and rank = 0
order by attempt
"""
_PEOPLE = """
select kind, person, reason, subject, changes, recorded_in, reason_code, signed
from people where run_id = $run and iter_num = $iter order by time, event_id
"""
_ROLLBACKS = """
select attempt, anchor_iter_num, snapshot_id, after_rollback, next_position from rollbacks
where run_id = $run and iter_num = $iter and rank = 0 order by attempt, sequence
"""
_SKIPPED_DATA = """
select attempt, first_position, last_position, skipped_by, reason_code from skipped_data
where run_id = $run and iter_num = $iter and rank = 0 order by attempt, sequence
"""
_HOOK_TIMES = {
    "on_batch_start": "before the step",
    "on_gradients": "before clipping",
    "on_batch_end": "after the step",
    "on_evaluate": "at the evaluation",
    "on_consolidate": "when the anchor moved",
}


def list_decisions(catalog: Any, run_id: str, iter_num: int) -> tuple[Sequence[str], list[list[Any]]]:
    """Return the columns and rows of the decisions about one batch."""
    rows = catalog.rows(_DECISIONS, {"run": run_id, "iter": iter_num})
    return DECISION_COLUMNS, [[row[column] for column in DECISION_COLUMNS] for row in rows]


def explain_iteration(catalog: Any, run_id: str, iter_num: int) -> Iterator[str]:
    """Yield lines about the inputs, the decisions and the result. They may contain any text from the log.

    Raises:
        BadInputError: If the run has no such iteration.

    """
    parameters = {"run": run_id, "iter": iter_num}
    contexts, decisions, failures = (
        catalog.rows(sql, parameters) for sql in (_CONTEXTS, _DECISIONS, _FAILURES)
    )
    if not contexts and (decisions or failures):
        yield f"Iteration {iter_num} of {run_id}: the run ended inside it, so no context was recorded"
        yield from _format_decisions([decision for decision in decisions if decision["rank"] == 0])
    elif not contexts:
        sql = "select max(iter_num) as last from contexts where run_id = $run"
        last = catalog.rows(sql, {"run": run_id})[0]["last"]
        accepted = "it has none yet" if last is None else f"it has 0 to {last}"
        raise BadInputError(f"run {run_id!r} has no iteration {iter_num}; {accepted}")
    has_many_ranks = len({context["rank"] for context in contexts}) > 1
    for context in contexts:
        if has_many_ranks:
            yield f"Rank {context['rank']}"
        matching = [decision for decision in decisions if _belongs_to(decision, context)]
        if context["hook"] == "batch":
            yield from _format_batch(context, matching)
        else:
            yield from _format_other_hook(context, matching)
    for found in catalog.rows(_NOT_APPLIED, parameters):
        yield (
            f"  NOT APPLIED: {found['field']} was decided as {found['decided']}, and {found['applied']} was "
            f"measured ({found['reason_code']}; attempt {found['attempt']}, rank {found['rank']})"
        )
    for row in catalog.rows(_PEOPLE, parameters):
        yield f"  {format_person(row)}"
    yield from _format_data_events(catalog, parameters)
    for failure in failures:
        yield (
            f"  plugin {failure['plugin']} failed in {failure['hook']} (attempt {failure['attempt']}): "
            f"{failure['error_type']}: {failure['message']}"
        )


def format_person(row: Row) -> str:
    """Return in one line what a person did."""
    unsigned = "" if row["signed"] else " (UNSIGNED: it proves nothing)"
    if row["kind"] == "request.refused":
        person = "" if row["person"] is None else f" of {row['person']}"
        return f"REFUSED request{person}: {row['reason_code']}: {row['reason']}{unsigned}"
    subject = "" if row["subject"] is None else f" {row['subject']}"
    if row["changes"] is not None:
        changes = [
            f"{each['setting']}: {_format_knob(each['before'])} -> {_format_knob(each['after'])}"
            for each in json.loads(row["changes"])
        ]
        subject = f" {', '.join(changes)}"
    where = "" if row["recorded_in"] == "log" else ", in the ledger"
    return f"{row['kind']}{subject} by {row['person']}: {row['reason']}{where}{unsigned}"


def _format_data_events(catalog: Any, parameters: Row) -> Iterator[str]:
    """Yield lines about a rollback and about skipped data."""
    for back in catalog.rows(_ROLLBACKS, parameters):
        state = f"state {back['snapshot_id']}" if back["snapshot_id"] else "anchor"
        text = f"  rolled back to the {state} of iteration {back['anchor_iter_num']}"
        if back["after_rollback"]:
            text += f"; next position {back['next_position']} ({back['after_rollback']})"
        yield f"{text} (attempt {back['attempt']})"
    for skipped in catalog.rows(_SKIPPED_DATA, parameters):
        yield (
            f"  data skipped: positions {skipped['first_position']} to {skipped['last_position']} "
            f"({skipped['reason_code']}, by {skipped['skipped_by']}, attempt {skipped['attempt']})"
        )


def _belongs_to(decision: Row, context: Row) -> bool:
    """Return True if a decision was made on a context."""
    first = context["first_decision"]
    if first is None or any(decision[key] != context[key] for key in ("attempt", "rank", "micro_step")):
        return False
    if not first <= decision["sequence"] < context["sequence"]:
        return False
    if context["hook"] == "batch":
        return decision["hook"] in ("on_batch_start", "on_gradients", "on_batch_end")
    return bool(decision["hook"] == context["hook"])


def _format_batch(context: Row, decisions: Sequence[Row]) -> Iterator[str]:
    superseded = ", superseded by a later attempt" if context["superseded"] else ""
    micro_step = f", micro-step {context['micro_step']}" if context["micro_step"] else ""
    yield (
        f"Iteration {context['iter_num']}{micro_step} of {context['run_id']} "
        f"(attempt {context['attempt']}{superseded})"
    )
    if not context["signed"]:
        yield "  UNSIGNED: no tree head covers this batch, so it proves nothing"
    yield (
        f"  input: loss {_format_number(context['task_loss'])} nats/token, "
        f"learning rate {_format_number(context['base_learning_rate'])}, "
        f"lambda {_format_number(context['base_lambda_ockham'])}"
    )
    yield from _format_decisions(decisions)
    yield f"  result: {_format_step(context)}"
    yield f"    {', '.join(_measurements(context))}"


def _format_step(context: Row) -> str:
    """Return in one sentence what was measured at the optimizer."""
    applied, is_last = context["applied_update"], context["micro_step"] >= context["micro_steps"] - 1
    if applied is None:
        return "the loop did not report whether the optimizer stepped"
    if applied:
        rates = ", ".join(_format_number(rate) for rate in context["applied_learning_rates"])
        return "the optimizer stepped" + (f" with learning rate {rates}" if rates else "")
    if not is_last:
        steps = context["micro_steps"]
        return f"micro-batch {context['micro_step'] + 1} of {steps}; the step follows the last one"
    if context["refusal_cause"]:
        return f"the optimizer did not step ({context['refusal_cause']})"
    return "the optimizer did not step"


def _measurements(context: Row) -> Iterator[str]:
    """Yield the gauges that this batch measured. Others were carried over from an earlier one."""
    if "grad_norm" in context["measured_gauges"]:
        clipped = context["clipped_grad_norm"]
        after = "" if clipped is None else f" ({_format_number(clipped)} after clipping)"
        yield f"gradient norm {_format_number(context['grad_norm'])}{after}"
    if "complexity_cost" in context["measured_gauges"]:
        yield f"drift {_format_number(context['complexity_cost'])}"
    yield f"update rate so far {_format_number(context['update_rate'])}"


def _format_other_hook(context: Row, decisions: Sequence[Row]) -> Iterator[str]:
    if context["hook"] == "on_evaluate":
        loss, drift = _format_number(context["val_loss"]), _format_number(context["complexity_cost"])
        yield f"  evaluation: validation loss {loss} nats/token, drift {drift}"
    else:
        yield "  consolidation: the anchor moved to the current weights"
    yield from _format_decisions(decisions)


def _format_decisions(decisions: Sequence[Row]) -> Iterator[str]:
    if not decisions:
        yield "    no plugin decided"
    for decision in decisions:
        time = _HOOK_TIMES.get(decision["hook"], decision["hook"])
        action, reason = decision["action"], decision["reason_code"]
        because = "" if action == reason else f" because {reason}"
        shadow = " (in shadow: nothing was changed)" if decision["shadow"] else ""
        yield f"    {decision['plugin']}, {time}: {action}{because}{_format_comparison(decision)}{shadow}"
        if decision["meaning"]:
            yield f"      {decision['meaning']}"
        for change in decision["changes"]:
            before, after = _format_knob(change["before"]), _format_knob(change["after"])
            yield f"      {change['field']}: {before} -> {after}"
        unsigned = "" if decision["signed"] else " (unsigned: no tree head covers it)"
        yield f"      decision {decision['decision_id']}{unsigned}"


def _format_comparison(decision: Row) -> str:
    if decision["observed"] is None:
        return ""
    observed = _format_number(decision["observed"])
    if decision["threshold"] is None:
        return f": {observed}"
    return f": {observed} against {_format_number(decision['threshold'])}"


def _format_knob(value: Any) -> str:
    """Return a knob value with four digits, or with all digits for --verbose."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return format_cell(value)
    if is_verbose() or number.is_integer() or isinstance(value, bool):
        return format_cell(value)
    return f"{number:.4g}"


def _format_number(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, float) and not is_verbose():
        return f"{value:.4g}"
    return format_cell(value)
