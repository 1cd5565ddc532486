-- How does the update rate change over a run, in 20 equal parts of its finite batches? Micro-batches count.
with numbered as (
    select run_id, iter_num, contributed, ntile(20) over (partition by run_id order by iter_num, micro_step) as part
    from current_batches where finite
)
select run_id, part, min(iter_num) as from_iter, max(iter_num) as to_iter, avg(contributed::int) as update_rate, count(*) as batches
from numbered group by all order by run_id, part
