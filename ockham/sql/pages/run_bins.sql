-- How did loss, threshold, learning rate, lambda and drift change?
-- run: run ID
-- low: first iteration
-- high: last iteration
with sized as (select greatest(1, ceil(($high - $low + 1) / 500.0))::bigint as width),
limits as (
    select iter_num // width * width as iter, median(threshold) filter (isfinite(threshold) and reason_code <> 'WARMUP') as threshold
    from gate_decisions, sized where run_id = $run and not superseded and signed and rank = 0 and iter_num between $low and $high group by 1
),
binned as (
    select iter_num // width * width as iter, min(task_loss) filter (isfinite(task_loss)) as loss_low,
        median(task_loss) filter (isfinite(task_loss)) as loss, max(task_loss) filter (isfinite(task_loss)) as loss_high,
        count(*) filter (not isfinite(task_loss)) as nonfinite, avg(updated::int) filter (isfinite(task_loss)) as update_rate, count(*) as batches,
        median(used_rate) as learning_rate, min(used_rate) as learning_rate_low, max(used_rate) as learning_rate_high,
        median(base_learning_rate) as scheduled_rate, median(lambda_ockham) filter (stepped) as lambda,
        median(base_lambda_ockham) as given_lambda,
        median(complexity_cost) filter (list_contains(measured_gauges, 'complexity_cost')) as drift,
        max(complexity_cost) filter (list_contains(measured_gauges, 'complexity_cost')) as drift_high,
        median(grad_norm) filter (list_contains(measured_gauges, 'grad_norm')) as grad_norm,
        max(grad_norm) filter (list_contains(measured_gauges, 'grad_norm')) as grad_norm_high
    from (
        -- A skipped batch used no learning rate. If nothing measured the step, the verdict is used.
        select *, coalesce(applied_update, updated) as stepped,
            case when stepped then coalesce(applied_learning_rates[1], learning_rate) end as used_rate
        from contexts
    ), sized
    where run_id = $run and hook = 'batch' and not superseded and signed and rank = 0 and iter_num between $low and $high
    group by 1
)
select b.*, l.threshold from binned b left join limits l using (iter) order by iter
