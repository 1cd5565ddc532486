-- Gauges of every counted batch and evaluation, only where they were measured. In contexts they are carried over.
-- hook: batch, on_evaluate or on_consolidate
-- complexity_cost: relative drift from the anchor; null if this row did not measure it
-- drift_raw: drift before the projection of the step; null if this row did not measure it
-- drift_sq: squared sum of the drift; null if this row did not measure it
-- grad_norm: L2 norm of the gradient before clipping; null if this row did not measure it
-- val_loss: validation loss, nats/token; null if this row did not measure it
-- kl_to_anchor: KL(anchor || current) on the probe, nats/token; null if this row did not measure it
-- occam_quotient: quotient of the evaluation; null if this row did not measure it
select event_id, run_id, attempt, sequence, time, iter_num, micro_step, hook,
    case when list_contains(measured_gauges, 'complexity_cost') then complexity_cost end as complexity_cost,
    case when list_contains(measured_gauges, 'drift_raw') then drift_raw end as drift_raw,
    case when list_contains(measured_gauges, 'drift_sq') then drift_sq end as drift_sq,
    case when list_contains(measured_gauges, 'grad_norm') then grad_norm end as grad_norm,
    case when list_contains(measured_gauges, 'val_loss') then val_loss end as val_loss,
    case when list_contains(measured_gauges, 'kl_to_anchor') then kl_to_anchor end as kl_to_anchor,
    case when list_contains(measured_gauges, 'occam_quotient') then occam_quotient end as occam_quotient
from contexts where counted
