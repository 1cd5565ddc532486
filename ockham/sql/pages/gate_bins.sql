-- Does the update rate stay in its band?
-- run: run ID
with numbered as (
    -- With fewer than 25 batches per bin the rate is not meaningful.
    select iter_num, updated, row_number() over (order by iter_num, micro_step) - 1 as place,
        greatest(25, ceil(count(*) over () / 40.0))::bigint as width
    from current_batches where run_id = $run and finite
), each as (
    select place // width as part, min(iter_num) as iter, max(iter_num) as to_iter, count(*) as n, avg(updated::int) as rate from numbered group by 1
)
select iter, to_iter, n, rate,
    greatest(0.0, (rate + 1.9208 / n - 1.96 * sqrt((rate * (1 - rate) + 0.9604 / n) / n)) / (1 + 3.8416 / n)) as low,
    least(1.0, (rate + 1.9208 / n + 1.96 * sqrt((rate * (1 - rate) + 0.9604 / n) / n)) / (1 + 3.8416 / n)) as high
from each order by iter
