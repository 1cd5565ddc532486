-- Which candidates failed by the smallest margin, relative to the limit?
-- run: run ID
-- The efficiency limit is the required quotient: (1 + oq_limit) times the baseline quotient.
select iter_num, failed_gate, case failed_gate when 'efficiency' then (oq_limit - oq_improvement) / (1 + oq_limit)
        when 'quality' then (loss - loss_limit) / loss_limit when 'complexity' then (drift - drift_limit) / drift_limit end as missing,
    loss, loss_limit, drift, drift_limit, oq_improvement, oq_limit, decision_id
from memory_decisions where run_id = $run and counted and failed_gate in ('efficiency', 'quality', 'complexity')
order by missing limit 20
