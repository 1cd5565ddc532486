-- How did each candidate fare, relative to the first accepted one?
-- run: run ID
with m as (select * from memory_decisions where run_id = $run and not superseded)
select iter_num as iter, loss, loss_limit, drift, drift_limit, oq_improvement, oq_limit, accepted,
    coalesce(failed_gate, 'accepted') as outcome, decision_id,
    occam_quotient / (select arg_min(occam_quotient, sequence) from m where accepted) - 1 as gain
from m order by iter
