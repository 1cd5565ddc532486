-- What was decided last?
-- run: run ID
select sequence, iter_num, plugin, action, reason_code, observed, threshold, decision_id
from decisions where run_id = $run order by attempt desc, sequence desc limit 100
