-- Where is the update rate outside the band of the policy?
with bands as (
    select run_id, policy_revision, (content -> '$.targets.update_rate[0]')::double as low,
        (content -> '$.targets.update_rate[1]')::double as high
    from policies
), binned as (
    select run_id, policy_revision, iter_num // 100 * 100 as from_iter, avg(updated::int) as update_rate, count(*) as batches
    from contexts where hook = 'batch' and not superseded and signed and rank = 0 and isfinite(task_loss) group by all
)
select b.run_id, b.from_iter, b.update_rate, b.batches, low, high
from binned b join bands using (run_id, policy_revision)
where b.batches >= 100 and not b.update_rate between low and high order by b.run_id, b.from_iter
