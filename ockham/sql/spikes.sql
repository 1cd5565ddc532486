-- What were the worst spikes, and which batches caused them? The 10 largest losses and gradient norms of each run, as multiples of the median of up to 50 values before.
with observed as (
    select run_id, 'loss' as kind, iter_num, micro_step, task_loss as value, updated, data_position, data_digest
    from current_batches where finite
    union all
    select b.run_id, 'gradient norm', b.iter_num, b.micro_step, g.grad_norm, b.updated, b.data_position, b.data_digest
    from current_batches b join measured_gauges g using (event_id) where isfinite(g.grad_norm)
), compared as (
    select *, median(value) over earlier as usual, count(*) over earlier as n from observed
    window earlier as (partition by run_id, kind order by iter_num, micro_step rows between 50 preceding and 1 preceding)
), ranked as (
    -- With fewer than 10 values before, the median is not meaningful.
    select *, value / usual as times, row_number() over (partition by run_id, kind order by value / usual desc, iter_num, micro_step) as place
    from compared where n >= 10 and usual > 0
)
select run_id, kind, place, iter_num, micro_step, value, usual, times, updated, data_position, data_digest
from ranked where place <= 10 order by run_id, kind, place
