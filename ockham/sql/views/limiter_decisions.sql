-- Where the limiter capped something, with the value before and the cap.
-- decision_id: ID of the decision
-- observed: value before the cap
-- threshold: the cap
-- overshoot: observed / threshold - 1
select d.decision_id, d.run_id, d.attempt, d.rank, d.sequence, d.time, d.iter_num, d.micro_step, d.hook, d.plugin,
    d.shadow, d.superseded, d.action, d.reason_code, d.observed, d.threshold, d.margin,
    d.observed / nullif(d.threshold, 0) - 1 as overshoot, d.changes, d.numbers, d.policy_revision
from decisions d
where d.plugin in (select plugin from plugin_uses where use = 'limiter') and not exists (
    select 1 from plugin_clashes c where c.use <> 'limiter' and c.run_id = d.run_id
    and c.policy_revision = d.policy_revision and c.plugin = d.plugin)
