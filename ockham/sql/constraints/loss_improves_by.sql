-- text: The validation loss at the last common evaluation is more than {value} below the baseline's
-- use: the change must improve the model at the same iteration
-- op: >
-- threshold: value
-- unit: ratio
-- min_n: 1
-- parameter value: share; relative improvement; example 0.02
with points as (
    select run_id, iter_num, arg_max(val_loss, (attempt, sequence)) as loss
    from evaluations where val_loss is not null and counted and iter_num > 0 and run_id in ($baseline, $candidate)
    group by run_id, iter_num
)
select 1 - c.loss / b.loss as value, count(*) over () as n
from points c join points b using (iter_num)
where c.run_id = $candidate and b.run_id = $baseline
order by iter_num desc limit 1
