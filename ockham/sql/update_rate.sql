-- How does the update rate change over a run, in 20 equal parts?
with numbered as (
    select run_id, iter_num, updated, ntile(20) over (partition by run_id order by iter_num) as part
    from contexts where hook = 'batch' and not superseded and signed and rank = 0 and isfinite(task_loss)
)
select run_id, part, min(iter_num) as from_iter, max(iter_num) as to_iter, avg(updated::int) as update_rate, count(*) as batches
from numbered group by all order by run_id, part
