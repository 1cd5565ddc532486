-- Decisions of the limiter that capped a value, with the original value and the cap.
-- decision_id: ID of the decision
-- observed: value before the cap
-- threshold: the cap
-- overshoot: observed / threshold - 1
select d.decision_id, d.run_id, d.attempt, d.rank, d.sequence, d.time, d.iter_num, d.micro_step, d.hook, d.plugin,
    d.shadow, d.superseded, d.signed, d.counted, d.acting, d.action, d.reason_code, d.observed, d.threshold, d.margin,
    d.observed / nullif(d.threshold, 0) - 1 as overshoot, d.changes, d.numbers, d.policy_revision
from raw_limiter_decisions d
