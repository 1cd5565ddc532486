-- Every decision of every plugin: a verdict, or a knob that turned, with its reason.
-- decision_id: ID of the decision (UUIDv7), the same as its event's
-- run_id: ID of the run
-- attempt: start or resume that wrote it, from 1
-- rank: process that wrote it, from 0
-- sequence: place in its log
-- time: when it was handed over, UTC
-- iter_num: optimizer step
-- micro_step: micro-batch within the step
-- hook: on_batch_start, on_batch_end, on_evaluate or on_consolidate
-- plugin: name of the plugin in its policy
-- plugin_order: place of the plugin in the chain, from 0
-- shadow: whether it only watched: decided, and changed nothing
-- superseded: whether a later attempt went back before it
-- action: what was done, a stable word
-- reason_code: why, a stable code; see reason_codes
-- observed: value that was judged
-- threshold: limit that it was judged against
-- margin: observed - threshold
-- changes: knobs that it turned, with value before and after
-- numbers: further values that it rests on, by name
-- policy_revision: digest of the policy in force
select d.event_id as decision_id, d.run_id, d.attempt, d.rank, d.sequence, d.time, d.iter_num, d.micro_step, d.hook,
    d.plugin, d."order" as plugin_order, d.shadow, d.superseded,
    d.action, d.reason_code, d.observed, d.threshold, d.observed - d.threshold as margin, d.changes, d.numbers,
    d.policy_revision
from raw_decisions d
