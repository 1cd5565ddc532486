-- Verdict of the memory on every evaluation, with the value and limit of each gate.
-- decision_id: ID of the decision
-- accepted: true if the weights are saved as a checkpoint
-- failed_gate: finite, quality, complexity, efficiency or baseline; null if accepted
-- loss: validation loss, nats/token
-- loss_limit: highest loss that passes
-- drift: relative drift from the anchor
-- drift_limit: highest drift that passes
-- occam_quotient: quotient of the candidate
-- baseline_quotient: quotient of the last accepted candidate; null for the first
-- oq_improvement: occam_quotient / baseline_quotient - 1
-- oq_limit: lowest improvement that passes
-- numbers: all input values, by name; the columns from loss to oq_limit are made from them
select d.decision_id, d.run_id, d.attempt, d.rank, d.sequence, d.time, d.iter_num, d.micro_step, d.hook, d.plugin,
    d.shadow, d.superseded, d.signed, d.counted, d.acting,
    d.action, d.reason_code, d.action = 'ACCEPT' as accepted,
    case d.reason_code when 'REJECTED_NONFINITE' then 'finite' when 'REJECTED_QUALITY' then 'quality'
        when 'REJECTED_COMPLEXITY' then 'complexity' when 'REJECTED_OQ_INSUFFICIENT' then 'efficiency'
        when 'INVALID_BASELINE' then 'baseline' when 'REJECTED_INCOMPARABLE' then 'baseline'
        when 'REJECTED_NO_COST' then 'efficiency'
        when 'REJECTED_NO_PERFORMANCE' then 'efficiency' end as failed_gate,
    d.observed, d.threshold, d.margin, d.numbers['loss'] as loss, d.numbers['quality_limit'] as loss_limit,
    d.numbers['drift'] as drift, d.numbers['complexity_limit'] as drift_limit, d.numbers['oq'] as occam_quotient,
    d.numbers['oq_baseline'] as baseline_quotient, d.numbers['oq'] / d.numbers['oq_baseline'] - 1 as oq_improvement,
    d.numbers['efficiency_limit'] as oq_limit, d.numbers, d.policy_revision
from raw_memory_decisions d
