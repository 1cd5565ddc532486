-- Where did the limiter act on more than half of its occasions? In windows of 100 iterations. A cap before the step has one in each micro-batch that may update, clipping and projection have one in each step that measured a gradient norm or drift.
with occasions as (
    select run_id, 'on_batch_start' as hook, iter_num // 100 * 100 as from_iter, count(*) as occasions
    from current_batches where updated group by all
    union all select run_id, 'on_batch_end', iter_num // 100 * 100, count(distinct iter_num)
    from measured_gauges where hook = 'batch' and coalesce(grad_norm, complexity_cost, drift_raw) is not null group by all
), hits as (
    select run_id, hook, reason_code, iter_num // 100 * 100 as from_iter,
        count(distinct (iter_num, case when hook = 'on_batch_start' then micro_step end)) as hits,
        max(overshoot) filter (where isfinite(overshoot)) as worst
    from limiter_decisions where acting and hook in ('on_batch_start', 'on_gradients', 'on_batch_end') group by all
)
select h.run_id, h.reason_code, h.hook, h.from_iter, o.occasions, h.hits, h.hits / o.occasions::double as share, h.worst
from hits h join occasions o using (run_id, hook, from_iter)
where h.hits * 2 > o.occasions order by h.hits desc, h.run_id, h.from_iter, h.reason_code
