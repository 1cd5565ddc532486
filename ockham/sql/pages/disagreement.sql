-- On which common batches did two runs decide differently?
-- run: ID of the first run
-- other: ID of the second run
with a as (select iter_num, micro_step, updated from current_batches where run_id = $run),
    b as (select iter_num, micro_step, updated from current_batches where run_id = $other)
select case when a.updated then 'updated' else 'skipped' end as this_run, case when b.updated then 'updated' else 'skipped' end as other_run,
    count(*) as batches, count(*) / sum(count(*)) over () as share, min(iter_num) as first_iter
from a join b using (iter_num, micro_step) group by all order by batches desc
