-- Where did the limiter act on more than half of the batches? In windows of 100 iterations; micro-batches count.
with windows as (
    select run_id, iter_num // 100 * 100 as from_iter, count(*) as batches from current_batches group by all
), hits as (
    select run_id, reason_code, iter_num // 100 * 100 as from_iter, count(distinct (iter_num, micro_step)) as hits,
        max(overshoot) filter (where isfinite(overshoot)) as worst
    from limiter_decisions where acting and hook in ('on_batch_start', 'on_gradients', 'on_batch_end') group by all
)
select h.run_id, h.reason_code, h.from_iter, w.batches, h.hits, h.hits / w.batches::double as share, h.worst
from hits h join windows w using (run_id, from_iter)
where h.hits * 2 > w.batches order by h.hits desc, h.run_id, h.from_iter, h.reason_code
