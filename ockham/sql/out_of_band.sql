-- Where is the update rate outside the band of the policy? In windows of 100 iterations with 100 finite batches.
with bands as (
    select run_id, policy_revision, (content -> '$.targets.update_rate[0]')::double as low,
        (content -> '$.targets.update_rate[1]')::double as high
    from policies
), binned as (
    select run_id, policy_revision, iter_num // 100 * 100 as from_iter, avg(contributed::int) as update_rate, count(*) as batches
    from current_batches where finite group by all
)
select b.run_id, b.from_iter, b.update_rate, b.batches, low, high
from binned b join bands using (run_id, policy_revision)
where b.batches >= 100 and not b.update_rate between low and high order by b.run_id, b.from_iter
