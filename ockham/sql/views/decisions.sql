-- Every decision of every plugin, with its reason: a verdict or a knob change.
-- decision_id: ID of the decision (UUIDv7), the same as its event's
-- run_id: ID of the run
-- attempt: number of the start or resume that wrote it, from 1
-- rank: process that wrote it, from 0
-- sequence: position in its log, from 0
-- time: time when it was appended, UTC
-- iter_num: optimizer step
-- micro_step: micro-batch within the step
-- hook: on_batch_start, on_gradients, on_batch_end, on_evaluate or on_consolidate; the first three have one context, of hook 'batch'
-- plugin: name of the plugin in its policy
-- plugin_order: position of the plugin in the chain, from 0
-- shadow: true if the plugin ran in shadow mode: it decided, but changed nothing
-- superseded: true if a later attempt resumed from an earlier iteration
-- signed: true if the newest tree head of the log covers the event; the signature of the head is checked, its root is not recomputed here
-- counted: true if the figures of a run count the row: signed, not superseded, rank 0
-- acting: true if it is counted and the plugin acts: not in shadow
-- action: action, a stable word
-- reason_code: reason, a stable code; see reason_codes
-- observed: value that the plugin evaluated
-- threshold: limit for the observed value
-- margin: observed - threshold
-- changes: changed knobs, with the value before and after
-- numbers: further input values, by name
-- policy_revision: digest of the policy in force
select d.event_id as decision_id, d.run_id, d.attempt, d.rank, d.sequence, d.time, d.iter_num, d.micro_step, d.hook,
    d.plugin, d."order" as plugin_order, d.shadow, d.superseded, d.signed,
    d.signed and not d.superseded and d.rank = 0 as counted,
    d.signed and not d.superseded and d.rank = 0 and not d.shadow as acting,
    d.action, d.reason_code, d.observed, d.threshold, d.observed - d.threshold as margin, d.changes, d.numbers,
    d.policy_revision
from raw_decisions d
