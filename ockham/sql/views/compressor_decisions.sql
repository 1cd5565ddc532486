-- Decisions of the compressor: how it scaled learning rate and lambda, and why.
-- decision_id: ID of the decision
-- observed: relative drift over the window
-- threshold: drift above which it compresses
-- learning_rate_before: value before the decision
-- learning_rate_after: value after the decision
-- lambda_before: value before the decision
-- lambda_after: value after the decision
select d.decision_id, d.run_id, d.attempt, d.rank, d.sequence, d.time, d.iter_num, d.micro_step, d.hook, d.plugin, d.shadow,
    d.superseded, d.signed, d.counted, d.acting, d.action, d.reason_code, d.observed, d.threshold, d.margin,
    list_filter(d.changes, lambda c: c.field = 'learning_rate')[1].before_value as learning_rate_before,
    list_filter(d.changes, lambda c: c.field = 'learning_rate')[1].after_value as learning_rate_after,
    list_filter(d.changes, lambda c: c.field = 'lambda_ockham')[1].before_value as lambda_before,
    list_filter(d.changes, lambda c: c.field = 'lambda_ockham')[1].after_value as lambda_after,
    d.numbers, d.policy_revision
from raw_compressor_decisions d
