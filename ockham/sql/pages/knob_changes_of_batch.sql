-- How did each plugin change this knob in this batch, in the order of the chain?
-- run: run ID
-- iter: iteration
-- field: name of the knob
with changed as (
    select sequence, plugin || ' ' || action as who, before_value as before, after_value as after
    from hyperparameter_changes
    where run_id = $run and iter_num = $iter and field = $field and acting and micro_step = 0
        and before_value is not null and after_value is not null
), initial as (select min_by(before, sequence) as value from changed)
select 0 as step, 'before the chain' as who, value as before, value as after from initial where value is not null
union all select row_number() over (order by sequence), who, before, after from changed order by step
