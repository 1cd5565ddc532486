-- What did each plugin do with this batch?
-- run: run ID
-- iter: iteration
-- on_rank: rank whose decisions are listed; all ranks decide the same
select hook, plugin, action, reason_code, observed, threshold,
    list_transform(changes, lambda c: c.field || ': ' || coalesce(format('{:.5g}', try_cast(c.before as double)), c.before)
        || ' -> ' || coalesce(format('{:.5g}', try_cast(c.after as double)), c.after)) as changes, shadow, micro_step,
    sequence, decision_id
from decisions where run_id = $run and iter_num = $iter and not superseded and signed and rank = $on_rank order by sequence
