-- Every decision of every plugin: an accept or reject result, or a knob change, with its reason.
-- decision_id: ID of the decision (UUIDv7), the same as its event's
-- run_id: ID of the run
-- attempt: start or resume that wrote it, from 1
-- rank: process that wrote it, from 0
-- sequence: position in its log
-- time: when it was appended, UTC
-- iter_num: optimizer step
-- micro_step: micro-batch within the step
-- hook: on_batch_start, on_batch_end, on_evaluate or on_consolidate
-- plugin: name of the plugin in its policy
-- plugin_order: position of the plugin in the chain, from 0
-- shadow: true if the plugin is in shadow: it decided, and changed nothing
-- superseded: true if a later attempt resumed from a checkpoint before it
-- action: what the plugin did, a stable word
-- reason_code: why, a stable code; see reason_codes
-- observed: value that was compared
-- threshold: limit that it was compared with
-- margin: observed - threshold
-- changes: knobs that it changed, with value before and after
-- numbers: further values of the decision, by name
-- policy_revision: digest of the policy in force
select d.event_id as decision_id, d.run_id, d.attempt, d.rank, d.sequence, d.time, d.iter_num, d.micro_step, d.hook,
    d.plugin, d."order" as plugin_order, d.shadow, d.superseded,
    d.action, d.reason_code, d.observed, d.threshold, d.observed - d.threshold as margin, d.changes, d.numbers,
    d.policy_revision
from raw_decisions d
