-- How do the learning rates that trained differ from the scheduled ones, in 20 equal parts of the measured steps?
with steps as (
    -- The step has the learning rate that the optimizer used, of its first parameter group.
    select run_id, iter_num, base_learning_rate as scheduled,
        applied_learning_rates[1] as trained
    from current_batches where applied_update and applied_learning_rates[1] is not null
), numbered as (
    select *, ntile(20) over (partition by run_id order by iter_num) as part from steps
)
select run_id, part, min(iter_num) as from_iter, max(iter_num) as to_iter, count(*) as steps,
    avg(scheduled) as scheduled, avg(trained) as trained,
    min(trained / nullif(scheduled, 0)) as least_factor, median(trained / nullif(scheduled, 0)) as median_factor,
    max(trained / nullif(scheduled, 0)) as greatest_factor
from numbered group by run_id, part order by run_id, part
