-- Which single events happened: accepted checkpoints, moved anchors, rollbacks, resumes, adapters, people, non-finite losses? With more than 40 events of a kind, only every 40th part is listed.
-- run: run ID
-- low: first iteration
-- high: last iteration
with all_marks as (
    select iter_num as iter, 'accepted' as what, snapshot_id as which from checkpoints where run_id = $run and kind = 'accepted' and counted
    union all select iter_num, 'anchor moved', '' from events where run_id = $run and type = 'ockham.anchor.consolidated.v1' and counted
    union all select iter_num, 'rollback', decision_id from rollbacks where run_id = $run and counted
    union all select iter_num, 'data skipped', 'positions ' || first_position || ' to ' || last_position from skipped_data where run_id = $run and counted
    union all select (data ->> '$.iter_num')::bigint, 'resumed', 'attempt ' || attempt from events where run_id = $run and type = 'ockham.run.resumed.v1' and signed and "rank" = 0
    -- The adapter is disabled and enabled at every evaluation. Listed are the first time and each revert that failed.
    union all select min(iter_num), 'adapter enabled', any_value(data ->> '$.added_params') || ' parameters' from events where run_id = $run and type = 'ockham.adapter.enabled.v1' and counted group by attempt
    union all select iter_num, 'revert failed', 'weights differ from those before' from events where run_id = $run and type = 'ockham.adapter.reverted.v1' and not (data ->> '$.identical')::boolean and counted
    union all select iter_num, 'ranks differ', 'rank ' || "rank" from events where run_id = $run and type = 'ockham.rank.diverged.v1' and signed
    union all select iter_num, 'person', kind || ' by ' || person || ': ' || reason from people where run_id = $run and iter_num is not null and kind <> 'request.refused' and counted
    union all select iter_num, 'not finite', '' from current_batches where run_id = $run and not finite
)
select iter, what, which, 1 as times from (select *, count(*) over (partition by what) as among from all_marks where iter between $low and $high)
where among <= 40
union all
select min(iter), what, count(*)::varchar || ' events up to iteration ' || max(iter), count(*) from
    (select *, count(*) over (partition by what) as among from all_marks where iter between $low and $high)
where among > 40 group by what, (iter - $low) * 40 // ($high - $low + 1) order by 1, 2
