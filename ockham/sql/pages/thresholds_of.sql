-- What would the update rate have been at other fixed thresholds, over the same losses?
-- run: run ID
with known as (
    select observed from gate_decisions where run_id = $run and not superseded and isfinite(observed)
), span as (select quantile_cont(observed, 0.01) as low, quantile_cont(observed, 0.99) as high from known),
steps as (select low + (high - low) * i / 30 as t from span, range(31) r(i))
select t as threshold, avg((observed >= t)::int) as update_rate, count(*) as batches from known, steps group by t order by t
