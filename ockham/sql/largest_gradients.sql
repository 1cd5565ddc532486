-- Which steps had the largest gradient norms? The 20 largest finite measured norms of each run, before clipping.
with norms as (
    select b.run_id, b.iter_num, b.micro_step, g.grad_norm, b.grad_clip, b.clipped_grad_norm
    from current_batches b join measured_gauges g using (event_id) where g.grad_norm is not null
), counts as (
    select run_id, count(*) as measured, count(*) filter (where not isfinite(grad_norm)) as nonfinite
    from norms group by run_id
), ranked as (
    select *, row_number() over (partition by run_id order by grad_norm desc, iter_num) as place
    from norms where isfinite(grad_norm)
)
select r.run_id, r.place, r.iter_num, r.micro_step, r.grad_norm, r.grad_clip, r.clipped_grad_norm, c.measured, c.nonfinite
from ranked r join counts c using (run_id) where r.place <= 20 order by r.run_id, r.place
