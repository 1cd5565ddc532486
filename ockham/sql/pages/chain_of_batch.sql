-- What did each plugin do with this batch?
-- run: run ID
-- iter: iteration
select hook, plugin, action, reason_code, observed, threshold,
    list_transform(changes, lambda c: c.field || ': ' || c.before || ' -> ' || c.after) as changes, shadow, micro_step,
    sequence, decision_id
from decisions where run_id = $run and iter_num = $iter and not superseded and rank = 0 order by sequence
