-- Why was a batch skipped or not skipped?
-- run: run ID
-- iter: iteration
select attempt, rank, hook, plugin, action, reason_code, observed, threshold, margin, decision_id
from decisions where run_id = $run and iter_num = $iter and signed order by attempt, rank, sequence
