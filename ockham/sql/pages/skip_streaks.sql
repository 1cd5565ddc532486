-- Which were the longest sequences of skipped batches?
-- run: run ID
with marked as (
    select iter_num, updated, sum(updated::int) over (order by iter_num, micro_step) as streak
    from contexts where run_id = $run and hook = 'batch' and not superseded and signed and rank = 0
)
select min(iter_num) as from_iter, max(iter_num) as to_iter, count(*) as skips
from marked where not updated group by streak order by skips desc, from_iter limit 10
