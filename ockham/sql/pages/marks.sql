-- What happened once: evaluations accepted, anchors moved, rollbacks, resumes, losses that are not finite?
-- run: run ID
-- low: first iteration
-- high: last iteration
with all_marks as (
    select iter_num as iter, 'accepted checkpoint' as what, snapshot_id as which from checkpoints where run_id = $run and kind = 'accepted' and not superseded
    union all select iter_num, 'anchor moved', '' from events where run_id = $run and type = 'ockham.anchor.consolidated.v1' and not superseded
    union all select iter_num, 'rollback', decision_id from rollbacks where run_id = $run and not superseded
    union all select (data ->> '$.iter_num')::bigint, 'resumed', 'attempt ' || attempt from events where run_id = $run and type = 'ockham.run.resumed.v1'
    union all select iter_num, 'not finite', '' from contexts where run_id = $run and hook = 'batch' and not superseded and rank = 0 and not isfinite(task_loss)
)
select * from all_marks where iter between $low and $high order by iter limit 400
