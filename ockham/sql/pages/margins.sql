-- How close were the gate's verdicts?
-- run: run ID
with m as (select margin, updated from gate_decisions where run_id = $run and not superseded and isfinite(margin)),
    s as (select greatest((quantile_cont(margin, 0.99) - quantile_cont(margin, 0.01)) / 40, 1e-9) as width from m)
select floor(margin / width) * width as margin, updated, count(*) as batches, min(width) as width
from m, s group by all order by margin
