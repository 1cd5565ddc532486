-- What did an accepted checkpoint cost, in batches, steps, seconds and megabytes? Superseded work is not counted.
with batches as (
    select run_id, count(*) as batches from current_batches group by run_id
), steps as (
    select run_id, count(*) filter (where stepped) as optimizer_steps from current_steps group by run_id
), timed as (
    select run_id, sum(e.value) as seconds
    from (select run_id, unnest(map_entries(seconds)) as e from current_batches) where isfinite(e.value) group by run_id
), evaluated as (
    select run_id, count(*) as evaluations, sum(duration_seconds) as seconds
    from evaluations where counted group by run_id
), accepted as (
    select run_id, count(*) as accepted from memory_decisions where acting and accepted group by run_id
), saved as (
    select run_id, sum(megabytes) as megabytes from checkpoints where counted and kind = 'accepted' group by run_id
)
select b.run_id, coalesce(a.accepted, 0) as accepted, coalesce(v.evaluations, 0) as evaluations, b.batches, p.optimizer_steps,
    coalesce(t.seconds, 0) + coalesce(v.seconds, 0) as seconds, coalesce(s.megabytes, 0) as megabytes,
    b.batches / nullif(a.accepted, 0)::double as batches_each, p.optimizer_steps / nullif(a.accepted, 0)::double as steps_each,
    (coalesce(t.seconds, 0) + coalesce(v.seconds, 0)) / nullif(a.accepted, 0) as seconds_each,
    s.megabytes / nullif(a.accepted, 0) as megabytes_each
from batches b join steps p using (run_id) left join timed t using (run_id) left join evaluated v using (run_id)
left join accepted a using (run_id) left join saved s using (run_id) order by b.run_id
