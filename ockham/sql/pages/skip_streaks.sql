-- Which were the longest sequences of skipped batches?
-- run: run ID
with marked as (
    select iter_num, updated, sum(updated::int) over (order by iter_num, micro_step) as streak
    from current_batches where run_id = $run
)
select min(iter_num) as from_iter, max(iter_num) as to_iter, count(*) as skipped_batches
from marked where not updated group by streak order by skipped_batches desc, from_iter limit 10
