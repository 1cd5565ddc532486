-- How close were the gate's verdicts? The outermost bars include all values beyond them.
-- run: run ID
with m as (select margin, updated from gate_decisions where run_id = $run and counted and isfinite(margin)),
    s as (select greatest((quantile_cont(margin, 0.995) - quantile_cont(margin, 0.005)) / 40, 1e-9) as width,
        quantile_cont(margin, 0.005) as low, quantile_cont(margin, 0.995) as high from m)
select floor(greatest(s.low, least(s.high, m.margin)) / s.width) * s.width as margin, m.updated, count(*) as batches, min(s.width) as width,
    min(m.margin) as lowest, max(m.margin) as highest
from m, s group by 1, m.updated order by 1, m.updated
