-- Why was a batch skipped or not skipped? Decisions of all attempts and ranks, also of plugins in shadow.
-- run: run ID
-- iter: iteration
select attempt, rank, micro_step, hook, plugin, action, reason_code, observed, threshold, margin, shadow, superseded, decision_id
from decisions where run_id = $run and iter_num = $iter and signed order by attempt, rank, sequence
