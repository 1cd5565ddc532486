-- Verdict of the surprise gate on every batch.
-- decision_id: ID of the decision
-- updated: true if the gate allowed the batch to update the weights
-- observed: loss of the batch, nats/token
-- threshold: lowest loss for an update, nats/token
-- margin: observed - threshold
-- z: surprise of the loss, in standard deviations of earlier losses
-- q: quantile that the gate uses as threshold
select d.decision_id, d.run_id, d.attempt, d.rank, d.sequence, d.time, d.iter_num, d.micro_step, d.hook, d.plugin, d.shadow,
    d.superseded, d.signed, d.counted, d.acting, d.action, d.action = 'UPDATE' as updated, d.reason_code, d.observed, d.threshold, d.margin,
    d.numbers['z'] as z, d.numbers['q'] as q, d.numbers, d.policy_revision
from raw_gate_decisions d
where d.hook = 'on_batch_start'
