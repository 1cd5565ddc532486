-- What did each plugin do with this batch?
-- run: run ID
-- iter: iteration
select sequence, hook, plugin_order, plugin, shadow, action, reason_code, observed, threshold, decision_id,
    list_transform(changes, lambda c: c.field || ': ' || c.before || ' -> ' || c.after) as changes
from decisions where run_id = $run and iter_num = $iter and not superseded and rank = 0 order by sequence
