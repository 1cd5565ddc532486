-- Which plugins pull one knob both ways in the same batch? Plugins in shadow are not counted.
with pulls as (
    select run_id, attempt, iter_num, micro_step, sequence, plugin, field, before_value, after_value
    from hyperparameter_changes where acting and hook in ('on_batch_start', 'on_gradients', 'on_batch_end') and before_value <> after_value
), pairs as (
    select u.run_id, u.field, u.plugin as raised_by, d.plugin as lowered_by, u.attempt, u.iter_num, u.micro_step,
        u.after_value / nullif(u.before_value, 0) as up_factor, d.after_value / nullif(d.before_value, 0) as down_factor
    from pulls u join pulls d on d.run_id = u.run_id and d.attempt = u.attempt and d.iter_num = u.iter_num
        and d.micro_step = u.micro_step and d.field = u.field
    where u.after_value > u.before_value and d.after_value < d.before_value
)
select run_id, field, raised_by, lowered_by, count(distinct (attempt, iter_num, micro_step)) as batches,
    min(iter_num) as first_iter, max(iter_num) as last_iter, median(up_factor) as median_up_factor,
    median(down_factor) as median_down_factor
from pairs group by run_id, field, raised_by, lowered_by order by run_id, batches desc, field, raised_by, lowered_by
