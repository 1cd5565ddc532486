-- Which are the longest streaks of batches without an update? The 20 longest of each run; micro-batches count.
with numbered as (
    select run_id, iter_num, micro_step, task_loss, finite, contributed,
        row_number() over (partition by run_id order by iter_num, micro_step)
            - row_number() over (partition by run_id, contributed order by iter_num, micro_step) as streak
    from current_batches
), streaks as (
    select run_id, min(iter_num) as from_iter, arg_min(micro_step, (iter_num, micro_step)) as from_micro_step,
        max(iter_num) as to_iter, count(*) as batches,
        avg(task_loss) filter (where finite) as mean_loss, count(*) filter (where not finite) as nonfinite_batches
    from numbered where not contributed group by run_id, streak
), ranked as (
    select *, row_number() over (partition by run_id order by batches desc, from_iter, from_micro_step) as place from streaks
)
select run_id, place, batches, from_iter, from_micro_step, to_iter, mean_loss, nonfinite_batches
from ranked where place <= 20 order by run_id, place
