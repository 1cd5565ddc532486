-- How did loss, threshold, learning rate, lambda and drift change?
-- run: run ID
-- low: first iteration
-- high: last iteration
with sized as (select greatest(1, ceil(($high - $low + 1) / 500.0))::bigint as width),
limits as (
    select iter_num // width * width as iter, median(threshold) filter (isfinite(threshold) and reason_code <> 'WARMUP') as threshold
    from gate_decisions, sized where run_id = $run and counted and iter_num between $low and $high group by 1
),
gauges as (
    select iter_num // width * width as iter, median(complexity_cost) as drift, max(complexity_cost) as drift_high,
        median(grad_norm) as grad_norm, max(grad_norm) as grad_norm_high
    from measured_gauges, sized where run_id = $run and hook = 'batch' and iter_num between $low and $high group by 1
),
binned as (
    select iter_num // width * width as iter, min(task_loss) filter (finite) as loss_low,
        median(task_loss) filter (finite) as loss, max(task_loss) filter (finite) as loss_high,
        count(*) filter (not finite) as nonfinite, avg(updated::int) filter (finite) as update_rate, count(*) as batches,
        median(used_rate) as learning_rate, min(used_rate) as learning_rate_low, max(used_rate) as learning_rate_high,
        median(base_learning_rate) as scheduled_rate, median(lambda_ockham) filter (stepped) as lambda,
        median(base_lambda_ockham) as given_lambda
    from (
        -- A skipped batch used no learning rate. If nothing measured the step, the verdict is used.
        select *, coalesce(applied_update, updated) as stepped,
            case when stepped then coalesce(applied_learning_rates[1], learning_rate) end as used_rate
        from current_batches where run_id = $run and iter_num between $low and $high
    ), sized group by 1
)
select b.*, g.drift, g.drift_high, g.grad_norm, g.grad_norm_high, l.threshold
from binned b left join gauges g using (iter) left join limits l using (iter) order by iter
