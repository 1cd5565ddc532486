-- What was decided last?
-- run: run ID
-- low: first iteration
-- high: last iteration
select iter_num, plugin, action, reason_code, observed, threshold, sequence, decision_id
from decisions where run_id = $run and not superseded and iter_num between $low and $high
order by attempt desc, sequence desc limit 100
