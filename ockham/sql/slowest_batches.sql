-- Which batches took longest, and in which stage? The 20 slowest micro-batches of each run.
with stages as (
    select run_id, event_id, attempt, iter_num, micro_step, e.key as stage, e.value as seconds
    from (select run_id, event_id, attempt, iter_num, micro_step, unnest(map_entries(seconds)) as e from current_batches)
), batches as (
    select run_id, event_id, attempt, iter_num, micro_step, sum(seconds) as seconds, arg_max(stage, seconds) as slowest_stage,
        max(seconds) as stage_seconds
    from stages where isfinite(seconds) group by run_id, event_id, attempt, iter_num, micro_step
), medians as (
    select run_id, median(seconds) as median_seconds from batches group by run_id
), ranked as (
    select b.*, b.seconds / nullif(m.median_seconds, 0) as times_median,
        row_number() over (partition by b.run_id order by b.seconds desc, b.iter_num, b.micro_step) as place
    from batches b join medians m using (run_id)
)
select run_id, place, attempt, iter_num, micro_step, seconds, times_median, slowest_stage, stage_seconds
from ranked where place <= 20 order by run_id, place
