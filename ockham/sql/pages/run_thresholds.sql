-- What would the update rate have been at other fixed thresholds, over the same losses?
-- run: run ID
with known as (
    select observed from gate_decisions where run_id = $run and counted and isfinite(observed)
), span as (select quantile_cont(observed, 0.01) as low, quantile_cont(observed, 0.99) as high from known),
steps as (select low + (high - low) * i / 30 as t from span, range(31) r(i))
select t as threshold, avg((observed >= t)::int) as update_rate, count(*) as batches,
    (1 - avg((observed >= t)::int)) * any_value(b.backward_over_forward / (1 + b.backward_over_forward)) as compute_saved
from known, steps, (select backward_over_forward from run_summary where run_id = $run) b group by t order by t
