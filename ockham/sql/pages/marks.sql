-- What happened once: evaluations accepted, anchors moved, rollbacks, resumes?
-- run: run ID
select iter_num as iter, 'accepted checkpoint' as what, snapshot_id as which from checkpoints where run_id = $run and kind = 'accepted' and not superseded
union all select iter_num, 'anchor moved', '' from events where run_id = $run and type = 'ockham.anchor.consolidated.v1' and not superseded
union all select iter_num, 'rollback', decision_id from rollbacks where run_id = $run and not superseded
union all select (data ->> '$.iter_num')::bigint, 'resumed', 'attempt ' || attempt from events where run_id = $run and type = 'ockham.run.resumed.v1'
order by iter
