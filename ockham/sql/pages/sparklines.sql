-- How did update rate, loss and drift change over a run, in 30 equal parts?
-- run: run ID
with sized as (
    select greatest(1, ceil((max(iter_num) + 1) / 30.0))::bigint as width from contexts
    where run_id = $run and hook = 'batch' and not superseded and signed and rank = 0
)
select iter_num // width as part, avg(updated::int) filter (isfinite(task_loss)) as update_rate, avg(task_loss) filter (isfinite(task_loss)) as loss,
    max(complexity_cost) filter (isfinite(complexity_cost)) as drift
from contexts, sized where run_id = $run and hook = 'batch' and not superseded and signed and rank = 0 group by 1 order by 1
