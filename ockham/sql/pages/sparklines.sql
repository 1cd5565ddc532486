-- How did update rate, loss and drift change over a run, in 30 equal parts?
-- run: run ID
with sized as (
    select greatest(1, ceil((max(iter_num) + 1) / 30.0))::bigint as width from current_batches where run_id = $run
), drifts as (
    select iter_num // width as part, max(complexity_cost) filter (isfinite(complexity_cost)) as drift
    from measured_gauges, sized where run_id = $run and hook = 'batch' group by 1
), parts as (
    select iter_num // width as part, avg(updated::int) filter (finite) as update_rate, avg(task_loss) filter (finite) as loss
    from current_batches, sized where run_id = $run group by 1
)
select p.part, p.update_rate, p.loss, d.drift from parts p left join drifts d using (part) order by p.part
