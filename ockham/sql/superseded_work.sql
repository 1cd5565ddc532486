-- What did each resume supersede? Work that a later attempt did again, of rank 0.
with resumes as (
    select run_id, attempt, (data ->> '$.iter_num')::bigint as iter_num
    from events where type = 'ockham.run.resumed.v1' and signed and rank = 0
), cuts as (
    select e.run_id, e.attempt, min(r.iter_num) as resumed_at, arg_min(r.attempt, (r.iter_num, r.attempt)) as resumed_by
    from (select distinct run_id, attempt from events) e
    join resumes r on r.run_id = e.run_id and r.attempt > e.attempt group by e.run_id, e.attempt
), batches as (
    select run_id, attempt, count(*) as batches, min(iter_num) as from_iter, max(iter_num) as to_iter
    from contexts where hook = 'batch' and superseded and signed and rank = 0 group by run_id, attempt
), timed as (
    select run_id, attempt, sum(e.value) as seconds
    from (select run_id, attempt, unnest(map_entries(seconds)) as e from contexts
        where hook = 'batch' and superseded and signed and rank = 0)
    where isfinite(e.value) group by run_id, attempt
), made as (
    select run_id, attempt, count(*) as decisions,
        count(*) filter (where action = 'ACCEPT' and hook = 'on_evaluate' and not shadow) as accepted
    from decisions where superseded and signed and rank = 0 group by run_id, attempt
)
select b.run_id, b.attempt, c.resumed_by, c.resumed_at, b.from_iter, b.to_iter, b.batches, coalesce(m.decisions, 0) as decisions,
    coalesce(m.accepted, 0) as accepted, coalesce(t.seconds, 0) as seconds
from batches b join cuts c using (run_id, attempt) left join made m using (run_id, attempt) left join timed t using (run_id, attempt)
order by b.run_id, b.attempt
