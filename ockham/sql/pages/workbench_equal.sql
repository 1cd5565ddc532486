-- How do runs compare after the same length, and whose savings count?
-- runs: IDs of the runs
-- baseline: ID of the run whose loss sets the quality floor, or empty
-- margin: added to the loss of the baseline, nats/token
-- basis: iterations or tokens
with points as (
    select run_id, val_loss, iter_num, case when $basis = 'tokens' then tokens_seen else iter_num end as position
    from contexts
    where hook = 'on_evaluate' and counted and isfinite(val_loss) and list_contains($runs::varchar[], run_id)
), common as (
    select min(last) as last from (select max(position) as last from points group by run_id)
), equal as (
    select run_id, min(val_loss) as equal_loss, max(iter_num) as equal_iter
    from points, common where position <= last group by run_id
), spent as (
    select c.run_id, count(*) as batches, count(*) filter (c.updated) as updates
    from current_batches c join equal e using (run_id) where c.iter_num <= e.equal_iter group by c.run_id
), floor as (
    select e.equal_loss + $margin as loss, r.data_sha256 from equal e join runs r using (run_id) where e.run_id = $baseline
)
select r.run_id, r.policy, r.data, (select last from common) as equal_length, e.equal_loss, s.last_iter,
    p.batches + p.updates * s.backward_over_forward as forward_passes, f.loss as quality_floor,
    case
        when r.run_id = $baseline then 'baseline'
        when f.loss is null then 'no quality floor'
        when r.data_sha256 is distinct from f.data_sha256 or r.data_sha256 is null then 'not comparable: other or unknown data'
        when e.equal_loss is null then 'not comparable: no loss at this length'
        when e.equal_loss > f.loss then 'does not count: above the quality floor'
        when s.compute_saved is null then 'not known'
        else 'counts'
    end as savings,
    s.compute_saved, s.compute_saved_low, s.compute_saved_high, r.data_sha256
from runs r join run_summary s using (run_id) left join equal e using (run_id) left join spent p using (run_id) left join floor f on true
where list_contains($runs::varchar[], r.run_id)
order by e.equal_loss nulls last, r.run_id
